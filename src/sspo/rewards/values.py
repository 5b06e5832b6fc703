r"""Whether numbers and expressions have the same value.

Numbers that are written without a decimal point are compared exactly, whatever their size. A decimal
point says that a number may have been rounded, to the digits that it shows.
"""

from __future__ import annotations

from typing import Any

import sympy
from sympy import Expr, Float, Rational
from sympy.core.function import AppliedUndef

# A gold with a decimal point may have been rounded itself; an exact gold asks for five digits or more.
ROUNDED_GOLD = Rational(2, 10**4)
EXACT_GOLD = Rational(1, 10**5)
# Numbers that differ by less than this share are not told apart: sympy computes with as many digits.
SHARE = Rational(1, 10**100)
DIGITS = 400
# Formulas are compared where their variables have these values, and where they have the opposite ones.
# Those with floor and the like, which are constant in between, are compared at whole numbers.
VALUES = [
    Rational(n, 7919) for n in (11117, 20323, 3571, 27457, 14699, 8933, 32323, 17683, 5557, 23827)
]
SIGNS, WHOLE = (1, -1), (*range(1, 25), -7, 211)
STEPS = (sympy.floor, sympy.ceiling, sympy.Mod)

# Sums, products and integrals with variables are compared by how they are written.
UNDONE = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative)


def without_functions(expression: Any) -> Any:
    """With a variable of that name for every value of an unknown function, such as f(2)."""
    values = expression.atoms(AppliedUndef)
    return expression.xreplace({value: sympy.Symbol(str(value), real=True) for value in values})


def rational(expression: Any) -> Any:
    """With every decimal as the fraction that it is written as."""
    return expression.xreplace({d: Rational(str(d)) for d in expression.atoms(Float)})


def same_expression(gold: Expr, answer: Expr) -> bool:
    """Whether expressions have the same value, everywhere if they have variables."""
    exact, other = without_functions(rational(gold)), without_functions(rational(answer))
    if exact.free_symbols or other.free_symbols:
        return same_values(exact, other)
    return same_number(exact, other, decimal(gold, exact), decimal(answer, other))


def same_values(first: Expr, second: Expr) -> bool:
    """Whether expressions agree at two points that nobody would choose."""
    if first == second or first.has(*UNDONE) or second.has(*UNDONE):
        return first == second
    difference = first - second
    names = sorted(first.free_symbols | second.free_symbols, key=str)
    if difference.has(*STEPS):
        points = [[sympy.Integer(n * (2 * i + 1)) for i in range(len(names))] for n in WHOLE]
    else:
        points = [[by * value for value in first_values(len(names))] for by in SIGNS]
    # Roots and logarithms may have no real value at a point: then the first, positive one decides.
    return all(
        vanishes(difference, first, place) or (i > 0 and not is_real(first, place))
        for i, place in enumerate(dict(zip(names, point, strict=True)) for point in points)
    )


def first_values(count: int) -> list[Rational]:
    """As many of VALUES, over and over, each time one higher."""
    return [VALUES[i % len(VALUES)] + i // len(VALUES) for i in range(count)]


def is_real(expression: Expr, point: dict[Any, Any]) -> bool:
    return bool(expression.evalf(15, subs=point).is_extended_real)


def decimal(written: Expr, exact: Expr) -> bool:
    """Whether a number is written with a decimal point, other than a whole one such as 27.0."""
    return written.has(Float) and exact.doit().is_integer is not True


def same_number(gold: Expr, answer: Expr, gold_decimal: bool, answer_decimal: bool) -> bool:
    """Whether numbers are equal, or one is a decimal to which the other one rounds."""
    if exact_equal(gold, answer):
        return True
    if gold_decimal:
        shown, share = gold.doit(), ROUNDED_GOLD
    elif answer_decimal:
        shown, share = answer.doit(), EXACT_GOLD
    else:
        return False
    distance = sympy.Abs(gold - answer).evalf(30)
    half = half_unit(shown)
    if half is None or not distance.is_comparable:
        return False
    return bool(distance <= half and distance <= share * sympy.Abs(gold))


def half_unit(shown: Expr) -> Rational | None:
    """Half a unit of the last digit that a decimal shows; None for what no decimal is."""
    if not isinstance(shown, Rational):
        return None
    places, rest = 0, shown.q
    for prime in (2, 5):
        power = sympy.multiplicity(prime, rest)
        places, rest = max(places, power), rest // prime**power
    return Rational(1, 2 * 10**places) if rest == 1 else None


def exact_equal(first: Expr, second: Expr) -> bool:
    """Whether two numbers are equal, to SHARE if they are not rational."""
    first, second = first.doit(), second.doit()
    if first == second:
        return True
    difference = first - second
    return bool(vanishes(difference, first) if difference.is_zero is None else difference.is_zero)


def vanishes(difference: Expr, compared: Expr, point: dict[Any, Any] | None = None) -> bool:
    """Whether a difference is 0 beside one of the numbers compared, to SHARE."""
    size = sympy.Abs(compared.evalf(15, subs=point))
    parts = difference.evalf(15, subs=point, maxn=DIGITS).as_real_imag()
    return all(
        part.is_Number and part.is_finite and bool(abs(part) <= SHARE * size) for part in parts
    )


def factor_between(first: Expr, second: Expr) -> Expr | None:
    """The real number other than 0 by which two expressions differ; None without one."""
    names = sorted(first.free_symbols | second.free_symbols, key=str)
    # At squares, so that the points of the comparison confirm it also where only differences matter.
    point = {name: value**2 for name, value in zip(names, first_values(len(names)), strict=True)}
    top, bottom = (side.evalf(DIGITS, subs=point) for side in (first, second))
    if not (top.is_Float and bottom.is_Float and top.is_finite and bottom.is_finite):
        return None
    if abs(top) < SHARE or abs(bottom) < SHARE:
        return None
    factor = top / bottom
    return factor if same_values(first, factor * second) else None
