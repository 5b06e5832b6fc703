r"""The answer that a mathematical response states: in its last ``\boxed{...}``, or after ``####``.

Nothing here parses mathematics, and everything takes time linear in the length of the text.
"""

from __future__ import annotations

import re

from sspo.rewards.typesetting import unspaced, untypeset

BOX, MARK = "\\boxed", "####"

# What joins two boxes to one answer: $\\boxed{2}$ and $\\boxed{3}$.
_JOINT = re.compile(r"[\s$]*(?:[,;]|(?:,\s*)?(?:and|or)|\\text\s*\{\s*(?:and|or)\s*\})[\s$]*")
_OPENING = re.compile(r"\s*\{")
# An escaped brace, \{ or \}, groups nothing; of \\{ only the backslash is escaped.
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_MATH = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\$\$([^$]+)\$\$",
        r"\$([^$]+)\$",
        r"\\\(((?:(?!\\[()]).)*)\\\)",  # not \(3\), \(4\)
        r"\\\[((?:(?!\\[][]).)*)\\\]",
    )
]
_ABOUT = re.compile(r"^(?:\\approx|\\simeq|\\sim|\u2248)(?![a-zA-Z])\s*")
_SCIENTIFIC = re.compile(r"(?<![\w.])([+-]?[0-9]+(?:\.[0-9]+)?)[eE]([+-]?[0-9]+)(?![\w.])")
# As in 13\,535 and 13 535, which the parser takes for a product or for a mixed number.
_SEPARATOR = re.compile(r"\\[,;: ]|~|\{,\}|[ \u00a0\u202f]")
_THOUSANDS = re.compile(rf"[+-]?[0-9]{{1,3}}(?:(?:{_SEPARATOR.pattern})[0-9]{{3}})+(?:\.[0-9]+)?")
_INTEGER = re.compile(r"-?(?:[0-9]{1,18}|[1-9][0-9]{0,2}(?:,[0-9]{3}){1,5})")


def find_answer(text: str, limit: int) -> str | None:
    r"""The stated answer, or None without one.

    In a text with a ``\boxed{`` only the last one counts, wherever it stands, with those that a comma,
    ``and`` or ``or`` joins to it. In a text without a box the rest of the line after the last ``####``
    counts (GSM8K).

    Args:
        text: a response.
        limit: at most ``limit + 1`` characters of an answer are read and returned, so that the caller
            sees when it is too long.
    """
    box = _box_before(text, len(text))
    if box is not None:
        answer = _braced(text, box[1], limit)
        answer = answer and _joined(text, box[0], answer, limit)
    elif BOX not in text and MARK in text:
        start = text.rindex(MARK) + len(MARK)
        answer = text[start : start + limit + 1].partition("\n")[0]
    else:
        return None
    return (answer or "").strip() or None


def normalize(answer: str) -> str:
    """The answer without what carries no mathematics, and with 1e5 in LaTeX's form (e is Euler's there)."""
    answer = " ".join(answer.split()).removesuffix(".").rstrip()
    for pattern in _MATH:
        if match := pattern.fullmatch(answer):
            answer = match[1].strip()
    answer = _ABOUT.sub("", answer)
    if _THOUSANDS.fullmatch(answer):
        return _SEPARATOR.sub("", answer)
    return _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", answer)


def vote(answer: str) -> str:
    r"""The form in which answers vote: typesetting (``\dfrac12``) does not tell answers apart.

    Equal values that are written differently, such as 0.5 and a half, stay two answers.
    """
    answer = normalize(answer)
    value = as_integer(answer)
    return unspaced(untypeset(answer)) if value is None else str(value)


def as_integer(answer: str) -> int | None:
    """The value of a plain integer (``12``, ``-3``, ``025``, ``1,000``; ASCII digits), else None."""
    return int(answer.replace(",", "")) if _INTEGER.fullmatch(answer) else None


def _box_before(text: str, end: int) -> tuple[int, int] | None:
    """The index of the last box before ``end``, and the one at which its content starts."""
    while (place := text.rfind(BOX, 0, end)) >= 0:
        if match := _OPENING.match(text, place + len(BOX)):
            return place, match.end()
        end = place
    return None


def _joined(text: str, place: int, answer: str, limit: int) -> str:
    """The answer with the boxes that are joined to it from the left, without repeating one."""
    answers = [answer.strip()]
    while answers[0] and sum(map(len, answers)) <= limit and (box := _box_before(text, place)):
        content = _braced(text, box[1], limit) or ""
        end = box[1] + len(content) + 1  # behind the closing brace
        if not content.strip() or place - end > limit or not _JOINT.fullmatch(text, end, place):
            break
        place, answers = box[0], [content.strip(), *answers]
    return ", ".join(dict.fromkeys(answers))[: limit + 1]


def _braced(text: str, start: int, limit: int) -> str | None:
    """The text up to the brace that closes the group; None if the response ends before it."""
    depth, stop = 1, start + limit + 1
    for match in _BRACES.finditer(text, start, stop):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return text[start : match.start()]
    return text[start:stop] if len(text) >= stop else None
