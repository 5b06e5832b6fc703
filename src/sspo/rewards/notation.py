r"""From the text of an answer to formulas, words and units: one way to write what LaTeX writes in many.

An answer such as ``12\text{ boys and }8 \text{ girls}`` is a sequence of formulas and words. Only units of
a stated list are set aside; every other word stays and is compared. Nothing here computes.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from sspo.rewards.units import UNITS

_NUMERALS = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
BASES = {name: str(value) for value, name in enumerate(_NUMERALS.split(), start=2)}

_SIGNS = str.maketrans(
    {
        "\uff0c": ",", "\u3001": ",", "\u3002": ".", "\uff1a": ":", "\uff1b": ";",
        "\uff08": "(", "\uff09": ")", "\u2212": "-", "\u2013": "-", "\u2044": "/",
        "\u2032": "'", "\u2019": "'", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\ufe6a": "%",
        "\u00d7": r"\times ", "\u00f7": r"\div ", "\u00b7": r"\cdot ", "\u22c5": r"\cdot ",
        "\u00b1": r"\pm ", "\u2264": r"\leq ", "\u2265": r"\geq ", "\u2260": r"\neq ",
        "\u2248": r"\approx ", "\u2208": r"\in ", "\u222a": r"\cup ", "\u2229": r"\cap ",
        "\u2205": r"\emptyset ", "\u221e": r"\infty ", "\u211d": r"\mathbb{R}", "\u2026": r"\ldots ",
        "\u00b0": r"^\circ ", "\u03c0": r"\pi ", "\u03b1": r"\alpha ", "\u03b2": r"\beta ",
        "\u03b8": r"\theta ", "\u03bb": r"\lambda ", "\u03c9": r"\omega ", "\u03c6": r"\phi ",
        "\u20ac": r"\$", "\u00a3": r"\$", "\u00a5": r"\$",
    }
)  # fmt: skip
_SUPERSCRIPTS = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207f]+")
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_ROOT = re.compile("\u221a\\s*(?:([0-9.]+|[a-zA-Z])|(?=[({]))")

_LOOKS = re.compile(
    r"\\(?:left|right|[bB]ig{1,2}[lr]?|displaystyle|textstyle|limits|rm|bf|it)(?![a-zA-Z])"
    r"|\\[hv]space\*?\s*\{[^{}]*\}|\\(?:text)?colou?r\s*\{[^{}]*\}|`"
)
_BOLD = re.compile(r"^\s*\*\*(.*)\*\*\s*$", re.DOTALL)  # of Markdown
_POWER = re.compile(r"\*\*\s*(-?[0-9.]+|[a-zA-Z])")  # of Python
_SPACES = re.compile(r"\\(?:quad|qquad|enspace|thinspace)(?![a-zA-Z])|(?<!\\)(?:\\[,;: ]|~)")
_FONT = re.compile(
    r"\\(?:mathbf|mathit|mathsf|mathtt|mathcal|boldsymbol|bm|pmb|ensuremath|underline)\s*\{([^{}]*)\}"
)
_SYNONYMS = [
    (re.compile(rf"\\(?:{names})(?![a-zA-Z])"), latex)
    for names, latex in (
        ("[dtc]frac|[ns]icefrac|sfrac", r"\\frac"),
        ("varnothing", r"\\emptyset"),
        ("mid|[lr]?vert", "|"),
        ("degree", r"^\\circ"),
        ("le|leqslant|leqq", r"\\leq"),
        ("ge|geqslant|geqq", r"\\geq"),
        ("ne", r"\\neq"),
        ("dots[bcimo]?|cdots", r"\\ldots"),
        ("lbrace", r"\\{"),
        ("rbrace", r"\\}"),
        ("(?:long|left)*rightarrow|to", r"\\to"),
        ("imath", "i"),
        ("top", "T"),
        ("approx|simeq", "="),
    )
]
_ROW_SKIP = re.compile(r"\\\\\s*\[[^][{}\\]*\]")
_REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\\(?:overline|bar|dot)\s*\{?([0-9]+)\}?")
_MIXED = re.compile(r"(?<![0-9.,/^}])([0-9]+)\s+([0-9]+)/([0-9]+)(?![0-9.])")
_PRIMES = re.compile(r"([a-zA-Z])\s*((?:'|\^\{?\s*(?:\\prime\s*)+\}?)+)")
# The degrees, minutes and seconds of an angle, where more than degrees are stated.
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?(?=\s*[0-9])")
_MINUTES = re.compile(r"(?<=[0-9])\s*((?:'|\^\s*\{?\s*(?:\\prime\s*)+\}?)+)")
_TRANSPOSED = re.compile(r"\^\{?\s*T\s*\}?(?![a-zA-Z])")
_PERCENT = re.compile(r"(?<!\\)%")

_TEXT = re.compile(
    r"\\(?:text(?:rm|bf|it|sf|tt|normal)?|mbox|hbox|mathrm|operatorname)\*?\s*\{([^{}]*)\}"
)
_UPRIGHT = re.compile(r"\\(?:mathrm|operatorname)")
_FUNCTION_NAMES = """
arccos arccosh arccot arccsc arcsec arcsin arcsinh arctan arctanh cos cosh cot coth csc det exp gcd lcm lim
ln log max min sec sin sinh sqrt tan tanh infinity infty
"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_LONG_WORDS = re.compile(r"(?<![\\a-zA-Z0-9}_^])[A-Za-z]{4,}(?:[ -]+[A-Za-z]+)*")
_JOINED = re.compile(r"(?<![a-zA-Z])(?:,\s*)?(?:and|or)(?![a-zA-Z])")
_CLOCK = re.compile(r"(?<=[0-9])\s*([ap])\.?\s*m\b\.?", re.IGNORECASE)
_ALL_WORDS = re.compile(r"[A-Za-z]{2,}(?:[ ,'-]+[A-Za-z]+)+|[A-Za-z]{4,}")
_PUNCTUATION = re.compile(r"[\s.,;:()'\"$\\{}\[\]]|(?<=[a-z])-(?=[a-z])")
_BASE = re.compile(
    r"(?<![A-Za-z\\])([0-9][0-9A-Z]*|[A-F][0-9A-F]*[0-9][0-9A-F]*)"
    r"\s*_\s*(?:\{\s*(?:\\text\{([a-z ]*)\}|([0-9 ]+))\s*\}|([0-9]))"
)
_ORDINAL = re.compile(
    r"(?<=[0-9])\s*(?:\^\s*\{?\s*)?(?:\\text\{\s*(?:th|st|nd|rd)\s*\}|(?:th|st|nd|rd)(?![a-zA-Z]))\s*\}?"
)
_QUOTED = re.compile(r"\\text\{([^{}]*)\}")
_UNIT_RATIO = re.compile(r"\\frac\s*\{\s*\\text\{([^{}]*)\}\s*\}\s*\{\s*\\text\{([^{}]*)\}\s*\}")
_UNIT = re.compile(
    r"(?:\^\{?\\circ\s*\}?\s*(?:\\text\{\s*[CF]\s*\}|[CF])?"
    r"|(?:(?:\s|/|\\cdot|\^\{?-?[0-9]\}?)*\\text\{[^{}]*\}(?:\^\{?-?[0-9]\}?)?)+)"
    r"(?=\s*(?:$|[,;)\]]|\\\}))"
)
# A bare letter is a unit only after a plain number, as in 18 m; elsewhere it is a variable.
_BARE_UNIT = re.compile(
    r"(\s*[+-]?[0-9.,]+)\s+([a-zA-Z]{1,3}(?:\s*/\s*[a-z]{1,3})?)(\^\{?[23]\}?)?\s*"
)


