"""Locks: one pipeline per folder, no script behind a dead pipeline, nothing to release by hand."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from sspo.config.errors import ConfigError
from sspo.pipeline.locks import (
    VARIABLE,
    _is_locked,
    follow_pipeline,
    hold_folder,
    holder,
    is_held,
    refuse_orphan,
    start_pipeline,
)
from support.paths import SOURCE

PIPELINE = """
import subprocess, sys, time
from sspo.pipeline.locks import start_pipeline
start_pipeline(sys.argv[1], patience=2.0)
subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]])
time.sleep(60)
"""
SCRIPT = """
import pathlib, sys, time
from sspo.pipeline.locks import follow_pipeline
follow_pipeline()
path = pathlib.Path(sys.argv[1], "written")
for i in range(600):
    path.write_text(str(i))
    time.sleep(0.02)
"""
HOLDER = """
import sys, time
from sspo.pipeline.locks import hold_folder
hold_folder(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


def start(program, *arguments, **variables):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), **variables}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        stream.close()


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline in another process, with one script that writes all the time."""
    process = start(PIPELINE, tmp_path, SCRIPT)
    wait_for((tmp_path / "written").exists)
    yield process
    kill(process)


@pytest.fixture(autouse=True)
def no_pipeline_around_the_test(monkeypatch):
    """Nor one that stays after it: locks are dropped with the list that holds their files."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr("sspo.pipeline.locks._HELD", [])


def test_a_second_pipeline_is_refused_with_the_first_ones_process(pipeline, tmp_path):
    with pytest.raises(ConfigError, match=rf"at work in .* \(process {pipeline.pid} on "):
        start_pipeline(tmp_path, patience=0.2)


def test_a_killed_pipeline_leaves_the_folder_free_and_its_scripts_end(pipeline, tmp_path):
    kill(pipeline)
    start_pipeline(tmp_path, patience=10.0)
    written = (tmp_path / "written").read_text()
    time.sleep(0.3)
    assert (tmp_path / "written").read_text() == written
    (alive,) = tmp_path.glob("alive-*")
    assert alive.name.startswith(f"alive-{os.getpid()}-")


def test_a_script_ends_also_when_nobody_reads_its_errors(pipeline, tmp_path):
    pipeline.stderr.close()
    pipeline.send_signal(signal.SIGKILL)
    pipeline.wait()
    start_pipeline(tmp_path, patience=10.0)


def test_scripts_that_do_not_end_stop_the_next_pipeline(tmp_path):
    stubborn = start(
        "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_SH);"
        "print('held', flush=True); time.sleep(60)",
        tmp_path / "jobs.lock",
    )
    assert stubborn.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match="scripts of an earlier pipeline still write"):
        start_pipeline(tmp_path, patience=0.3)
    kill(stubborn)


@pytest.mark.parametrize("left", ["file", "nothing"])
def test_a_script_that_starts_after_its_pipeline_died_ends_before_it_writes(tmp_path, left):
    if left == "file":
        (tmp_path / "alive-1").write_text(socket.gethostname())
    script = start(SCRIPT, tmp_path, **{VARIABLE: str(tmp_path / "alive-1")})
    _, error = script.communicate(timeout=20)
    assert script.returncode == 1
    assert error == "error: the pipeline that started this script is gone; stopped\n"
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("why", ["by hand", "other host"])
def test_a_script_without_a_pipeline_on_this_host_runs(tmp_path, why):
    (tmp_path / "alive-1").write_text("another-host")
    name = str(tmp_path / "alive-1") if why == "other host" else ""
    script = start(SCRIPT, tmp_path, **{VARIABLE: name})
    wait_for((tmp_path / "written").exists)
    assert script.poll() is None
    kill(script)


def test_a_runs_folder_has_one_writer_and_is_free_after_sigkill(tmp_path):
    folder = tmp_path / "run"
    holder = start(HOLDER, folder)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=r"run: another process is writing this run"):
        hold_folder(folder)
    kill(holder)
    hold_folder(folder)


def test_a_folder_is_held_only_while_its_writer_lives(tmp_path):
    folder = tmp_path / "run"
    assert not is_held(folder)
    holder = start(HOLDER, folder)
    assert holder.stdout.readline() == "held\n"
    assert is_held(folder)
    kill(holder)
    assert not is_held(folder)


def test_a_folder_knows_host_and_job_of_its_last_writer(monkeypatch, tmp_path):
    assert holder(tmp_path) == ""
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    hold_folder(tmp_path)
    assert holder(tmp_path) == f"{socket.gethostname()}, job 41"


