"""How training stops when it cannot go on."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """Training cannot go on; the message names run, step and what was found."""


class NonFiniteError(RuntimeError):
    """A loss or a gradient norm that is NaN or infinite; the message gives both."""
