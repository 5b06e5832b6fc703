"""House rules that import-linter cannot hold: declared code, and dangerous calls."""

import subprocess
import sys
from pathlib import Path

import pytest

from sspo.pipeline.closure import import_closure
from support.paths import ROOT, SOURCE

MODULES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_rules_declared_code_holds_every_module_its_script_imports(script):
    if script.stem == "train_trl":
        pytest.importorskip("trl", reason="TRL is not installed (`make trl`)")
    declared = {Path(file).resolve() for file in import_closure(script, SOURCE)}
    program = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);"
        "print(*[m.__file__ for n, m in list(sys.modules.items()) if n.split('.')[0] == 'sspo'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(script)],
        check=True, capture_output=True, text=True, env={"PYTHONPATH": str(SOURCE), "PATH": ""},
    )  # fmt: skip
    imported = {Path(file).resolve() for file in ran.stdout.split()}
    assert imported <= declared


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_module_evaluates_text_or_trusts_remote_code(module):
    text = module.read_text(encoding="utf-8")
    for danger in (
        " eval(",
        " exec(",
        "pickle",
        "torch.load",
        "shell=True",
        "trust_remote_code=True",
    ):
        assert danger not in text, danger
