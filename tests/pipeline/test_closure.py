"""The code that a rule declares holds every module that its script imports."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sspo.pipeline.closure import code_files
from support.left_out import left_out
from support.paths import ROOT, SOURCE

SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))


# Reads paths of scripts and writes, for each, a line of the project's modules that it imports. PyTorch and
# its kin are imported once; every script then runs in a fork of its own.
IMPORTS = """
import json, os, runpy, sys
import matplotlib.figure, pandas, pydantic, scipy.stats, torch
from transformers import AutoModelForCausalLM, Qwen2ForCausalLM
for script in sys.argv[1:]:
    if os.fork() == 0:
        runpy.run_path(script)
        ours = [m.__file__ for n, m in list(sys.modules.items()) if n.split(".")[0] == "sspo"]
        print(json.dumps([script, ours]), flush=True)
        os._exit(0)
    if os.wait()[1] != 0:
        sys.exit("cannot be imported: " + script)
"""


@pytest.fixture(scope="module")
def imported():
    """Script -> files of the project's modules that it imports."""
    scripts = [s for s in SCRIPTS if s.stem != "train_trl" or importlib.util.find_spec("trl")]
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTS, *map(str, scripts)],
        check=True, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(SOURCE), "PATH": ""},
    )  # fmt: skip
    return dict(json.loads(line) for line in ran.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_rules_declared_code_holds_every_module_its_script_imports(script, imported):
    if str(script) not in imported:
        pytest.skip("TRL is not installed (`make trl`)")
    declared = {*code_files(script)}
    files = {Path(file).resolve() for file in imported[str(script)]}
    assert {file for file in files if not left_out(file)} <= declared
    assert not any(left_out(file) for file in declared - {script})
