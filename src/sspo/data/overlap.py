"""Which texts occur in other texts, word for word or nearly.

"Nearly" is the rule by which the Qwen2 and Qwen2.5 reports (arXiv 2407.10671, 2412.15115) keep tests out
of training data. Without case and symbols, two texts share 13 words in a row, and their longest common
subsequence of words has at least 0.6 times the words of the shorter text. Shared words alone would also
flag the stock phrases of competition problems ("where m and n are relatively prime ...").
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from sspo.data.problems import Record
from sspo.rewards.typesetting import untypeset

RUN = 13
SHARE = 0.6

_WORD = re.compile(r"[^\W_]+")


def find_overlaps(
    texts: Sequence[str], references: Sequence[str]
) -> list[Literal["exact", "near"] | None]:
    """For each text whether it equals a reference, nearly equals one, or neither (None).

    Texts are equal if ``normalized`` makes them so. Texts of fewer than 13 words are never near.
    """
    exact = {normalized(text) for text in references}
    known = [words(text) for text in references]
    holders: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for number, reference in enumerate(known):
        for run in _runs(reference):
            holders[run].add(number)
    return [
        "exact" if normalized(text) in exact else _near(words(text), known, holders)
        for text in texts
    ]


def overlap(first: Sequence[Record], second: Sequence[Record]) -> list[str]:
    """The prompts that occur in both, as ``normalized`` writes them."""
    prompts = [{normalized(str(r["prompt"])) for r in records} for records in (first, second)]
    return sorted(prompts[0] & prompts[1])


def normalized(text: str) -> str:
    """A text without case, white space and the typesetting of formulas, which change no problem."""
    return "".join(untypeset(unicodedata.normalize("NFC", text).casefold()).split())


def words(text: str) -> list[str]:
    """The runs of letters and digits, in lower case; LaTeX commands count as words."""
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for j, other in enumerate(second, start=1):
            longest = diagonal + 1 if word == other else max(lengths[j], lengths[j - 1])
            diagonal, lengths[j] = lengths[j], longest
    return lengths[-1]


def _near(
    text: list[str], references: list[list[str]], holders: dict[tuple[str, ...], set[int]]
) -> Literal["near"] | None:
    candidates = set().union(*(holders.get(run, ()) for run in _runs(text)))
    for number in candidates:
        shorter = min(len(text), len(references[number]))
        if common_subsequence(text, references[number]) >= SHARE * shorter:
            return "near"
    return None


def _runs(text: list[str]) -> Iterable[tuple[str, ...]]:
    return (tuple(text[i : i + RUN]) for i in range(len(text) - RUN + 1))