@dataclass(frozen=True)
class Answer:
    """What an answer consists of.

    Attributes:
        formulas: the formulas, in order; empty ones are left out.
        words: the words between and around them, without spaces, punctuation and case.
        units: the units of the list, in order.
        bases: the bases of numerals such as 52_8, in order.
        text: all of it in that form, if the answer is words and nothing else.
    """

    formulas: tuple[str, ...]
    words: tuple[str, ...]
    units: tuple[str, ...]
    bases: tuple[int, ...]
    text: str | None


def read_answer(answer: str) -> Answer:
    """The parts of an answer's text."""
    latex = _plain(answer)
    latex = _UNIT_RATIO.sub(r"\\text{\1/\2}", _TEXT.sub(_classify, latex))
    if _ALL_WORDS.fullmatch(_strip(latex)):
        latex = rf"\text{{{_strip(latex)}}}"
    latex = _ORDINAL.sub("", _outside_text(latex))
    bases: list[int] = []
    latex = _BASE.sub(lambda match: _without_base(match, bases), latex)
    units: list[str] = []
    latex = _UNIT.sub(lambda match: _set_aside(match, units), latex)
    pieces = [str(piece) for piece in _QUOTED.split(_strip(latex))]
    formulas = tuple(filter(None, map(_strip, pieces[::2])))
    words = tuple(filter(None, map(letters, pieces[1::2])))
    whole = letters("".join(pieces)) if words and not formulas else None
    return Answer(formulas, words, tuple(units), tuple(bases), whole)


def balanced(latex: str) -> bool:
    """Whether every brace of a formula has its partner."""
    depth = 0
    for brace in re.findall(r"\\.|[{}]", latex):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0


