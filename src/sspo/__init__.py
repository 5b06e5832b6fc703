"""Soft Sequence Policy Optimization (arXiv 2602.19327) and its baselines, as a reproducible pipeline."""

__version__ = "0.1.0"
