"""The error of unusable input, and its one line."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration or an input that cannot be used; the message names the place and the fix."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
