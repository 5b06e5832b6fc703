"""What of a formula is looks alone."""

from __future__ import annotations

import re

_LOOKS = re.compile(r"\\(?:left|right|displaystyle)(?![a-z])|\\[,;:!]|(?<!\\)\$")


def untypeset(formula: str) -> str:
    r"""A formula without what only sets its looks: sizes, thin spaces, dollar signs, ``\dfrac``."""
    formula = _LOOKS.sub("", formula)
    return formula.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
