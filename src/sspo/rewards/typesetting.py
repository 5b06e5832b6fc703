"""Typesetting: what changes the looks of a formula and nothing else."""

from __future__ import annotations

import re

_SPACE = re.compile(r"(?<![0-9])\s+|\s+(?![0-9])")
_LOOKS = re.compile(r"\\(?:left|right|displaystyle)(?![a-z])|\\[,;:!]|(?<!\\)\$")


def untypeset(formula: str) -> str:
    r"""A formula without sizes, thin spaces and dollar signs, and with ``\frac`` for ``\dfrac``."""
    formula = _LOOKS.sub("", formula)
    return formula.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")


def unspaced(formula: str) -> str:
    """A formula without spaces, save those between two digits, as in 2 1/2."""
    return _SPACE.sub("", formula)
