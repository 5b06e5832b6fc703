r"""What stands in a data set's answer column, as the text of a gold answer.

Every reader returns None for what is no answer, so that its row can be refused with its place. A missing
value is no answer, whatever a program has made of it on its way (``nan``, ``None``): a response could
state it and be right.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Callable
from decimal import Decimal

from sspo.rewards.answers import MARK

_WHOLE = re.compile(r"([+-]?[0-9]{1,18})(\.0+)?")
_DOLLAR = re.compile(r"(?<!\\)\$")
# What pandas, NumPy and Python write for a missing or infinite value, also for a list of none or one.
# An answer that is meant so is written \text{None} or \infty.
_MISSING = re.compile(r"\[?(?:[+-]?(?i:nan|inf)|None|null|NaT|<NA>)?\]?")
# What a program made of \b, \f, \v or \a when it took the backslash of \frac for an escape.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ANY_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_QUOTED_LIST = re.compile(r"(?:array\s*)?(?:[\[({]\s*)+[bru]?[\"']")


def plain_answer(value: object) -> str | None:
    r"""An answer as text without ``$``, with whole numbers plain (``025``, 25.0 -> 25); None for others."""
    value = unquoted_list(value)
    if isinstance(value, list):
        return plain_answer(value[0]) if len(value) == 1 else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and math.isfinite(value):
        value = format(Decimal(repr(value)), "f")  # 1e-05 is 0.00001
    text = " ".join(_DOLLAR.sub("", str(value)).split())
    if is_missing(text) or _CONTROL.search(str(value)):
        return None
    whole = _WHOLE.fullmatch(text)
    return str(int(whole[1])) if whole else text or None


def is_missing(text: str) -> bool:
    """Whether a text is what programs write for a missing or infinite value."""
    return _MISSING.fullmatch(text.strip()) is not None


def marked_answer(value: object) -> str | None:
    """The answer after GSM8K's last ``####``; None without one."""
    if not isinstance(value, str) or MARK not in value:
        return None
    return plain_answer(value.rpartition(MARK)[2])


def first_answer(value: object) -> str | None:
    """The first of several alternative answers, which a copy of Minerva lists."""
    value = unquoted_list(value)
    return plain_answer(value[0] if isinstance(value, list) and value else value)


def unquoted_list(value: object) -> object:
    r"""The list of texts that a string spells out as Python or JSON does: ``"['9.6\\n']"`` -> ``["9.6"]``.

    Other values are returned as they are. None stands for a list that cannot be read without a guess: of
    NumPy (``['3' '5']``), or with LaTeX whose backslashes would be escapes (``['\text{no}']``).
    """
    if not isinstance(value, str) or not _QUOTED_LIST.match(value.strip()):
        return value
    text = value.strip().replace("\n", r"\n")  # a line break inside the quotes
    for read in (json.loads, _python_list):
        found = _attempt(read, text)
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            items = [item.rstrip("\n") for item in found]
            return None if any(map(_ANY_CONTROL.search, items)) else items
    return None


def _attempt(read: Callable[[str], object], text: str) -> object:
    try:
        return read(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _python_list(text: str) -> object:
    """What a literal means, if it is written as Python itself writes it; None for others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of backslashes that escape nothing
        found = ast.literal_eval(text)
    return found if repr(found) == text else None
