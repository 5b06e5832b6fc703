"""The status table of runs that are done, running, waiting or elsewhere."""

import fcntl
import os
import re
import subprocess
import sys
import time

import pytest

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
