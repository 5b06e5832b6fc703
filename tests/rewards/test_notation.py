r"""What the text of an answer consists of: formulas, words, units and bases; nothing is dropped unseen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspo.rewards.notation import Answer, balanced, read_answer
from sspo.rewards.units import UNITS


def parts(text: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    answer = read_answer(text)
    return answer.formulas, answer.words, answer.units


@pytest.mark.parametrize(
    "text, formulas, words, units",
    [
        ("12", ("12",), (), ()),
        (r"12\text{ boys and }8\text{ girls}", ("12", "8"), ("boysand", "girls"), ()),
        (r"5.4 \text{ cents}", ("5.4",), (), ("cent",)),
        (r"16~\mathrm{cm}^2", ("16",), (), ("cm2",)),
        (r"15\text{ square cm}", ("15",), (), ("cm2",)),
        (r"10\text{ m/s}", ("10",), (), ("m s",)),
        (r"10\frac{\text{m}}{\text{s}}", ("10",), (), ("m s",)),
        (r"9.8 \mathrm{~m} / \mathrm{s}^{2}", ("9.8",), (), ("m s2",)),
        (r"3\text{ cm}, 4\text{ cm}", ("3, 4",), (), ("cm", "cm")),
        (r"5\text{ ft }6\text{ in}", ("5", "6"), ("ft",), ("in",)),
        ("1000 dollars", ("1000",), (), ("dollar",)),
        (r"\$18.90", ("18.90",), (), ()),
        ("18 m", ("18",), (), ("m",)),
        ("6m", ("6m",), (), ()),  # a variable
        ("3 m + 2 m", ("3 m + 2 m",), (), ()),
        ("12 dozen", ("12",), ("dozen",), ()),
        (r"20^\circ\text{C}", ("20",), (), ("C",)),
        (r"2\mathrm{i}", ("2 i",), (), ()),
        (r"x\mathrm{e}^{x}", ("x e ^{x}",), (), ()),
        (r"\mathrm{r}=5", ("r =5",), (), ()),
        (r"4:30 \text{ p.m.}", ("4:30",), ("pm",), ()),
        ("4:30 PM", ("4:30",), ("pm",), ()),
        (r"x=2 \text{ or } x=3", ("x=2 , x=3",), (), ()),
        (r"5\text{ percent}", (r"5\%",), (), ()),
        (r"\operatorname{arcsin} x", (r"\arcsin  x",), (), ()),
        ("5th", ("5",), (), ()),
        (r"5^{\text{th}}", ("5",), (), ()),
    ],
)
def test_an_answer_is_formulas_words_and_units(text, formulas, words, units):
    assert parts(text) == (formulas, words, units)


@pytest.mark.parametrize(
    "text, latex",
    [
        ("45\u00b0", "45"),
        (r"45\degree", "45"),
        ("\u221a2", r"\sqrt{2}"),
        ("2\u221a12", r"2\sqrt{12}"),
        ("\u221e", r"\infty"),
        ("x\u00b2+x\u00b9\u00b2", "x^{2}+x^{12}"),
        ("1\uff0c2\u3002", "1,2"),
        ("\u00bd", r"\frac{1}{2}"),
        (r"0.\overline{6}", r"\frac{2}{3}"),
        (r"-12.3\overline{45}", r"-\frac{679}{55}"),
        ("1 1/4", r"1\frac{1}{4}"),
        (r"\boldsymbol{5}", "{5}"),
        (r"\textcolor{red}{5}", "{5}"),
        ("**1000**", "1000"),
        ("3,4,", "3,4"),
        (r"a\\[4pt]b", r"a\\b"),
        (r"a\\ b", r"a\\ b"),  # not the space command
        (r"\varnothing", r"\emptyset"),
        (r"\{x \mid x>2\}", r"\{x | x>2\}"),
        ("f'(x)", "f_{p}(x)"),
        (r"f^{\prime\prime}(x)", "f_{pp}(x)"),
        ("A^T", "A^{t_r}"),
        ("50%", r"50\%"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\left( 1 \right)", "( 1 )"),
    ],
)
def test_each_sign_has_one_way_of_writing(text, latex):
    assert read_answer(text).formulas == (latex,)


@pytest.mark.parametrize(
    "text, digits, bases",
    [
        ("2516_8", "2516", (8,)),
        ("2516_{ 8 }", "2516", (8,)),
        (r"1101_{\text{four}}", "1101", (4,)),
        ("1,101_4", "1,101", (4,)),
        ("-221_3, x=20_{12}", "-221, x=20", (3, 12)),
        ("x_1 + a_{12}", "x_1 + a_{12}", ()),
        (r"\log_2 8", r"\log_2 8", ()),
    ],
)
def test_the_bases_of_numerals_are_read(text, digits, bases):
    answer = read_answer(text)
    assert (answer.formulas, answer.bases) == ((digits,), bases)


@pytest.mark.parametrize(
    "text, letters",
    [
        (r"\text{Evelyn}", "evelyn"),
        ("All real numbers.", "allrealnumbers"),
        (r"\text{(C)}", "c"),
        ("12", None),
        (r"12\text{ boys}", None),
        ("", None),
    ],
)
def test_an_answer_in_words_is_its_letters(text, letters):
    assert read_answer(text).text == letters


def test_every_unit_has_one_name_and_no_unit_is_a_constant():
    assert all(UNITS[name] == name for name in UNITS.values() if name)
    assert not {"i", "e", "x", "pi", "dozen", "thousand", "hundred", "am", "pm"} & UNITS.keys()


@given(st.text(max_size=60))
def test_any_text_can_be_read(text):
    assert isinstance(read_answer(text), Answer)


@pytest.mark.parametrize(
    "latex, expected",
    [("{a}", True), (r"\{ 1,2 ]", True), ("", True), ("{", False), ("}{", False), (r"\\{", False)],
)
def test_braces_are_balanced_if_each_has_its_partner(latex, expected):
    assert balanced(latex) == expected
