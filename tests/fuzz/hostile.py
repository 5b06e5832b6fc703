"""Completions that a reward must survive: half-right, malformed, enormous, hostile. Seeded."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

PLAIN_GOLDS = ("12", "-3", "0", "1,000", "025", "70000000000000001")
LATEX_GOLDS = (
    r"\frac{14}{3}",
    r"\left( 3, \frac{\pi}{2} \right)",
    r"(-\infty, 2) \cup (3, \infty)",
    r"\{1\pm\sqrt{5},-2\}",
    r"x^5 - x^4 + 1",
    r"7.5 \times 10^{-7}",
    r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}",
    r"90^\circ",
    r"18\%",
    r"\text{east}",
    "y = 2x + 3",
    "1,-2",
    "4210_{5}",
)
BOMBS = (
    "9^{9^{9^9}}",
    "10^{10^{10}}",
    "(10^{10})!",
    "99999999!",
    "1e999999999",
    "10^{-999999999}",
    r"\binom{10^{9}}{10^{8}}",
    r"\prod_{k=1}^{10^{9}} k",
    r"\sum_{k=1}^{10^{9}} \frac{1}{k^{k}}",
    r"\int_0^1 \int_0^1 \sin(x^y) dx dy",
    r"\sqrt[10^{8}]{2}^{10^{12}}",
    "(x+y+z)^{5000} - (x-y)^{4999}",
    "((" * 200 + "1" + "))" * 200,
    "{" * 400 + "1" + "}" * 400,
    r"\sqrt{" * 120 + "2" + "}" * 120,
    r"\frac{" * 60 + "x" + "}{2}" * 60,
    "+".join(f"x_{{{i}}}^{{{i}}}" for i in range(70)),
    "1" + "+1" * 480,
    "2^" * 300 + "2",
    "-" * 900 + "1",
    "|" * 300 + "x" + "|" * 300,
    r"\begin{pmatrix}" + "1&" * 450 + r"1\end{pmatrix}",
    "1," * 490 + "1",
    "0." + "3" * 990,
    "9" * 990,
)
PIECES = (
    r"\boxed{", r"\boxed", r"\fbox{", r"\frac{", r"\frac", r"\sqrt{", r"\left(", r"\right)", r"\{", r"\}",
    "\\\\", r"\text{", r"\begin{pmatrix}", r"\end{pmatrix}", r"\cup", r"\infty", r"\pi", r"\pm", r"\times",
    r"\cdot", r"\%", "%", "$", "$$", r"\(", r"\)", r"\[", r"\]", "####", "#", "{", "}", "(", ")", "[", "]",
    "0", "1", "12", "-3", ".5", "1,000", "1e9", "x", "y", "e", "i", "=", "<", r"\le", ",", ";", ":", "!",
    "^", "_", "/", "*", "+", "-", ".", "|", "&", " ", "\n", "\t", "\0", "\uff11\uff12", "\u0663", "\u2212",
    "\u00bd", "\ud800", "\udfff", "\U0001f600", "\u202e", "\u00a0", "\u2028",
)  # fmt: skip
GIANTS = (
    "\\boxed{",
    "\\boxed",
    "\\boxed ",
    "{",
    "}",
    "#",
    "####",
    "\\",
    "\\{",
    "9",
    " ",
    "$",
    "a\n",
    "\0",
)


def completion(rng: random.Random, checker_share: float, bomb_share: float) -> tuple[str, str, str]:
    """(gold, text, finish reason).

    Args:
        rng: the source of everything random.
        checker_share: share of completions that need mathematics.
        bomb_share: share of completions that try to exhaust it.
    """
    finish = "length" if rng.random() < 0.03 else "stop"
    draw = rng.random()
    if draw < bomb_share:
        return rng.choice(LATEX_GOLDS), boxed(rng.choice(BOMBS)), "stop"
    if draw < bomb_share + checker_share:
        make = rng.choice((perturbed, soup_in_box, grammar_in_box, soup_as_gold))
        return (*make(rng), finish)
    gold = rng.choice(PLAIN_GOLDS)
    make = rng.choices(CHEAP, weights=CHEAP_WEIGHTS)[0]
    return gold, make(rng, gold), finish


def boxed(answer: str) -> str:
    return rf"so the answer is \boxed{{{answer}}}."


def soup(rng: random.Random, longest: int) -> str:
    return "".join(rng.choices(PIECES, k=rng.randint(0, longest)))


def perturbed(rng: random.Random) -> tuple[str, str]:
    """A gold answer, or one with a character replaced."""
    gold = rng.choice(LATEX_GOLDS)
    place = rng.randrange(len(gold))
    changed = gold[:place] + rng.choice(PIECES) + gold[place + 1 :]
    return gold, boxed(rng.choice((gold, changed, rng.choice(LATEX_GOLDS))))


def soup_in_box(rng: random.Random) -> tuple[str, str]:
    return rng.choice(LATEX_GOLDS + PLAIN_GOLDS), boxed(soup(rng, 12).replace("\\boxed", ""))


def soup_as_gold(rng: random.Random) -> tuple[str, str]:
    gold = soup(rng, 8)
    return gold, boxed(rng.choice((gold, "1")))


def grammar_in_box(rng: random.Random) -> tuple[str, str]:
    return rng.choice(LATEX_GOLDS), boxed(expression(rng, 3))


def expression(rng: random.Random, depth: int) -> str:
    """Well-formed LaTeX."""
    if depth == 0:
        return rng.choice(("x", "2", "-3", r"\pi", "0.5", str(rng.randrange(10**6))))
    first, second = expression(rng, depth - 1), expression(rng, depth - 1)
    form = rng.choice(
        (
            r"\frac{A}{B}",
            r"\sqrt{A}",
            "A+B",
            "A-B",
            r"A \cdot B",
            "A^{2}",
            "(A, B)",
            r"\{A, B\}",
            "[A, B)",
        )
    )
    return form.replace("A", first).replace("B", second)


def integer(rng: random.Random, gold: str) -> str:
    wrong = str(rng.randrange(-(10 ** rng.randint(1, 18)), 10 ** rng.randint(1, 18)))
    answer = rng.choice((gold, wrong))
    return rng.choice((boxed, "#### {}".format, "1+1=2\n####{} ".format, "#{}".format))(answer)


def without_answer(rng: random.Random, gold: str) -> str:
    return soup(rng, 30).replace("\\boxed", "").replace("#", "") + gold


def bytes_as_text(rng: random.Random, gold: str) -> str:
    raw = rng.randbytes(rng.randint(0, 60))
    return raw.decode(rng.choice(("latin-1", "utf-8", "utf-16")), "replace").replace("#", "")


def code_points(rng: random.Random, gold: str) -> str:
    """Any code points, surrogates too."""
    return "".join(chr(rng.randrange(sys.maxunicode + 1)) for _ in range(rng.randint(0, 40)))


def unclosed(rng: random.Random, gold: str) -> str:
    return boxed(gold) + r" or rather \boxed{" + "{" * rng.randint(0, 50) + gold


def nested(rng: random.Random, gold: str) -> str:
    depth = rng.randint(500, 5000)
    return rng.choice((boxed(boxed(gold)), boxed("{" * depth + gold + "}" * depth), "{" * depth))


def too_long(rng: random.Random, gold: str) -> str:
    return boxed(rng.choice(("9", "{}", "x+", r"\{")) * rng.randint(1001, 3000))


def giant(rng: random.Random, gold: str) -> str:
    """Up to a few million characters."""
    return rng.choice(GIANTS) * rng.randint(10**5, 10**6) + rng.choice(("", boxed(gold), "}" * 99))


Make = Callable[[random.Random, str], str]
CHEAP: tuple[Make, ...] = (
    integer,
    without_answer,
    bytes_as_text,
    code_points,
    unclosed,
    nested,
    too_long,
    giant,
)
CHEAP_WEIGHTS = (40.0, 15.0, 10.0, 10.0, 8.0, 8.0, 9.0, 0.01)
