"""The notebook runs as it stands and shows what its code prints; figures are drawn, not compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from support import notebooks
from support.paths import ROOT, SOURCE

NOTEBOOK = ROOT / "examples" / "sspo.ipynb"
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?%?")


def assert_same_report(found: str, expected: str) -> None:
    """Words are equal, numbers up to their last digits, which another processor may round otherwise."""
    assert NUMBER.sub("#", found).split() == NUMBER.sub("#", expected).split()
    numbers = [[float(n.rstrip("%")) for n in NUMBER.findall(text)] for text in (found, expected)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.011)


@pytest.mark.slow
def test_the_notebook_s_code_prints_what_the_notebook_shows(tmp_path):
    notebook = notebooks.read(NOTEBOOK)
    script = tmp_path / "notebook.py"
    script.write_text(notebooks.code(notebook), encoding="utf-8")
    paths = os.pathsep.join([str(SOURCE), *sys.path])
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        env={**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert_same_report(done.stdout, notebooks.printed(notebook))


def test_every_figure_of_the_notebook_is_kept_with_a_text_for_those_who_cannot_see_it():
    notebook = notebooks.read(NOTEBOOK)
    described = [cell for cell in notebook.cells if cell.metadata.get("alt")]
    assert notebooks.pictures(notebook) == len(described) == 4
    assert NOTEBOOK.stat().st_size < 300_000


@pytest.mark.notebook
@pytest.mark.slow
def test_the_notebook_runs_in_jupyter_as_it_is_kept():
    pytest.importorskip("nbclient", reason="nbclient is not installed (`make notebook`)")
    kept = notebooks.read(NOTEBOOK)
    again = notebooks.read(NOTEBOOK)
    for cell in again.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    notebooks.execute(again)
    assert_same_report(notebooks.printed(again), notebooks.printed(kept))
    assert notebooks.pictures(again) == notebooks.pictures(kept)
