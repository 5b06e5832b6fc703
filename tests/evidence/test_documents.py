"""Numbers in documents come from records: what templates write and refuse, and that ours are filled."""

import pandas as pd
import pytest

from sspo.config.errors import ConfigError
from sspo.evidence.documents import fill, rows, typed_numbers
from support.paths import ROOT

DOCUMENT = "Before 0.5.\n\n<!-- numbers: area -->\nold\n<!-- end -->\n\nAfter.\n"
TEMPLATE = """{% set runs = csv("runs.csv") %}
{% macro area() %}
SSPO has {{ rows(runs, method="sspo").area.mean() | d3 }}, {{ 0.0001 | d3 }} and {{ 0.25 | signed2 }}.
{% endmacro %}
"""


@pytest.fixture
def template(tmp_path):
    pd.DataFrame({"method": ["sspo", "sspo", "grpo"], "area": [0.25, 0.5, 1.0]}).to_csv(
        tmp_path / "runs.csv", index=False
    )
    path = tmp_path / "page.md"
    path.write_text(TEMPLATE)
    return path


def test_a_marked_block_holds_what_its_macro_computes_and_the_rest_stays(template):
    filled = fill(DOCUMENT, template, template.parent)
    assert filled == DOCUMENT.replace("old", "SSPO has 0.375, 0 and +0.25.")
    assert fill(filled, template, template.parent) == filled


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('method="sspo"', 'method="lost"', "no row has method = 'lost'"),
        ("macro area", "macro other", "no attribute 'area'"),
        (".mean()", "[lost]", "'lost' is undefined"),
        ("SSPO has", "SSPO has 0.4 more,", "0.4: typed by hand"),
        ("runs.csv", "gone.csv", "gone.csv"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_by_name(template, old, new, message):
    assert old in TEMPLATE
    template.write_text(TEMPLATE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        fill(DOCUMENT, template, template.parent)
    assert str(caught.value).startswith(f"{template}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("It rose to 0.73, by +0.10 or -0.05 (12.5 nats).", ["0.73", "0.10", "0.05", "12.5"]),
        ("GRPO clips 0.1 % or 60 % at 5e-5 and 1.0e-4.", ["0.1", "60", "5e-5", "1.0e-4"]),
        ("Holds 4 runs of 320 updates, 1,200 in all, at commit 2b027cc, version 1.2.3.", []),
        ("`clip_low: 0.2` of [0.3](method.md#0.4) {{ 0.5 | d1 }} {# 0.6 #} <!-- 0.7 -->", ["0.3"]),
        ("{# constants: 0.2 5e-5 #} A clip of 0.2 at 5e-5 ends at 0.7.", ["0.7"]),
    ],
)
def test_a_number_that_somebody_typed_is_found_unless_it_is_named_a_constant(text, numbers):
    assert typed_numbers(text) == numbers


def test_rows_are_those_with_every_value():
    frame = pd.DataFrame({"method": ["a", "a", "b"], "seed": [1, 2, 2], "x": [3, 4, 5]})
    assert list(rows(frame, method="a", seed=2).x) == [4]
    with pytest.raises(ConfigError, match="no row has seed = 3"):
        rows(frame, method="a", seed=3)


TEMPLATES = sorted(
    path for path in (ROOT / "docs/templates").iterdir() if "macros" not in path.name
)


@pytest.mark.parametrize("template", TEMPLATES, ids=[path.stem for path in TEMPLATES])
def test_the_numbers_of_our_documents_are_those_of_the_records(template):
    document = ROOT / ("" if template.stem == "README.md" else "docs") / template.stem
    text = document.read_text(encoding="utf-8")
    assert "<!-- numbers: " in text
    assert fill(text, template, ROOT) == text
