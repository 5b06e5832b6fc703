"""Snakemake over this checkout's workflow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT, SOURCE

BIN = Path(sys.executable).parent


def snakemake(folder, *arguments, snakefile=ROOT / "Snakefile"):
    """What Snakemake says of a workflow whose results lie in a folder of their own."""
    place = ("--snakefile", snakefile, "--directory", folder, "--workflow-profile", "none")
    done = subprocess.run(
        [BIN / "snakemake", *place, "--cores", "2", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PATH": f"{BIN}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
