"""`make verify`: one flipped byte anywhere is found and named, with everything made from that file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sspo.config.profile import read_profile
from sspo.experiment.expand import expand_profile
from sspo.pipeline.files import write_json
from sspo.pipeline.provenance import ROOT, write_record
from sspo.pipeline.verification import verify

SCRIPT = ROOT / "workflow" / "scripts" / "write_config.py"
EVERYTHING = {
    "results/data/train.jsonl",
    "results/runs/a/metrics.jsonl",
    "results/runs/a/model/weights",
    "results/runs/b/metrics.jsonl",
    "results/summary/metrics.csv",
    "figures/f1.png",
    "figures/f1.pdf",
}


def make(name, content, folder=Path(".")):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def build(model=b"weights"):
    """config -> data -> runs a and b -> table -> figure, each with its record."""
    write_json("results/data/config.json", {"seed": 0})
    data = make("results/data/train.jsonl", b'{"id": "0"}\n')
    config = "results/data/config.json"
    write_record("results/data/provenance.json", SCRIPT, inputs=[config], outputs=[data], seeds=[0])
    tables = []
    for run in "ab":
        write_json(f"results/runs/{run}/config.json", {"run": run})
        made = [make(f"results/runs/{run}/metrics.jsonl", run.encode())]
        if run == "a":
            made.append(make("results/runs/a/model/weights", model))
        inputs = [f"results/runs/{run}/config.json", data]
        write_record(f"results/runs/{run}/provenance.json", SCRIPT, inputs=inputs, outputs=made)
        tables += made
    table = make("results/summary/metrics.csv", b"step\n1\n")
    write_record("results/summary/provenance.json", SCRIPT, inputs=tables, outputs=[table])
    drawn = [make("figures/f1.png", b"\x89PNG"), make("figures/f1.pdf", b"%PDF")]
    write_record("figures/f1.json", SCRIPT, inputs=[table], outputs=drawn, figure="f1")
    write_record("results/environment.json", SCRIPT, inputs=[], outputs=[])
    for timed in (
        "results/logs/train/a.log",
        "results/benchmarks/a.tsv",
        "results/plan/rates.json",
        "results/report.html",
    ):
        make(timed, b"12:00")
    make("results/README.md", b"What appears here.")
    make("figures/README.md", b"What appears here.")
    make("results/runs/a/progress.json", b"{}")
    make("results/runs/a/tensorboard/events.out.tfevents.1", b"12:00")
    make("results/runs/a/wandb/run-1/files/output.log", b"12:00")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        build()
    return folder


@pytest.fixture
def experiment(built, tmp_path, monkeypatch):
    """The working folder, with a copy of the experiment in it."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def check():
    return verify("results", "figures")


def problems():
    return {problem.path: problem for problem in check().problems}


def flip(path, position):
    content = bytearray(Path(path).read_bytes())
    content[position] ^= 1
    Path(path).write_bytes(content)


def test_an_intact_experiment_has_no_problem(experiment):
    verdict = check()
    assert verdict.problems == []
    assert verdict.records == 6
    assert verdict.files == 7 + 3 + 6  # results, configs, records


def recorded_files():
    names = [*EVERYTHING, "results/data/config.json", "results/runs/a/config.json"]
    places = ("results/data", "results/runs/a", "results/runs/b", "results/summary")
    names += [f"{place}/provenance.json" for place in places]
    return sorted([*names, "results/environment.json", "figures/f1.json"])


