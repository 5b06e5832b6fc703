"""Typesetting: what changes the looks of a formula and nothing else."""

from __future__ import annotations

import re

_LOOKS = re.compile(r"\\(?:left|right|displaystyle)(?![a-z])|\\[,;:!]|(?<!\\)\$")


def untypeset(formula: str) -> str:
    r"""A formula without sizes, thin spaces and dollar signs, and with ``\frac`` for ``\dfrac``."""
    formula = _LOOKS.sub("", formula)
    return formula.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
