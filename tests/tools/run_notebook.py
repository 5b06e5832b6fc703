"""Run a notebook and keep in it what it prints and draws: ``python tests/tools/run_notebook.py FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import notebooks

if __name__ == "__main__":
    file = Path(sys.argv[1])
    notebook = notebooks.read(file)
    notebooks.execute(notebook)
    nbformat.write(notebook, file)