@pytest.mark.parametrize("path", recorded_files())
@pytest.mark.parametrize("position", [0, -1, "middle"])
def test_one_flipped_byte_anywhere_is_found_and_named(experiment, path, position):
    size = Path(path).stat().st_size
    flip(path, size // 2 if position == "middle" else position)
    assert path in problems()


@pytest.mark.parametrize(
    ("path", "affected"),
    [
        ("results/data/config.json", EVERYTHING),
        ("results/data/train.jsonl", EVERYTHING - {"results/data/train.jsonl"}),
        (
            "results/runs/b/metrics.jsonl",
            {"results/summary/metrics.csv", "figures/f1.png", "figures/f1.pdf"},
        ),
        (
            "results/runs/a/config.json",
            EVERYTHING - {"results/data/train.jsonl", "results/runs/b/metrics.jsonl"},
        ),
        ("results/summary/metrics.csv", {"figures/f1.png", "figures/f1.pdf"}),
        ("figures/f1.png", set()),
    ],
)
@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_bad_file_puts_everything_made_from_it_in_doubt(experiment, path, affected, damage):
    flip(path, 0) if damage == "flip" else Path(path).unlink()
    found = problems()
    assert set(found) == {path}
    assert found[path].affected == affected
    assert found[path].what.startswith("missing" if damage == "remove" else "changed since ")


def test_what_was_made_with_a_config_that_is_left_behind_is_stale_and_no_problem(experiment):
    verdict = verify("results", "figures", ["results/runs/b/config.json"])
    assert verdict.problems == []
    assert verdict.stale == {
        *("results/runs/b/metrics.jsonl", "results/summary/metrics.csv"),
        *("figures/f1.png", "figures/f1.pdf"),
    }
    assert verify("results", "figures", ["results/data/config.json"]).stale == EVERYTHING
    assert check().stale == set()


def test_a_result_made_anew_leaves_what_was_made_from_the_old_one_in_doubt(experiment):
    keep = Path("results/summary/provenance.json").read_bytes()
    build(model=b"other weights")
    Path("results/summary/provenance.json").write_bytes(keep)
    (problem,) = check().problems
    assert problem.path == "results/runs/a/model/weights"
    assert problem.what == "changed since results/summary/provenance.json used it"
    assert problem.affected == {"results/summary/metrics.csv", "figures/f1.png", "figures/f1.pdf"}


def test_an_edited_module_puts_the_results_of_its_scripts_in_doubt(experiment, monkeypatch):
    record = json.loads(Path("figures/f1.json").read_text())
    assert "workflow/scripts/write_config.py" in record["code"]
    assert "src/sspo/experiment/tuning.py" in record["code"]
    real = verify.__globals__["sha256_file"]
    edited = str(ROOT / "src/sspo/experiment/tuning.py")
    monkeypatch.setitem(
        verify.__globals__, "sha256_file", lambda p: "0" if str(p) == edited else real(p)
    )
    (problem,) = check().problems
    assert problem.path == edited
    assert problem.affected >= EVERYTHING


def test_an_edited_lock_puts_nothing_in_doubt(experiment, monkeypatch):
    real = verify.__globals__["sha256_file"]
    monkeypatch.setitem(
        verify.__globals__,
        "sha256_file",
        lambda p: "0" if str(p).startswith(str(ROOT / "src/sspo/pipeline")) else real(p),
    )
    assert check().problems == []


@pytest.mark.parametrize(
    "name", ["results/runs/a/model/extra", "figures/f9.png", "results/eval.json", "figures/x.json"]
)
def test_a_file_no_record_knows_is_named(experiment, name):
    make(name, b"{}")
    assert {path: p.what for path, p in problems().items()} == {name: "no record knows it"}


def test_a_missing_record_leaves_its_results_unknown(experiment):
    Path("results/runs/b/provenance.json").unlink()
    found = problems()
    assert found["results/runs/b/config.json"].what == "no record knows it"


@pytest.mark.parametrize(
    "key", ["commit", "config_sha256", "inputs", "outputs", "code", "versions", "seeds", "sha256"]
)
def test_a_record_without_one_of_its_keys_is_damaged(experiment, key):
    record = json.loads(Path("results/data/provenance.json").read_text())
    del record[key]
    write_json("results/data/provenance.json", record)
    assert problems()["results/data/provenance.json"].what == "a record that was changed or damaged"


def test_a_record_whose_values_were_edited_is_damaged(experiment):
    record = json.loads(Path("results/data/provenance.json").read_text())
    write_json("results/data/provenance.json", {**record, "commit": "0" * 40})
    assert set(problems()) == {"results/data/provenance.json"}


def test_a_record_whose_layout_was_changed_is_damaged(experiment):
    record = Path("figures/f1.json")
    record.write_bytes(record.read_bytes().replace(b"  ", b" \t", 1))
    assert set(problems()) == {"figures/f1.json"}


def test_another_experiment_nested_in_the_results_is_left_out(experiment):
    shutil.copytree("results", "copied")
    shutil.move("copied", "results/smoke")
    make("results/smoke/settings/config.json", b"{}")
    make("results/smoke/runs/a/model/weights", b"damaged")
    make("figures/smoke/f1.png", b"damaged")
    assert check().problems == []


def test_two_builds_of_one_experiment_give_equal_records(experiment, tmp_path):
    before = {p: p.read_bytes() for p in Path().rglob("*.json")}
    build()
    assert {p: p.read_bytes() for p in Path().rglob("*.json")} == before


def run_script(*arguments):
    command = [sys.executable, ROOT / "workflow/scripts/verify.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SSPO_PIPELINE": ""}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_script_counts_when_all_is_well_and_names_what_is_not(experiment):
    folders = ("--results", "results", "--figures", "figures")
    done = run_script(*folders)
    assert (done.returncode, done.stdout, done.stderr) == (0, "16 files match 6 records\n", "")
    flip("results/summary/metrics.csv", 0)
    done = run_script(*folders)
    assert done.returncode == 1
    assert "results/summary/metrics.csv: changed since" in done.stderr
    assert "  made from it: figures/f1.png" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 16 files do not match")


def test_the_script_names_what_an_edit_of_the_profile_made_stale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = ("--results", "results", "--figures", "figures")
    edited = Path("config/edited.yaml")
    shutil.copytree(ROOT / "config", "config")
    profile = read_profile([edited.with_name("default.yaml")])
    write_json("results/base/config.json", expand_profile(profile, "default.yaml")["base"])
    model = make("results/base/model/weights", b"weights")
    write_record(
        "results/base/provenance.json", SCRIPT, inputs=["results/base/config.json"], outputs=[model]
    )
    edited.write_text("pretrain: {seed: 5}\n")
    done = run_script(*folders, "--config", "config/default.yaml")
    assert done.returncode == 0, done.stderr
    done = run_script(*folders, "--config", str(edited), "--remake", "make reproduce CONFIG=edited")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "config/edited.yaml: changed since the results were made",
        "  seed = 5, was 0 (base)",
        "  made from it: results/base/model/weights",
        "error: 1 of 3 files are stale; run `make reproduce CONFIG=edited` again",
    ]
    flip("results/base/model/weights", 0)
    done = run_script(*folders, "--config", str(edited))
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: 1 of 3 files do not match their records, 1 of 3 files are stale")


def test_the_script_refuses_a_folder_without_records(tmp_path):
    folders = ("--results", str(tmp_path), "--figures", str(tmp_path))
    done = run_script(*folders, "--remake", "make reproduce CONFIG=smoke")
    assert done.returncode == 1
    assert "no records here; make results with `make reproduce CONFIG=smoke`" in done.stderr
