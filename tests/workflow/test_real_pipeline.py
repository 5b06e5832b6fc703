"""The tiny pipeline run for real, once, with a new objective, and what holds for its results."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sspo.figures.registry import module_of
from sspo.pipeline.closure import SOURCE, code_files
from sspo.pipeline.verification import figure_files, result_files, verify
from support.paths import ROOT
from support.pipelines import STUDY, Workspace

pytestmark = pytest.mark.slow

NEW_OBJECTIVE = '''

def reinforce(batch, *, scale):
    """Plain REINFORCE, scaled."""
    return scale * batch.advantages * batch.logprobs, torch.ones_like(batch.advantages)


LOSSES["reinforce"] = Objective(reinforce, "token")
'''


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The tiny pipeline run for real with a new objective: one function, table and YAML entry."""
    workspace = Workspace(tmp_path_factory.mktemp("real"), fake=False)
    workspace.append("src/sspo/objectives/losses.py", NEW_OBJECTIVE)
    workspace.edit(
        **STUDY,
        tuning__params={"reinforce": [{"scale": 1.0}], "sspo": STUDY["tuning"]["params"]["sspo"]},
        experiment__methods=["reinforce", "sspo"],
        experiment__seeds=[0],
        methods__reinforce={
            "label": "REINFORCE",
            "color": "#123456",
            "objective": "reinforce",
            "params": {"scale": 1.0},
        },
    )
    workspace.run("--cores", "2")
    return workspace


def test_a_new_objective_needs_one_function_one_table_entry_and_one_yaml_entry(real):
    steps = (real.folder / "results/runs/reinforce-s0/metrics.jsonl").read_text().splitlines()
    assert len(steps) == 3
    assert "reinforce" in (real.folder / "results/summary/evaluations.csv").read_text()
    assert (real.folder / "figures/f3_accuracy.png").stat().st_size > 10_000


def test_no_script_loads_a_module_that_its_rule_does_not_declare(real):
    """Locks and settings aside: what a config leaves out of the declared code is really not used."""
    scripts = set()
    for note in map(json.loads, (path.read_text() for path in real.folder.glob("loaded/*"))):
        arguments = note["arguments"]
        script = Path(arguments[0])
        scripts.add(script.stem)
        config = None
        if script.stem in ("prepare_data", "pretrain", "train", "train_control", "evaluate"):
            file = real.folder / arguments[arguments.index("--config") + 1]
            config = json.loads(file.read_text())
        modules = []  # of a figure or a table: loaded by name
        if script.stem in ("plot", "write_table"):
            modules = [module_of(Path(arguments[arguments.index("--output") + 1]).stem)]
        code = code_files(ROOT / script, *modules, config=config)[1:]
        declared = {str(path.relative_to(SOURCE)) for path in code}
        loaded = {str(Path(file).relative_to(real.folder / "src")) for file in note["files"]}
        undeclared = {file for file in loaded - declared if not file.endswith("__init__.py")}
        assert all(file.startswith(("sspo/pipeline/", "sspo/config/")) for file in undeclared)
    assert {"prepare_data", "pretrain", "train", "train_control", "evaluate", "judge"} <= scripts


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_verify_finds_one_flipped_byte_in_every_file_of_a_real_experiment(real, monkeypatch):
    monkeypatch.chdir(real.folder)
    monkeypatch.setattr("sspo.pipeline.verification.ROOT", real.folder)
    intact = verify("results", "figures")
    assert intact.problems == []
    assert intact.files > 80
    results, figures = {*result_files(Path("results"))}, {*figure_files(Path("figures"))}
    records = {file for file in results if file.name.endswith("provenance.json")}
    records |= {file for file in figures if file.suffix == ".json"}
    # A record beside the file that it vouches for would hide which of the two was found.
    for flipped in ((results | figures) - records, records):
        for path in flipped:
            flip(path)
        found = {problem.path for problem in verify("results", "figures").problems}
        for path in flipped:
            flip(path)
        assert found >= {str(path) for path in flipped}
    assert verify("results", "figures").problems == []


def test_one_core_and_two_cores_give_the_same_results(real, tmp_path):
    other = Workspace.__new__(Workspace)
    other.folder, other.path = tmp_path / "copy", real.path
    made = {"results", "figures", ".snakemake"}
    shutil.copytree(
        real.folder,
        other.folder,
        ignore=lambda folder, names: made & {*names} if Path(folder) == real.folder else set(),
    )
    other.run(
        "--cores", "1", "results/runs/sspo-s0/eval.json", "results/runs/supervised-s0/eval.json"
    )
    for run in ("sspo-s0", "supervised-s0"):
        for name in ("metrics.jsonl", "completions.jsonl.gz", "model/model.safetensors"):
            files = [w.folder / "results" / "runs" / run / name for w in (real, other)]
            assert files[0].read_bytes() == files[1].read_bytes(), (run, name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [("missing", "base/model: no checkpoint here"), ("truncated", "base/model: checkpoint cannot")],
)
def test_a_damaged_base_checkpoint_stops_a_run_with_one_line(real, tmp_path, damage, message):
    results = tmp_path / "results"
    shutil.copytree(real.folder / "results", results)
    model = results / "base" / "model"
    if damage == "missing":
        (model / "config.json").unlink()
    else:
        weights = (model / "model.safetensors").read_bytes()
        (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    run = results / "runs" / "sspo-s0"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    command = [sys.executable, ROOT / "workflow/scripts/train.py"]
    arguments = {
        "config": run / "config.json",
        "base": model,
        "problems": results / "data/train.jsonl",
        "validation": results / "data/validation.jsonl",
        "tracking": results / "tracking/config.json",
        "output": run,
    }
    command += [part for name, path in arguments.items() for part in (f"--{name}", path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
