"""The house rules: which module may know which, and what a rule declares as its code."""

import subprocess
import sys
from pathlib import Path

import pytest

from sspo.provenance import import_closure

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
MODULES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))
# The package offers its engines lazily, so whoever imports Completion could reach them.
ENGINES = ("torch_engine", "vllm_engine", "vllm_server")
ROLLOUT = {f"rollout/{name}" for name in ("__init__", "engine", "decoder", *ENGINES)}
ROLLOUT |= {"architectures"}


def closure(name):
    """Project modules that ``sspo.<name>`` imports, directly or not, by short name."""
    files = import_closure(SOURCE / "sspo" / f"{name.replace('.', '/')}.py", SOURCE)
    return {Path(f).relative_to(SOURCE / "sspo").with_suffix("").as_posix() for f in files}


@pytest.mark.parametrize(
    ("module", "may_know"),
    [
        ("gates", {"gates"}),
        ("advantages", {"advantages"}),
        ("batch", {"batch"}),
        ("losses", {"losses", "gates", "batch"}),
        ("config", {"config"}),
        ("study_config", {"study_config", "config"}),
        ("tasks", {"tasks"}),
        ("metrics", {"metrics", "files"}),
        ("tracking", {"tracking", "metrics", "config", "files"}),
        ("statistics", {"statistics"}),
        ("comparisons", {"comparisons", "statistics"}),
        ("learning", {"learning", "statistics"}),
        ("rollout/engine", {"rollout/engine", "rollout/__init__"}),
        ("datasets", {"datasets", "typesetting", "config", "files"}),
        ("overlap", {"overlap", "datasets", "typesetting", "config", "files"}),
        (
            "benchmarks",
            {"benchmarks", "datasets", "math_answers", "typesetting", "config", "files"},
        ),
        (
            "math_data",
            {"math_data", "benchmarks", "datasets", "overlap", "rewards", "math_reward"}
            | {
                "typesetting",
                "math_answers",
                "math_worker",
                "study_config",
                "config",
                "files",
                *ROLLOUT,
            },
        ),
        ("checkpoint", {"checkpoint", "config"}),
        ("locks", {"locks", "config"}),
        ("files", {"files"}),
        ("provenance", {"provenance", "files"}),
        ("verification", {"verification", "provenance", "files"}),
        ("policy", {"policy", "architectures", "lora", "config"}),
        ("launch_file", {"launch_file", "config"}),
        ("plan", {"plan", "launch_file", "study_config", "config", "places", "schema", "tasks"}),
        ("model_size", {"model_size", "pretrained", "policy", "architectures", "lora", "config"}),
        (
            "footprint",
            {"footprint", "plan", "launch_file", "study_config", "places", "schema", "tasks"}
            | {"model_size", "pretrained", "policy", "architectures", "lora", "config"},
        ),
        ("math_answers", {"math_answers", "typesetting"}),
        ("math_worker", {"math_worker"}),
        (
            "rewards",
            {"rewards", "math_reward", "math_answers", "math_worker", "typesetting", "config"}
            | {*ROLLOUT},
        ),
    ],
)
def test_imports_point_one_way(module, may_know):
    allowed = may_know | ({*ROLLOUT, "config"} if module.startswith("rollout") else set())
    allowed |= {"typed"} if "config" in allowed else set()
    assert closure(module) - {"__init__"} <= allowed


@pytest.mark.parametrize(
    "module", ["trainer", "update", "evaluation", "losses", "policy", "supervised"]
)
def test_the_core_knows_neither_plots_nor_provenance_nor_the_session(module):
    forbidden = {"plotting", "curves", "tables", "statistics", "provenance", "session", "cli"}
    forbidden |= {"locks", "replay", "verification", "tracking"}
    assert not closure(module) & forbidden


@pytest.mark.parametrize("module", ["exact", "staleness"])
def test_the_exact_study_rests_on_the_objectives_alone(module):
    core = {"exact", "staleness", "losses", "gates", "batch", "advantages"}
    core |= {"study_config", "config", "typed"}
    assert closure(module) - {"__init__"} <= core


@pytest.mark.parametrize(
    "module", ["plotting", "curves", "tables", "statistics", "claims_report", "study_figures"]
)
def test_figures_never_reach_torch(module):
    for name in closure(module):
        text = (SOURCE / "sspo" / f"{name}.py").read_text(encoding="utf-8")
        assert "import torch" not in text, name


def test_nothing_in_src_knows_snakemake():
    users = [m.name for m in MODULES if "import snakemake" in m.read_text(encoding="utf-8")]
    assert users == []


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
