"""The status table of runs that are done, running, waiting or elsewhere."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from sspo.config.profile import read_profile
from sspo.experiment.expand import expand_profile
from sspo.pipeline.files import write_json
from sspo.pipeline.locks import hold_folder
from sspo.training.progress import Progress
from support.paths import ROOT

pytestmark = pytest.mark.slow


def test_status_tells_done_running_and_waiting_runs_apart(tmp_path):
    for name in ("done", "running", "stopped", "waiting", "torn"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    for name in ("done", "running", "stopped"):
        Progress(tmp_path / "runs" / name / "progress.json", name, 4)(2, {"reward": 0.5}, 1.0)
    hold_folder(tmp_path / "runs" / "running")
    (tmp_path / "runs" / "torn" / "progress.json").write_text('{"run": ')
    (tmp_path / "runs" / "done" / "model").mkdir()
    for file in ("model/model.safetensors", "metrics.jsonl"):
        (tmp_path / "runs" / "done" / file).write_text("")
    command = [sys.executable, ROOT / "workflow/scripts/status.py", "--results", tmp_path]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    states = {line.split()[0]: line.split()[-1] for line in table.splitlines()[1:-1]}
    expected = {name: name for name in ("done", "running", "stopped", "waiting")}
    assert states == {**expected, "torn": "waiting"}
    assert table.splitlines()[-1] == "1 of 5 done"
    imported = tmp_path / "bases" / "imported"
    (imported / "model").mkdir(parents=True)
    (imported / "config.json").write_text('{"checkpoint": {}}')
    (imported / "model" / "model.safetensors").write_text("")
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert table.splitlines()[1].split() == ["imported", "done"]
    assert table.splitlines()[-1] == "2 of 6 done"


def status(results, *arguments):
    command = [
        sys.executable,
        ROOT / "workflow/scripts/status.py",
        "--results",
        results,
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_status_names_the_runs_that_an_edit_of_the_profile_made_stale(tmp_path):
    profile = tmp_path / "config/mine.yaml"
    shutil.copytree(ROOT / "config", profile.parent)
    configs = expand_profile(read_profile([ROOT / "config/default.yaml"]), "default.yaml")
    for place in ("base", "runs/sspo-s0", "runs/grpo-s0", "runs/sspo-s1"):
        write_json(tmp_path / place / "config.json", configs[place])
        for file in ("model/model.safetensors", "metrics.jsonl"):
            (tmp_path / place / file).parent.mkdir(exist_ok=True)
            (tmp_path / place / file).touch()
    (tmp_path / "runs/sspo-s1/metrics.jsonl").unlink()
    profile.write_text("methods: {sspo: {params: {tau_pos: 2.0}}}\n")
    done = status(tmp_path, "--config", profile, "--remake", "make reproduce CONFIG=mine")
    assert done.returncode == 0, done.stderr
    states = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines()[1:5]}
    assert states == {"base": "done", "grpo-s0": "done", "sspo-s0": "stale", "sspo-s1": "waiting"}
    assert done.stdout.splitlines()[5:] == [
        "2 of 4 done",
        f"{profile}: changed since the results were made",
        "  objective.params.tau_pos = 2.0, was 1.0 (runs/sspo-s0, runs/sspo-s1)",
        "`make reproduce CONFIG=mine` makes again what depends on that",
    ]
    profile.write_text("{}\n")
    assert status(tmp_path, "--config", profile).stdout.splitlines()[5:] == ["3 of 4 done"]


def test_status_before_a_run_names_the_command_that_starts_it(tmp_path):
    done = status(tmp_path, "--remake", "make reproduce CONFIG=evidence")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path}: no runs yet; start them with `make reproduce CONFIG=evidence`\n"
    )


def test_status_gives_the_last_sign_of_a_run_on_another_node(tmp_path):
    folder = tmp_path / "runs" / "sspo-s0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    Progress(folder / "progress.json", "sspo-s0", 4)(2, {}, 1.0)
    (folder / ".lock").write_text("node7, job 41")
    for file in ("progress.json", ".lock"):
        os.utime(folder / file, (0, time.time() - 100))
    command = [sys.executable, ROOT / "workflow/scripts/status.py", "--results", tmp_path]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"2/4 .* on node7, job 41, last sign 1\d\d s ago$", table, flags=re.MULTILINE)
    lock = open(folder / ".lock", "a")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lock.close()
    assert re.search(r"2/4 .* running on node7, job 41$", table, flags=re.MULTILINE)
