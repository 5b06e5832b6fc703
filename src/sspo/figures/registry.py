"""The function that makes each figure and table, as text: it is imported when it is asked for.

So an edit of a module remakes the figures of that module alone.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

FIGURES = {
    "f0_differences": "verdicts.draw_differences",
    "f1_gates": "gates.draw_gates",
    "f2_reward": "training.draw_reward",
    "f3_accuracy": "training.draw_accuracy",
    "f4_entropy": "training.draw_entropy",
    "f5_kl": "training.draw_kl",
    "f6_log_ratio": "training.draw_log_ratio",
    "f7_grad_norm": "training.draw_grad_norm",
    "f8_attenuation": "regimes.draw_doses",
    "f9_length": "training.draw_length",
    "f10_staleness": "regimes.draw_staleness",
    "f11_weights": "regimes.draw_weights",
    "f12_tuning": "regimes.draw_tuning",
    "f13_exact": "exact.draw_gradients",
    "f14_staleness": "exact.draw_staleness",
    "f15_gradient_mass": "regimes.draw_gradient_mass",
    "f16_verdicts": "verdicts.draw_verdicts",
    "f17_surface": "regimes.draw_surface",
}
TABLES = {
    "t1_benchmarks": "tables.tabulate_benchmarks",
    "t2_factorial": "tables.tabulate_factorial",
    "t3_tuning": "tables.tabulate_tuning",
    "t4_settings": "tables.tabulate_settings",
    "t5_outcomes": "tables.tabulate_outcomes",
}


def load(name: str) -> Callable:
    """The function of a figure or table: ``(frames, methods)`` -> matplotlib Figure or ``Table``."""
    function = {**FIGURES, **TABLES}[name].split(".")[1]
    return getattr(import_module(module_of(name)), function)


def module_of(name: str) -> str:
    """The dotted name of the module that makes a figure or table."""
    module = {**FIGURES, **TABLES}[name].split(".")[0]
    return f"sspo.figures.{module}"
