"""Overlap of texts: what is a copy, what is nearly one, and what merely sounds alike."""

from __future__ import annotations

import itertools

import pytest

from sspo.data.overlap import common_subsequence, find_overlaps, normalized, overlap, words

STAMPS = (
    "Max bought stamps at the post office. Some of the stamps had a snowflake design, some had a "
    "truck design, and some had a rose design. Max bought 16 snowflake stamps. How many in all?"
)
OTHER_NUMBERS = STAMPS.replace("Max", "Bella").replace("16", "11")
STOCK_PHRASE = (
    "can be written in the form $\\frac{m}{n}$, where $m$ and $n$ are relatively prime positive "
    "integers. Find $m + n$."
)


@pytest.mark.parametrize(
    "copy",
    [
        r"Compute $\frac{1}{2} + \left( x \right)$.",
        r"compute $$\dfrac{1}{2} + (x)$$.",
        "Compute  $\\tfrac{1}{2}\n+\\!( x\\, )$.",
    ],
)
def test_typesetting_case_and_white_space_make_no_new_problem(copy):
    assert normalized(copy) == normalized(r"Compute $\frac{1}{2} + (x)$.")
    assert find_overlaps([copy], [r"Compute $\frac{1}{2} + (x)$."]) == ["exact"]


@pytest.mark.parametrize(
    "one, other",
    [
        ("What is 2 + 2?", "What is 2 - 2?"),
        ("What is $2^2$?", "What is $22$?"),
        ("What is 2²?", "What is 22?"),
        (r"How many cents are \$1?", r"How many cents are 1?"),
        (r"Show $a \leftarrow b$", r"Show $a arrow b$"),
    ],
)
def test_symbols_that_carry_meaning_keep_problems_apart(one, other):
    assert normalized(one) != normalized(other)
    assert find_overlaps([one], [other]) == [None]


def test_a_problem_with_other_names_and_numbers_is_near():
    assert find_overlaps([OTHER_NUMBERS, STAMPS], [STAMPS]) == ["near", "exact"]


def test_a_problem_inside_a_longer_text_is_near():
    longer = f"Here is a problem from last year. {STAMPS} Explain every step of your reasoning."
    assert find_overlaps([longer], [STAMPS]) == find_overlaps([STAMPS], [longer]) == ["near"]


def test_a_stock_phrase_alone_is_no_overlap():
    triangle = (
        "Let $ABC$ be a triangle inscribed in a circle whose tangents at $B$ and $C$ meet at $D$, and "
        f"let $AD$ meet the circle again at $P$. If $AB=5$, $BC=9$ and $AC=10$, $AP$ {STOCK_PHRASE}"
    )
    octagon = (
        "Each vertex of a regular octagon is colored either red or blue with equal chance. The "
        "probability that it can be rotated so that all blue vertices end up where there were "
        f"originally red vertices {STOCK_PHRASE}"
    )
    assert len(words(STOCK_PHRASE)) >= 13
    assert find_overlaps([octagon], [triangle]) == [None]


def test_scattered_common_words_are_no_overlap_however_many():
    text = " ".join(f"word{i}" for i in range(36))
    broken = " ".join(f"word{i}" if i % 12 else "gap" for i in range(36))
    assert common_subsequence(words(text), words(broken)) == 33
    assert find_overlaps([broken], [text]) == [None]


def test_short_texts_overlap_only_as_copies():
    short = "How many divisors does 196 have?"
    assert find_overlaps([short.replace("196", "198"), short.upper()], [short]) == [None, "exact"]


def test_nothing_overlaps_with_nothing():
    assert find_overlaps([], [STAMPS]) == []
    assert find_overlaps([STAMPS], []) == [None]


def test_words_have_neither_case_nor_symbols():
    assert words(r"Let $\Frac{m_1}{n}$ be “Max's” 1,000 café") == [
        "let", "frac", "m", "1", "n", "be", "max", "s", "1", "000", "café",
    ]  # fmt: skip


def test_common_subsequence_equals_the_longest_found_by_trying_all():
    def is_subsequence(part, whole):
        rest = iter(whole)
        return all(word in rest for word in part)

    for first, second in itertools.product(itertools.product("ab", repeat=4), repeat=2):
        parts = itertools.chain.from_iterable(itertools.combinations(first, n) for n in range(5))
        longest = max(len(part) for part in parts if is_subsequence(part, second))
        assert common_subsequence(first, second) == longest
    assert common_subsequence([], ["a"]) == common_subsequence(["a"], []) == 0


def test_overlap_ignores_case_and_white_space():
    first = [{"prompt": "What is 2 + 2?"}, {"prompt": "Straße"}, {"prompt": "only here"}]
    second = [{"prompt": " what IS\n2+2?\t"}, {"prompt": "STRASSE"}, {"prompt": "only there"}]
    assert overlap(first, second) == ["strasse", "whatis2+2?"]


def test_overlap_of_different_prompts_is_empty_and_symmetric():
    first, second = [{"prompt": "1+2="}], [{"prompt": "1+3="}, {"prompt": "1+2"}]
    assert overlap(first, second) == overlap(second, first) == []
    assert overlap(first, first) == ["1+2="]
