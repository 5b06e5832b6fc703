"""Notebooks: their code as a script, what they print, and how they run in Jupyter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat


def read(path: Path) -> Any:
    """A notebook, checked against the format."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code(notebook: Any) -> str:
    """All cells of code, as one script."""
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def printed(notebook: Any) -> str:
    """What all cells have printed."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return "".join(out.text for out in outputs if out.output_type == "stream")


def pictures(notebook: Any) -> int:
    """How many figures the notebook shows."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return sum("image/png" in out.get("data", {}) for out in outputs)


def execute(notebook: Any) -> None:
    """Run all cells in a kernel of this environment; no times and no versions are kept."""
    from nbclient import NotebookClient  # in the extra `notebook`

    metadata = dict(notebook.metadata)
    NotebookClient(notebook, timeout=120, kernel_name="python3", record_timing=False).execute()
    notebook.metadata = nbformat.from_dict(metadata)
