"""Records of finished runs: packed once, restored as they were, and enough for Snakemake to go on from."""

from __future__ import annotations

import runpy
import shutil
import tarfile

import pytest

from sspo.config.errors import ConfigError
from support.paths import ROOT
from support.pipelines import STUDY, Workspace, pretended_study

pytestmark = pytest.mark.slow
RECORDS = runpy.run_path(str(ROOT / "workflow/scripts/records.py"))


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    return pretended_study(tmp_path_factory.mktemp("studied"))


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_restored_files_are_the_packed_ones_without_weights_and_texts_of_runs(studied, tmp_path):
    results = studied.folder / "results"
    RECORDS["pack"](results, tmp_path / "records")
    RECORDS["restore"](tmp_path / "back", tmp_path / "records")
    before, after = contents(results), contents(tmp_path / "back")
    assert after
    assert after.items() <= before.items()
    names = {name.split("/")[-1] for name in after if name.startswith("runs/")}
    assert names == {
        "config.json",
        "metrics.jsonl",
        "provenance.json",
        "scores.csv.gz",
        "eval.json",
        "eval.provenance.json",
    }
    assert {f"base/model/{path.name}" for path in (results / "base/model").iterdir()} <= {*after}


def test_a_later_archive_holds_only_what_finished_since(studied, tmp_path):
    results, records = tmp_path / "results", tmp_path / "records"
    shutil.copytree(studied.folder / "results", results)
    shutil.move(results / "runs/sspo-s0", tmp_path / "unfinished")
    RECORDS["pack"](results, records)
    assert "nothing finished" in RECORDS["pack"](results, records)
    shutil.move(tmp_path / "unfinished", results / "runs/sspo-s0")
    RECORDS["pack"](results, records)
    with tarfile.open(records / "02.tar.xz") as tar:
        assert {name.rsplit("/", 1)[0] for name in tar.getnames()} == {"runs/sspo-s0"}


def test_a_run_without_its_evaluation_is_not_finished_unless_it_is_a_trial(studied, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(studied.folder / "results", results)
    (results / "runs/sspo-s0/eval.provenance.json").unlink()
    kept = {path.parent.name for path in RECORDS["finished"](results)}
    assert "sspo-s0" not in kept
    assert {"sspo-tuning0-s9", "grpo-s0"} <= kept


def test_snakemake_makes_only_what_was_not_restored(studied, tmp_path):
    """Summaries and figures are made again from records alone; no run is trained or evaluated anew."""
    RECORDS["pack"](studied.folder / "results", tmp_path / "records")
    elsewhere = Workspace(tmp_path / "elsewhere", fake=True)
    elsewhere.edit(**STUDY)
    RECORDS["restore"](elsewhere.folder / "results", tmp_path / "records")
    shutil.rmtree(elsewhere.folder / "results/runs/sspo-s0")
    planned = elsewhere.planned()
    assert "summarize" in planned
    made = {"prepare_data", "pretrain", "train", "train_control", "evaluate"}
    assert {job for job in planned if job.split(":")[0] in made} == {
        "train:sspo-s0",
        "evaluate:runs/sspo-s0",
    }


def test_an_empty_folder_of_records_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no archives here; `make records` packs them"):
        RECORDS["restore"](tmp_path, tmp_path)