def _plain(answer: str) -> str:
    """The answer in plain LaTeX: without fonts, sizes and spaces, one name for each sign."""
    latex = _BOLD.sub(r"\1", answer).translate(_SIGNS)
    latex = _POWER.sub(r"^{\1}", latex)
    latex = _SUPERSCRIPTS.sub(lambda m: f"^{{{unicodedata.normalize('NFKC', m[0])}}}", latex)
    latex = _VULGAR.sub(_vulgar, latex)
    latex = _ROOT.sub(lambda m: rf"\sqrt{{{m[1]}}}" if m[1] else r"\sqrt", latex)
    latex = _SPACES.sub(" ", _LOOKS.sub("", latex)).replace(r"\!", "")
    latex = _ROW_SKIP.sub(r"\\\\", _PERCENT.sub(r"\\%", latex)).replace("{,}", ",")
    for pattern, name in _SYNONYMS:
        latex = pattern.sub(name, latex)
    latex = _FONT.sub(r"{\1}", latex)
    latex = _REPEATING.sub(_repeating, latex)
    latex = _MIXED.sub(r"\1\\frac{\2}{\3}", latex)
    latex = _TRANSPOSED.sub(r"^{t_r}", _PRIMES.sub(_primed, latex))
    latex = _MINUTES.sub(_minutes, _DEGREES.sub(r"\\text{deg}", latex))
    return " ".join(latex.split())


def _classify(match: re.Match[str]) -> str:
    r"""Text mode as a formula where it is one (upright letters, and, percent), else as ``\text{...}``."""
    content = match[1].replace("~", " ").strip(" \\,")
    lower = content.lower()
    if not content:
        return " "
    if lower in ("and", "or"):
        return ","
    if lower in ("percent", "%"):
        return r"\%"
    if content.isalpha() and content.isascii():
        if lower in _FUNCTIONS:
            return rf"\{lower} "
        if content in ("i", "e", "d", "T") or (
            len(content) <= 2 and _UPRIGHT.match(match[0]) and UNITS.get(lower) is None
        ):
            return f" {content} "
    return rf"\text{{{content}}}"


def _outside_text(latex: str) -> str:
    """Bare words as text, a bare unit after a number too; ``and`` and ``or`` as commas."""
    match = _BARE_UNIT.fullmatch(latex)
    if match and all(name.strip().lower() in UNITS for name in match[2].split("/")):
        return rf"{match[1]}\text{{{match[2]}}}{match[3] or ''}"
    parts = re.split(r"(\\text\{[^{}]*\}|\\begin\{[a-z*]*\}|\\end\{[a-z*]*\})", latex)
    for place in range(0, len(parts), 2):
        part = _CLOCK.sub(r"\\text{\1m}", parts[place])
        part = _JOINED.sub(",", part)
        parts[place] = _LONG_WORDS.sub(_quoted, part)
    return "".join(parts)


def _quoted(match: re.Match[str]) -> str:
    word = match[0]
    if word.lower() in ("percent", "percentage"):
        return r"\%"
    return word if word.split()[0].lower() in _FUNCTIONS else rf"\text{{{word}}}"


def _without_base(match: re.Match[str], bases: list[int]) -> str:
    name = (match[2] or match[3] or match[4]).replace("base", "").strip()
    if not (number := BASES.get(name, name)).isdecimal():
        return match[0]
    bases.append(int(number))
    digits = match[1]
    return digits if digits.isdecimal() else rf"\text{{{digits}}}"


def _set_aside(match: re.Match[str], units: list[str]) -> str:
    """Nothing, with the unit noted, if every word is a unit of the list; else the text as it was."""
    if match[0].startswith("^"):  # degrees, of an angle or of a scale of temperature
        units.extend(re.findall("[CF]", match[0]))
        return ""
    names = re.findall(r"[a-zA-Z]+", match[0].replace(r"\text", "").replace(r"\cdot", ""))
    if not names or any(name.lower() not in UNITS for name in names):
        return match[0]
    unit = " ".join(filter(None, (UNITS[name.lower()] for name in names)))
    powers = "".join(re.findall(r"\^\{?(-?[0-9])", match[0]))
    if any(name.lower() in ("sq", "square") for name in names):
        powers += "2"
    if any(name.lower() in ("cu", "cubic") for name in names):
        powers += "3"
    if unit:
        units.append(f"{unit}{powers}")
    return ""


def _strip(latex: str) -> str:
    """Without what ends or begins a phrase rather than a formula."""
    latex = latex.replace(r"\$", "").replace("$", "").strip()
    return latex.strip(",;: ").removesuffix(".").strip()


def letters(words: str) -> str:
    """Words in lower case without spaces and punctuation; signs such as - and + stay, as in x-1."""
    return _PUNCTUATION.sub("", words.casefold())


def _primed(match: re.Match[str]) -> str:
    return f"{match[1]}_{{{_ticks(match[2])}}}"


def _minutes(match: re.Match[str]) -> str:
    return rf"\text{{arc{_ticks(match[1])}}}"


def _ticks(primes: str) -> str:
    return "p" * len(re.findall("prime|'", primes))


def _vulgar(match: re.Match[str]) -> str:
    top, bottom = unicodedata.normalize("NFKC", match[0]).split("\u2044")
    return rf"\frac{{{top}}}{{{bottom}}}"


def _repeating(match: re.Match[str]) -> str:
    r"""``0.1\overline{6}`` as the fraction that it is."""
    whole, fixed, period = match[1] or "0", match[2], match[3]
    before = Fraction(int(whole + fixed), 10 ** len(fixed))
    value = before + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
