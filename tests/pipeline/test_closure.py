"""House rules that import-linter cannot hold: declared code, and dangerous calls."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from sspo.pipeline.closure import NO_RESULT, code_files
from support.paths import ROOT, SOURCE

MODULES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_rules_declared_code_holds_every_module_its_script_imports(script):
    if script.stem == "train_trl":
        pytest.importorskip("trl", reason="TRL is not installed (`make trl`)")
    declared = {*code_files(script)}
    program = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);"
        "print(*[m.__file__ for n, m in list(sys.modules.items()) if n.split('.')[0] == 'sspo'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(script)],
        check=True, capture_output=True, text=True, env={"PYTHONPATH": str(SOURCE), "PATH": ""},
    )  # fmt: skip
    imported = {Path(file).resolve() for file in ran.stdout.split()}
    changes_results = {file for file in imported if not left_out(file)}
    assert changes_results <= declared
    assert not any(left_out(file) for file in declared - {script})


def left_out(file):
    """Whether a module cannot change a result: one of ``NO_RESULT``, or without a statement."""
    module = ".".join(file.relative_to(SOURCE).with_suffix("").parts)
    if any(f"{module}.".startswith(f"{name}.") for name in NO_RESULT):
        return True
    return all(isinstance(node, ast.Expr) for node in ast.parse(file.read_text()).body)


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
