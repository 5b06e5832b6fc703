r"""Which answers mean the same: exact numbers, rounded ones, formulas, relations, sets, words and units."""

from __future__ import annotations

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from sspo.rewards.answers import normalize
from sspo.rewards.equality import equivalent

SAME = [
    ("13.5", r"13.5\%"),
    (r"13.5\%", "13.5"),
    ("0.135", r"13.5\%"),
    ("45", "45\xb0"),
    (r"45^\circ", "45\xb0"),
    (r"45^\circ", r"45\degree"),
    ("45", r"45^{\circ}"),
    (r"\sqrt{2}", "\u221a2"),
    (r"\sqrt{12}", "\u221a12"),
    (r"\infty", "\u221e"),
    (r"(0,\infty)", "(0,\u221e)"),
    ("x^2", "x\xb2"),
    ("x^{2}+1", "x\xb2+1"),
    ("1,2", "1\uff0c2"),
    ("5", "5\u3002"),
    ("2i", r"2\mathrm{i}"),
    (r"2\mathrm{i}", "2i"),
    (r"x\mathrm{e}^{x}", "xe^x"),
    ("xe^{x}", r"x\mathrm{e}^{x}"),
    (r"\frac{2}{3}", r"0.\overline{6}"),
    (r"0.1\overline{6}", "1/6"),
    (r"1\frac{1}{4}", "1 1/4"),
    (r"\frac{5}{4}", "1 1/4"),
    (r"4:30 \text{ p.m.}", r"4:30 \text{ p.m.}"),
    (r"4:30 \text{ p.m.}", r"4:30 \text{ pm}"),
    (r"4:30 \text{ p.m.}", "4:30 p.m."),
    (r"4:30 \text{ p.m.}", "4:30 PM"),
    (r"9\text{ a.m.}", "9 a.m."),
    ("16", r"16~\text{cm}"),
    (r"16\text{ cm}", r"16~\mathrm{cm}"),
    ("1000", "1000 dollars"),
    ("1000", "**1000**"),
    ("1000", r"\$1000"),
    ("3,4", "3,4,"),
    ("5", "5,"),
    (r"\mathbf{v}", r"\boldsymbol{v}"),
    ("5", r"\boldsymbol{5}"),
    ("5", r"\color{red}{5}"),
    ("5", r"{\color{blue}5}"),
    ("5", r"\textcolor{red}{5}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\[4pt]2\end{pmatrix}"),
    (
        r"\begin{pmatrix} \frac12 \\ 2 \end{pmatrix}",
        r"\begin{pmatrix}\dfrac{1}{2}\\[4pt] 2\end{pmatrix}",
    ),
    ("1101_4", r"1101_{\text{four}}"),
    ("1101_4", "1101_{4}"),
    ("1101_4", "1,101_4"),
    ("1101_4", "1101_{ 4 }"),
    ("-221_3", "-221_{3}"),
    ("1101_4", "x=1101_4"),
    (r"\emptyset", r"\varnothing"),
    (r"\varnothing", r"\emptyset"),
    (r"\{x \mid x>2\}", r"\{x | x > 2\}"),
    ("|x|", r"\lvert x\rvert"),
    ("|x|", r"\vert x \vert"),
    (r"\text{all real numbers}", "all real numbers"),
    ("all real numbers", r"\text{All real numbers}"),
    ("no solution", r"\text{No solution}"),
    (r"12\text{ boys and }8\text{ girls}", r"12 \text{ boys and } 8 \text{ girls}"),
    (r"5\text{ hours}", r"5 \text{ hr}"),
    ("5", "5 hours"),
    (r"10\text{ m/s}", "10"),
    (r"10\text{ m/s}", r"10 \frac{\text{m}}{\text{s}}"),
    (r"15\text{ cm}^2", r"15\text{ square cm}"),
    (r"15\text{ cm}^2", "15"),
    ("x=5", "5=x"),
    (r"y=\frac{1}{x}", "xy=1"),
    ("x^2+4x+20=0", "2x^2+8x+40=0"),
    ("x=2, x=3", r"x=3 \text{ or } x=2"),
    ("2,3", "x=3 or x=2"),
    (r"x=2 \text{ or } x=3", "2, 3"),
    ("p=-7,-2", "p=-2, p=-7"),
    ("x=1,y=2", "(1,2)"),
    ("x=1,y=2", "y=2, x=1"),
    (r"[2,\infty)", r"x \ge 2"),
    (r"x \ge 2", r"[2,\infty)"),
    ("1<x<2", "(1,2)"),
    ("1<x<2", "2>x>1"),
    ("2x>4", "x>2"),
    ("f(x)=3x", "f(x)=3x"),
    (r"\frac{1}{2004!}", r"\frac{1}{2004!}"),
    (r"\pi", "3.14159"),
    ("3.14159", r"\pi"),
    ("0.7071", r"\frac{\sqrt{2}}{2}"),
    (r"6.674 \times 10^{-11}", r"6.6743 \times 10^{-11}"),
    (r"\frac{\sqrt{6 p}}{3}", r"\sqrt{\frac{6p}{9}}"),
    ("(x-1)^2", "x^2-2x+1"),
    (r"\sin^2 x + \cos^2 x", "1"),
    (r"\ln 8", r"3\ln 2"),
    (r"\frac{x^2}{4}+y^2=1", "x^2+4y^2=4"),
    (r"\{1,2\}", "1,2"),
    ("1,2", r"\{2,1\}"),
    ("5", "2+3=5"),
    ("(3+4i)", "(2+i)^2"),
    (r"-\frac{2}{3}", r"-0.\overline{6}"),
    (r"\frac{1}{2}", "\xbd"),
    (r"3\frac{1}{2}", "3\xbd"),
    (r"2 \times 3", "2\xd73"),
    (r"x\leq 3", "x \u2264 3"),
    (r"\pi/2", "\u03c0/2"),
    ("60", r"60 \text{ degrees}"),
    ("20", r"20^\circ\text{C}"),
    (r"\operatorname{Var}(X)+1", r"\operatorname{Var}(X) + 1"),
    (r"\frac{1}{2}", r"\nicefrac{1}{2}"),
    (r"5.7 \mathrm{hr}", "5.7"),
    (r"5.7 \mathrm{hr}", r"5.7 \text{ hours}"),
    (r"1, \frac{1}{2}", "0.5, 1"),
    (r"\pm 2", "-2, 2"),
    (r"x = \pm 2", "x=2, x=-2"),
    ("1:2", "1:2"),
    (r"\sqrt[3]{4}", "4^{1/3}"),
    ("2^{100}", "1267650600228229401496703205376"),
    ("C", r"\text{(C)}"),
    (r"\text{(C)}", "(C)"),
    ("even", r"\text{even}"),
    (r"\text{odd}", "odd"),
    ("12", "12."),
    ("12", "12.0"),
    ("12", "12.00"),
    ("6", r"6\text{ students}"),
    (r"10\%", r"10 \text{ percent}"),
    (r"10\%", "10 percent"),
    ("5", r"5\text{ units}"),
    (r"2\sqrt{3}", "2\u221a3"),
    ("f'(x)=2x", r"f^{\prime}(x)=2x"),
    (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    (r"a \leftrightarrow b", r"a\leftrightarrow b"),
    (r"6.02 \times 10^{23}", "6.02e23"),
    ("5'6", "5'6"),
    (r"x \approx 1.3098", "1.3098"),
    ("1.3098", r"x \approx 1.3098"),
    ("x=-6, x=2", r"x=2 \text{ or } x=-6"),
    (r"\sum_{n=0}^{\infty} x^{n} / n !, R=\infty", r"\sum_{n=0}^{\infty} x^{n} / n !, R=\infty"),
    (r"\bar{x}=\bar{y}=28 /(9 \pi)", r"\bar{x}=\bar{y}=\frac{28}{9 \pi}"),
    (r"179^{\circ} 59^{\prime}", r"179^\circ 59'"),
    ("24.310", "24.31"),
    ("8", "2**3"),
    ("8", "**2**3**"),
    ("x^{12}", "x**12"),
    ("f(x)=x,f(x)=2-x", "f(x)=2-x, f(x)=x"),
    (r"\lfloor\frac{n+1}{2}\rfloor", r"\lceil\frac{n}{2}\rceil"),
]

OTHER = [
    (r"2\mathrm{i}", "2"),
    (r"12\text{ boys and }8\text{ girls}", "12"),
    (r"12\text{ boys and }8\text{ girls}", r"12\text{ boys and }9\text{ girls}"),
    (r"12\text{ boys and }8\text{ girls}", r"12\text{ girls and }8\text{ boys}"),
    (r"x\mathrm{e}^{x}", "x"),
    (r"9\text{ a.m.}", r"9\text{ p.m.}"),
    ("9 a.m.", "9 p.m."),
    ("x^2+4x+20=0", "x^2+4x+20=1"),
    ("x^2+4x+20=0", "x^2+4x+21=0"),
    ("2+2=4", "2+2=5"),
    ("I=5", "I=6"),
    (r"\frac{1}{2004!}", r"\frac{1}{2005!}"),
    ("2^{-1100}", "2^{-1101}"),
    ("1-2^{-100}", "1-3^{-100}"),
    ("1-e^{-100}", "1-e^{-101}"),
    ("1-e^{-200}", "1-e^{-201}"),
    (r"10^{-30}\pi", r"10^{-31}\pi"),
    ("-221_3", "-221_4"),
    ("1101_3", "1,101_4"),
    ("1101_3", "x=1101_4"),
    ("1101_3", "1101_{ 4 }"),
    ("1101_3, 20_3", "1101_4, 20_4"),
    ("x=1101_3", "1101_4"),
    (r"0.5\%", r"50\%"),
    (r"5\%", r"0.05\%"),
    (r"0.5\%, 3", r"50\%, 3"),
    ("5", "2x=5"),
    ("5", "2+2=5"),
    ("5", "x+1=5"),
    (r"\pi", "3.14"),
    ("0.5", "0.46"),
    ("12.5", "12.51"),
    ("142.0", "142.04"),
    ("12", r"12 \text{ thousand}"),
    ("12", "12 dozen"),
    ("9.6", "9.7"),
    (r"5\text{ cm}", r"5\text{ m}"),
    (r"15\text{ cm}^2", r"15 \text{ cm}^3"),
    ("R/r", "1"),
    ("P=3", "q=3"),
    ("abc", "ab"),
    (r"\text{even}", r"\text{odd}"),
    ("no solution", "one solution"),
    ("x > 2", "x < 2"),
    ("x > 2", r"x \ge 2"),
    ("1<x<2", "1<x<3"),
    ("(1,2)", "[1,2]"),
    ("x=1,y=2", "(2,1)"),
    ("x=1,y=2", "x=2,y=1"),
    ("2<3", "2<4"),
    (r"\{x \mid x>2\}", r"\{x \mid x>3\}"),
    ("f'(x)=3", "f(x)=3"),
    ("y'", "y"),
    ("A^T", "A"),
    ("56", "5 6"),
    ("11", "5 6"),
    (r"1\frac{1}{4}", r"1\frac{1}{5}"),
    (r"0.\overline{6}", "0.6"),
    (r"4:30 \text{ p.m.}", r"4:30 \text{ a.m.}"),
    ("x^2", "x^3"),
    (r"1,2,\ldots,5", "1,2,5"),
    (r"\text{Evelyn}", "Evelynn"),
    ("|x|", "x"),
    (r"\sqrt{x^2}", "x"),
    (r"x \ne 2", "x=2"),
    ("x+10^{-40}", "x+10^{-41}"),
    (r"\text{no}", r"\text{yes}"),
    (r"1101_{\text{four}}", r"1101_{\text{five}}"),
    ("A_1", "A_2"),
    (r"5 \text{ or } 6", "5"),
    ("5", r"5 \text{ or } 6"),
    ("x^2+1", "x^2+1, 5"),
    (r"\frac{a}{b}", r"\frac{b}{a}"),
    (r"10\text{ m/s}", r"10 \text{ m/s}^2"),
    ("a^2", "2a"),
    (r"\{1,2\}", r"\{1,3\}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
    (r"\foo{", r"\foo{"),
    (r"\frac{1}{", r"\frac{1}{"),
    ("}{", "}{"),
    ("$", "$"),
    ("No solution", "-No solution"),
    ("24.310", "24.311"),
    ("23", "2**3"),
    (r"20^\circ\text{C}", r"20^\circ F"),
    (r"\lfloor\sqrt{n-1}\rfloor", r"\lfloor\sqrt{n-3}\rfloor"),
    (r"m n-\lfloor m / 2\rfloor", r"m n-\lfloor m / 9\rfloor"),
    (r"\lfloor\frac{2 n-1}{5}\rfloor", r"\lfloor\frac{2 n+1}{5}\rfloor"),
    (r"\left\lfloor\log _{2} n\right\rfloor+1", r"-\left\lfloor\log _{2} n\right\rfloor+1"),
    ("f(n)=n", "f(u)=n"),
    ("f(n)=n", "f(n)=c"),
    ("N=n", "C=n"),
    ("f(x)=x,f(x)=2-x", "q(x)=x,f(x)=2-x"),
    (r"\ln(e^{5})=5", r"\ln(n^{5})=5"),
    ("x=-6, x=2", "m=-6, x=2"),
    (r"\cos(-2.01) \approx -0.425", r"\cos(-2.01) \approx -0.422"),
    (r"t=\frac{\ln 2}{0.1}=10\ln 2", r"t=\frac{\ln 2}{0.5}=10\ln 2"),
    (r"x \approx 1.3098", r"q \approx 1.3098"),
    (r"\bar{x}=\bar{y}=28 /(9 \pi)", r"\bar{x}=\bar{f}=28 /(9 \pi)"),
    (r"179^{\circ} 59^{\prime}", r"179^\circ 58'"),
    ("-1", r"\text{1}"),
    (r"\text{x-1}", r"\text{x+1}"),
    ("x+1", r"\text{x-1}"),
]


def means(gold: str, answer: str) -> bool:
    return equivalent(normalize(gold), normalize(answer))


@pytest.mark.parametrize("gold, answer", SAME)
def test_an_answer_in_another_notation_means_the_gold(gold, answer):
    assert means(gold, answer)
    assert means(gold, gold)


@pytest.mark.parametrize("gold, answer", OTHER)
def test_an_answer_that_differs_in_one_place_means_something_else(gold, answer):
    assert not means(gold, answer)


X, Y = sympy.symbols("x y", real=True)
LEAVES = st.one_of(st.integers(1, 9).map(sympy.Integer), st.sampled_from([X, Y, sympy.pi]))


def grow(children: st.SearchStrategy[sympy.Expr]) -> st.SearchStrategy[sympy.Expr]:
    pairs = st.tuples(children, children)
    return st.one_of(
        pairs.map(lambda p: sympy.Add(*p, evaluate=False)),
        pairs.map(lambda p: sympy.Mul(*p, evaluate=False)),
        st.tuples(children, st.integers(2, 3)).map(lambda p: p[0] ** p[1]),
        children.map(lambda e: sympy.sin(e) / 3),
    )


@settings(max_examples=30, deadline=None)
@given(st.recursive(LEAVES, grow, max_leaves=6))
def test_a_formula_means_its_expansion_and_nothing_that_differs_by_a_number(formula):
    written, expanded = sympy.latex(formula), sympy.expand(formula)
    assert means(written, sympy.latex(expanded))
    assert not means(written, sympy.latex(expanded + sympy.Rational(1, 10**9)))


@settings(max_examples=60, deadline=None)
@given(st.integers(-(10**30), 10**30), st.integers(1, 10**30), st.integers(1, 5))
def test_fractions_are_compared_exactly_whatever_their_size(top, bottom, factor):
    gold = rf"\frac{{{top}}}{{{bottom}}}"
    assert means(gold, rf"\frac{{{factor * top}}}{{{factor * bottom}}}")
    assert not means(gold, rf"\frac{{{top + 1}}}{{{bottom}}}")
    assert not means(gold, rf"\frac{{{top}}}{{{bottom + 1}}}") or top == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 6))
def test_a_decimal_answers_an_exact_gold_only_with_five_digits_and_rightly_rounded(top, places):
    value = sympy.Rational(top, 7919)
    text = f"{float(value):.{places}f}"
    shown = sympy.Rational(text)
    right = abs(shown - value) <= min(sympy.Rational(1, 2 * 10**places), value / 10**5)
    assert means(rf"\frac{{{top}}}{{7919}}", text) == right


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 5), st.data())
def test_a_decimal_with_one_other_digit_is_another_number(digits, places, data):
    gold = f"{digits / 10**places:.{places}f}"
    place = data.draw(st.sampled_from([i for i, c in enumerate(gold) if c.isdigit()]))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != gold[place]]))
    assert not means(gold, gold[:place] + digit + gold[place + 1 :])