# Inside this process: an open file has a lock of its own, so two opens stand for two processes


class Left(Exception):
    """Stands in for the end of the process."""


@pytest.fixture
def ended(monkeypatch):
    """Set when the process would have ended; on the main thread ``Left`` is raised as well."""
    event = threading.Event()

    def leave(code):
        assert code == 1
        event.set()
        if threading.current_thread() is threading.main_thread():
            raise Left

    monkeypatch.setattr("os._exit", leave)
    return event


def test_without_a_pipeline_nothing_is_followed(ended):
    follow_pipeline()
    assert not ended.is_set()


def pulses(folder):
    return {path.name: path.read_text() for path in folder.glob("pulse-*")}


def test_a_script_on_another_node_shows_a_pulse_and_ends_when_its_pipeline_is_replaced(
    ended, monkeypatch, tmp_path
):
    (tmp_path / "alive-1").write_text("another-host")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "alive-1"))
    monkeypatch.setattr("sspo.pipeline.locks.PULSE_SECONDS", 0.05)
    follow_pipeline()
    first = pulses(tmp_path)
    assert list(first) == [f"pulse-{socket.gethostname()}-{os.getpid()}"]
    wait_for(lambda: pulses(tmp_path) != first)
    assert not ended.is_set()
    assert not _is_locked(tmp_path / "jobs.lock")  # flock knows nothing of the script
    start_pipeline(tmp_path / "other")
    assert not ended.wait(0.2)
    start_pipeline(tmp_path)
    assert ended.wait(5.0)
    assert pulses(tmp_path) == {}


def test_a_pulse_that_goes_on_stops_the_next_pipeline(monkeypatch, tmp_path):
    monkeypatch.setattr("sspo.pipeline.locks.SILENCE_SECONDS", 0.3)
    beats = iter(range(1000))
    monkeypatch.setattr(
        "sspo.pipeline.locks._pulses", lambda folder: {"pulse-node7-12": str(next(beats))}
    )
    with pytest.raises(ConfigError, match=r"on other nodes \(pulse-node7-12\); cancel their jobs"):
        start_pipeline(tmp_path)


def test_a_pulse_that_stands_still_is_outwaited_and_removed(monkeypatch, tmp_path):
    monkeypatch.setattr("sspo.pipeline.locks.SILENCE_SECONDS", 0.3)
    (tmp_path / "pulse-node7-12").write_text("8")
    start_pipeline(tmp_path)
    assert pulses(tmp_path) == {}


def test_a_queued_job_is_refused_once_its_pipeline_has_been_replaced(monkeypatch, tmp_path):
    refuse_orphan()
    start_pipeline(tmp_path)  # sets the variable, as for every job it submits
    refuse_orphan()
    name = os.environ[VARIABLE]
    start_pipeline(tmp_path / "other")
    monkeypatch.setenv(VARIABLE, name)
    refuse_orphan()
    for alive in tmp_path.glob("alive-*"):
        alive.unlink()
    with pytest.raises(ConfigError, match="the pipeline that submitted this job is gone"):
        refuse_orphan()


@pytest.mark.parametrize("left", ["file", "nothing"])
def test_a_dead_pipeline_ends_the_process_at_once(ended, monkeypatch, tmp_path, left):
    if left == "file":
        (tmp_path / "alive-1").write_text(socket.gethostname())
    monkeypatch.setenv(VARIABLE, str(tmp_path / "alive-1"))
    with pytest.raises(Left):
        follow_pipeline()
    assert ended.is_set()


def test_a_living_pipeline_is_followed_to_its_end_and_its_scripts_are_counted(
    ended, monkeypatch, tmp_path
):
    alive = open(tmp_path / "alive-1", "w")  # noqa: SIM115
    alive.write(socket.gethostname())
    alive.flush()
    fcntl.flock(alive, fcntl.LOCK_EX)
    monkeypatch.setenv(VARIABLE, alive.name)
    held = []
    monkeypatch.setattr("sspo.pipeline.locks._HELD", held)
    follow_pipeline()
    assert not ended.wait(0.2)
    with pytest.raises(BlockingIOError), open(tmp_path / "jobs.lock", "a") as jobs:
        fcntl.flock(jobs, fcntl.LOCK_EX | fcntl.LOCK_NB)
    alive.close()
    assert ended.wait(10.0)
    held.clear()
