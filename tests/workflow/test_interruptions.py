"""The pipeline under SIGKILL and started twice: it goes on by itself, and never twice at once."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time

import pytest

from support.pipelines import FAKE_PYTHON, Background, Workspace, copy_of, results_of, wait_for

pytestmark = pytest.mark.kills

# Before it writes, a pretended training run signs in and waits for the file "go".
SLOW_TRAINING = """
if script == "train":
    import time
    from sspo.pipeline.locks import follow_pipeline
    follow_pipeline()
    output = pathlib.Path(arguments[arguments.index("--output") + 1])
    output.mkdir(parents=True, exist_ok=True)
    while not pathlib.Path("go").exists():
        (output / "at-work").write_text(str(time.monotonic()))
        time.sleep(0.02)
"""


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path, fake=True)
    fake = FAKE_PYTHON.format(python=sys.executable)
    slow = fake.replace("\noutput = ", SLOW_TRAINING + "output = ", 1)
    (tmp_path / "bin" / "stand_in.py").write_text(slow)
    return workspace


@pytest.fixture
def running(workspace):
    """The pipeline while its first training run is at work."""
    pipeline = Background(workspace)
    wait_for(lambda: at_work(workspace) or pipeline.process.poll() is not None)
    assert at_work(workspace), pipeline.finish()
    yield pipeline
    pipeline.clean_up()


def at_work(workspace):
    return sorted(workspace.folder.glob("results/runs/*/at-work"))


@pytest.mark.parametrize("group", [True, False], ids=["whole group", "head alone"])
def test_after_sigkill_the_same_command_goes_on_without_unlocking(workspace, running, group):
    running.kill(group=group)
    if group:
        assert not scripts_write(workspace)
    pipeline = Background(workspace)
    train_again(workspace, pipeline)
    (workspace.folder / "go").touch()
    code, output = pipeline.finish()
    assert code == 0, output
    assert "prepare_data" not in jobs(output)  # what was finished is kept
    assert workspace.planned() == set()


def train_again(workspace, pipeline):
    """Wait until the new pipeline's first training run has signed in."""
    for file in at_work(workspace):
        file.unlink(missing_ok=True)
    wait_for(lambda: at_work(workspace) or pipeline.process.poll() is not None)
    assert at_work(workspace), pipeline.finish()


def scripts_write(workspace):
    before = [file.read_text() for file in at_work(workspace)]
    time.sleep(0.3)
    return before != [file.read_text() for file in at_work(workspace)]


def jobs(output):
    return set(re.findall(r"^rule (\w+):", output, flags=re.MULTILINE))


def test_scripts_of_a_killed_pipeline_stop_writing_by_themselves(workspace, running):
    assert scripts_write(workspace)
    running.kill(group=False)
    wait_for(lambda: not scripts_write(workspace), seconds=10.0)


def test_a_second_pipeline_in_the_same_folder_is_refused(workspace, running):
    second = workspace.snakemake("--cores", "1")
    assert second.returncode != 0
    text = second.stdout + second.stderr
    assert "another pipeline is at work in" in text
    assert f"(process {running.process.pid} on " in text
    assert jobs(text) == set()
    (workspace.folder / "go").touch()
    code, output = running.finish()
    assert code == 0, output


def test_a_dry_run_beside_a_running_pipeline_is_allowed(workspace, running):
    planned = workspace.planned()
    assert any(job.startswith("plot_") for job in planned)
    assert running.process.poll() is None


KILLS = 3


TARGETS = ("results/summary/evaluations.csv", "figures/f3_accuracy.png")


def test_a_pipeline_killed_again_and_again_ends_with_the_same_bytes(tmp_path):
    whole = Workspace(tmp_path / "whole", fake=False)
    whole.edit(experiment__seeds=[0])
    killed = copy_of(whole, tmp_path / "killed")
    began = time.monotonic()
    whole.run("--cores", "2", *TARGETS)
    seconds = time.monotonic() - began
    moments = random.Random(0)
    for attempt in range(KILLS):
        pipeline = Background(killed, *TARGETS)
        try:
            pipeline.process.wait(timeout=moments.uniform(0.1, 0.4) * seconds)
        except subprocess.TimeoutExpired:
            pipeline.kill(group=attempt % 2 == 0)
    code, output = Background(killed, *TARGETS).finish()
    assert code == 0, output
    first, second = results_of(whole), results_of(killed)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
