"""A figure is made by its own family of modules, and every figure and table has a caption."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from docutils.core import publish_doctree
from docutils.utils import SystemMessage

from sspo.figures.registry import FIGURES, TABLES, module_of
from sspo.pipeline.closure import code_files
from support.left_out import left_out
from support.paths import ROOT, SOURCE

REPORT = ROOT / "workflow/report"
# The text that the report opens on takes in a page of results.
CAPTIONS = sorted({*REPORT.glob("*.rst")} - {REPORT / "workflow.rst"})
SHARED = {"command", "inputs", "registry"}
OF_TUNED_PROFILES = {"f12_tuning", "t3_tuning"}  # without trials they are not made


def code_of(name: str) -> set[Path]:
    """What the rule of a figure or table declares as its code."""
    script = ROOT / "workflow/scripts" / ("plot.py" if name in FIGURES else "write_table.py")
    return {*code_files(script, module_of(name))}


@pytest.mark.parametrize("name", [*FIGURES, *TABLES])
def test_the_code_of_a_figure_is_its_own_family_and_what_all_share(name):
    others = {module_of(other).split(".")[-1] for other in (*FIGURES, *TABLES)}
    others -= {module_of(name).split(".")[-1]}
    used = {path.stem for path in code_of(name) if path.parent.name == "figures"}
    assert used >= SHARED | {module_of(name).split(".")[-1]}
    assert not used & others


@pytest.mark.slow
@pytest.mark.parametrize("name", ["f1_gates", "f0_differences", "f6_log_ratio", "f10_staleness",
                                  "f13_exact", "t2_factorial"])  # fmt: skip
def test_the_code_of_a_figure_holds_every_module_that_is_loaded_to_make_it(name):
    program = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);"
        "from sspo.figures.registry import load; load(sys.argv[2]);"
        "print(*[m.__file__ for n, m in list(sys.modules.items()) if n.split('.')[0] == 'sspo'])"
    )
    script = ROOT / "workflow/scripts" / ("plot.py" if name in FIGURES else "write_table.py")
    ran = subprocess.run(
        [sys.executable, "-c", program, str(script), name],
        check=True, capture_output=True, text=True, env={"PYTHONPATH": str(SOURCE), "PATH": ""},
    )  # fmt: skip
    loaded = {Path(file).resolve() for file in ran.stdout.split()}
    assert {file for file in loaded if not left_out(file)} <= code_of(name)


@pytest.mark.parametrize("caption", CAPTIONS, ids=lambda path: path.stem)
def test_a_caption_is_correct_markup(caption):
    try:
        publish_doctree(caption.read_text(encoding="utf-8"), settings_overrides={"halt_level": 1})
    except SystemMessage as error:
        pytest.fail(str(error))


def test_bars_around_a_quantity_are_no_correct_markup():
    """They read as a substitution, and the report shows an error in their place."""
    with pytest.raises(SystemMessage, match="substitution"):
        publish_doctree("It is |dL / dx| there.", settings_overrides={"halt_level": 1})


@pytest.mark.parametrize("caption", CAPTIONS, ids=lambda path: path.stem)
def test_a_caption_says_nothing_that_only_some_profiles_have_done(caption):
    """All profiles share the captions: most tune nothing, and their seeds and base models differ."""
    if caption.stem in OF_TUNED_PROFILES:
        return
    text = caption.read_text(encoding="utf-8").lower()
    found = re.findall(r"\b(?:un)?tun(?:ed|ing)\b|table t3|\b(?:\w+|\d+) seeds\b", text)
    assert {*found} <= {"and seeds", "over seeds"}


def test_every_figure_and_table_has_a_caption():
    assert {*FIGURES, *TABLES} <= {caption.stem for caption in CAPTIONS}
