"""The errors that stop a training run."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what was found."""


class NonFiniteError(RuntimeError):
    """A loss or a gradient norm is NaN or infinite; the message gives both."""
