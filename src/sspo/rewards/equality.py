r"""Whether two answers mean the same: formulas are parsed by math-verify's parser and compared with sympy.

Here are words, relations and collections; ``sspo.rewards.values`` compares numbers and expressions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import (
    ConversionConfig,
    NormalizationConfig,
    is_expr_of_only_symbols,
    latex2sympy,
    normalize_latex,
)
from latex2sympy2_extended.logic import And
from sympy import Eq, Expr, Interval, MatrixBase, Rational, Set, Tuple, UnevaluatedExpr
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational, Unequality

from sspo.rewards.notation import Answer, balanced, letters, read_answer
from sspo.rewards.typesetting import unspaced
from sspo.rewards.values import UNDONE, factor_between, rational, same_expression, without_functions

LETTER_I = sympy.Symbol("i", real=True)
PERCENT = UnevaluatedExpr(Rational(1, 100))
_CASE_MATTERS = ConversionConfig(lowercase_symbols=False)
_MALFORMED = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
)
# A gold of 24.310 was not rounded to 24.31: it is as exact as a fraction.
_TRAILING_ZERO = re.compile(r"(?<![0-9.])([0-9]*)\.([0-9]*0)(?![0-9])")
# The parser would add up 5 6 and leave out dots.
_UNREADABLE = re.compile(r"[0-9]\s+[0-9]|\\ldots|\.\.\.")


def equivalent(gold: str, answer: str) -> bool:
    """Whether an answer means the gold.

    Words must be the same, formulas equal, and units and bases of numerals too where both state them.
    """
    first, second = read_answer(gold), read_answer(answer)
    if not balanced(gold) or differently_measured(first, second):
        return False
    if first.text or second.text:
        return (first.text or letters(gold)) == (second.text or letters(answer))
    return (
        first.words == second.words
        and len(first.formulas) == len(second.formulas) > 0
        and all(map(same_formula, first.formulas, second.formulas))
    )


def differently_measured(first: Answer, second: Answer) -> bool:
    """Whether both state units, or bases of numerals, and not the same ones."""
    return bool(
        (first.units and second.units and set(first.units) != set(second.units))
        or (first.bases and second.bases and first.bases != second.bases)
    )


def same_formula(gold: str, answer: str) -> bool:
    """Whether two formulas are equal; one that cannot be parsed or compared equals itself alone."""
    # Part by part where it will do: sympy takes seconds to unite many intervals.
    unions = gold.split(r"\cup"), answer.split(r"\cup")
    if len(unions[0]) == len(unions[1]) > 1 and all(map(same_formula, *unions)):
        return True
    first, second = parse(_TRAILING_ZERO.sub(_exact, gold)), parse(answer)
    try:
        if first is not None and second is not None and same_parsed(first, second):
            return True
    except Exception:  # whatever sympy raises on nonsense such as a number plus a matrix
        pass
    return unspaced(gold) == unspaced(answer)


def same_parsed(gold: Any, answer: Any) -> bool:
    """Whether two parsed formulas are equal, with percent signs on both sides, on one or on none."""
    percents = gold.has(PERCENT), answer.has(PERCENT)
    if all(percents):
        return equal(scaled(gold, 1), scaled(answer, 1))
    if any(percents):  # 13.5\% may be answered 13.5 or 0.135, and the other way round
        return any(equal(scaled(gold, by), scaled(answer, by)) for by in (1, PERCENT.args[0]))
    return equal(gold, answer)


def parse(formula: str) -> Any:
    """The formula as a sympy object; None if the parser does not read all of it."""
    if _UNREADABLE.search(formula):
        return None
    try:
        latex = normalize_latex(formula, _MALFORMED)
        parsed = latex2sympy(
            latex, is_real=True, normalization_config=None, conversion_config=_CASE_MATTERS
        )
        parsed = parsed.xreplace({LETTER_I: sympy.I})
    except Exception:  # whatever a parser of hostile text raises
        return None
    return None if isinstance(parsed, sympy.logic.boolalg.BooleanAtom | bool) else parsed


def _exact(decimal: re.Match[str]) -> str:
    return rf"\frac{{{int(decimal[1] + decimal[2])}}}{{{10 ** len(decimal[2])}}}"


def scaled(parsed: Any, by: Expr | int) -> Any:
    """With every percent sign read as ``by``."""
    return parsed.xreplace({PERCENT: sympy.sympify(by)})


def equal(gold: Any, answer: Any) -> bool:
    """Whether two parsed objects are equal."""
    if listed(gold) and listed(answer):
        return matched(members(gold), members(answer))
    gold, answer = without_name(gold, answer)
    relations = is_relation(gold), is_relation(answer)
    if all(relations):
        return same_relation(gold, answer)
    if any(relations):
        return isinstance(gold, Set) != isinstance(answer, Set) and same_set(
            region(gold), region(answer)
        )
    if isinstance(gold, MatrixBase) or isinstance(answer, MatrixBase):
        return same_matrix(gold, answer)
    if isinstance(gold, Set | Tuple) or isinstance(answer, Set | Tuple):
        return same_collection(gold, answer)
    return isinstance(gold, Expr) and isinstance(answer, Expr) and same_expression(gold, answer)


# Relations


def is_relation(parsed: Any) -> bool:
    return isinstance(parsed, Relational | And)


def parts(relation: Any) -> list[Any]:
    """The relations of a chain such as 1 < x < 2."""
    return list(relation._unsorted_args) if isinstance(relation, And) else [relation]


def without_name(gold: Any, answer: Any) -> tuple[Any, Any]:
    """x = 5 as 5 where the other side is no equation; a chain of equations as its first and last side."""
    if len(parts(gold)) != len(parts(answer)):
        gold, answer = ends(gold), ends(answer)
    if isinstance(answer, Eq) and not is_relation(gold) and names_value(answer):
        return gold, answer.rhs
    if isinstance(gold, Eq) and not is_relation(answer) and is_expr_of_only_symbols(gold.lhs):
        return gold.rhs, answer
    return gold, answer


def listed(parsed: Any) -> bool:
    """Whether these are equations, as in x = 1, y = 2, or one with several values, as in x = {1, 2}."""
    if isinstance(parsed, Eq):
        return isinstance(parsed.rhs, sympy.FiniteSet)
    return isinstance(parsed, sympy.FiniteSet) and all(isinstance(part, Eq) for part in parsed.args)


def ends(relation: Any) -> Any:
    chain = parts(relation)
    if isinstance(relation, And) and all(isinstance(part, Eq) for part in chain):
        return Eq(chain[0].lhs, chain[-1].rhs, evaluate=False)
    return relation


def names_value(equation: Eq) -> bool:
    """Whether the left side only says what the right side is: f(2) = 5, AB = 5, 2+3 = 5; not 2x = 5."""
    left = equation.lhs
    if not left.free_symbols and not left.has(AppliedUndef):
        return equal(left, equation.rhs)
    return len(left.free_symbols) > 1 or is_expr_of_only_symbols(left) or left.is_Function


def same_relation(gold: Any, answer: Any) -> bool:
    first, second = parts(gold), parts(answer)
    if len(first) == len(second) == 1:
        return same_single(first[0], second[0])
    if len(first) == len(second) and (
        all(map(same_single, first, second)) or all(map(same_single, first, reversed(second)))
    ):
        return True
    return gold.free_symbols == answer.free_symbols and same_set(region(gold), region(answer))


def same_single(gold: Relational, answer: Relational) -> bool:
    """Whether two relations of one sign hold for the same values."""
    turned = type(gold) is not type(answer)
    if turned and type(gold) is not type(answer.reversed):
        return False
    if turned:
        answer = answer.reversed
    gold, answer = without_functions(gold), without_functions(answer)
    sides = (gold.lhs, gold.rhs, answer.lhs, answer.rhs)
    plain = (
        gold.free_symbols and answer.free_symbols and not (gold.has(*UNDONE) or answer.has(*UNDONE))
    )
    if not plain or not all(isinstance(side, Expr) for side in sides):
        return equal(gold.lhs, answer.lhs) and equal(gold.rhs, answer.rhs)
    first, second = rational(gold.lhs - gold.rhs), rational(answer.lhs - answer.rhs)
    if isinstance(gold, Eq):  # y = 1/x is xy = 1
        first, second = (sympy.fraction(sympy.together(side))[0] for side in (first, second))
    factor = factor_between(first, second)
    return factor is not None and (isinstance(gold, Eq | Unequality) or bool(factor > 0))


def region(parsed: Any) -> Any:
    """The values that inequalities in one variable admit, as a set; anything else as it is."""
    if not is_relation(parsed) or isinstance(parsed, Eq) or len(parsed.free_symbols) != 1:
        return parsed
    try:
        return sympy.And(*[rational(part) for part in parts(parsed)]).as_set()
    except Exception:
        return None


# Collections


def same_matrix(gold: Any, answer: Any) -> bool:
    return (
        isinstance(gold, MatrixBase)
        and isinstance(answer, MatrixBase)
        and gold.shape == answer.shape
        and all(map(equal, gold.flat(), answer.flat()))
    )


def same_collection(gold: Any, answer: Any) -> bool:
    """Whether sets have the same members and tuples the same in order; (1, 2) is a pair or an interval."""
    if isinstance(gold, Interval) and isinstance(answer, Interval):
        return (gold.left_open, gold.right_open) == (answer.left_open, answer.right_open) and (
            equal(gold.start, answer.start) and equal(gold.end, answer.end)
        )
    first, second = members(gold), members(answer)
    if first is None or second is None:
        return same_set(gold, answer)
    if isinstance(gold, sympy.FiniteSet | Expr) and named(first) == named(second):
        return matched(first, second)
    return len(first) == len(second) and all(map(equal, first, second))


def named(members: Sequence[Any]) -> bool:
    """Whether these are x = 1, y = 2, whose order tells which is which where an answer has no names."""
    return all(isinstance(m, Eq) for m in members) and len({m.lhs for m in members}) > 1


def members(collection: Any) -> Any:
    """The members in the order in which they are written; None for sets that are not listed."""
    if isinstance(collection, Interval):
        return [collection.start, collection.end] if collection.is_open else None
    if isinstance(collection, Eq):
        return [Eq(collection.lhs, value, evaluate=False) for value in collection.rhs.args]
    if isinstance(collection, Tuple | sympy.FiniteSet):
        return list(getattr(collection, "_unsorted_args", collection.args))
    return None if isinstance(collection, Set) else [collection]


def matched(golds: Sequence[Any], answers: Sequence[Any]) -> bool:
    """Whether every gold has an answer of its own."""
    left = list(answers)
    for gold in golds:
        place = next((i for i, other in enumerate(left) if equal(gold, other)), None)
        if place is None:
            return False
        del left[place]
    return not left


def same_set(gold: Any, answer: Any) -> bool:
    if not isinstance(gold, Set) or not isinstance(answer, Set):
        return False
    gold, answer = rational(gold), rational(answer)
    if gold == answer:
        return True
    try:
        return gold.symmetric_difference(answer).is_empty is True
    except Exception:
        return False
