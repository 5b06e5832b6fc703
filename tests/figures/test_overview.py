"""The page of results: text stays text, captions become HTML, names come from files."""

import re

import pytest

from sspo.figures.overview import (
    as_html,
    environment_rows,
    figure_part,
    first_sentence,
    markdown_html,
    split_verdicts,
    table_part,
)
from sspo.figures.registry import FIGURES, TABLES
from support.paths import ROOT

CAPTIONS = sorted((ROOT / "workflow/report").glob("[ft][0-9]*.rst"))
CLAIMS = """# The verdicts

| claim | verdict |
| --- | --- |
| faster | **undecided** |

## SSPO learns faster?

| effect |
| --- |
| +0.1 |
"""


def test_the_verdicts_stand_apart_from_the_comparisons_behind_them():
    verdicts, comparisons = split_verdicts(CLAIMS)
    assert "<td><strong>undecided</strong></td>" in verdicts and "+0.1" not in verdicts
    assert "<h2>SSPO learns faster?</h2>" in comparisons and "<td>+0.1</td>" in comparisons
    assert "The verdicts" not in verdicts + comparisons  # the page has a heading of its own


def test_markup_in_markdown_and_captions_stays_text():
    hostile = "<script>alert(1)</script>"
    assert "<script" not in markdown_html(f"| a |\n| --- |\n| {hostile} |\n")
    assert "<script" not in as_html(hostile)
    assert "<script" not in as_html(f".. raw:: html\n\n   {hostile}\n")
    assert "root:" not in as_html(".. include:: /etc/passwd\n")


@pytest.mark.parametrize("caption", CAPTIONS, ids=lambda path: path.stem)
def test_the_alternative_text_of_a_figure_is_a_whole_sentence_about_it(caption):
    text = first_sentence(caption.read_text(encoding="utf-8"))
    assert re.fullmatch(r"[A-Z][^`\n]{15,300}[.:]", text)


def test_a_part_is_named_by_its_file(tmp_path):
    figure = tmp_path / "f11_weights.png"
    figure.write_bytes(b"png")
    part = figure_part(figure, "weights", "The figure shows weights. It has *dots*.\n")
    assert (part.name, part.alt, part.content) == ("F11", "The figure shows weights.", "cG5n")
    assert "<em>dots</em>" in part.caption
    (tmp_path / "t1_benchmarks.md").write_text("# Scores\n\n| a |\n|:--|\n| 1 |\n\nA note.\n")
    part = table_part(tmp_path / "t1_benchmarks.md", "scores", "The table shows scores.")
    assert part.name == "T1" and part.file == tmp_path / "t1_benchmarks.html"
    assert "Scores" not in part.content and "<p>A note.</p>" in part.content


def test_the_environment_is_told_line_by_line():
    record = {
        "commit": "abc", "dirty": True, "versions": {"torch": "2.13"},
        "hardware": {"cores": 2, "gpu": None}, "inputs": {"../requirements.txt": "123"},
    }  # fmt: skip
    assert environment_rows(record) == [
        ("commit", "abc, with changes"), ("torch", "2.13"), ("cores", "2"), ("gpu", "none"),
        ("SHA-256 of requirements.txt", "123"),
    ]  # fmt: skip
    assert environment_rows(record | {"commit": None, "dirty": None})[0][1].startswith("unknown")


def test_every_figure_and_table_has_a_caption():
    assert {path.stem for path in CAPTIONS} >= {*FIGURES, *TABLES}
