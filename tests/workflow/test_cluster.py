"""The pipeline through SLURM for real: one job per run, the bytes of a local run, jobs and head killed.

The cluster is one node with a host name of its own (tests/support/slurm.sh); Snakemake runs beside it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import TESTS
from support.pipelines import Background, Workspace, copy_of, results_of, wait_for

SCRIPT = TESTS / "support" / "slurm.sh"
INSTALLED = shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin") is not None
EXECUTOR = importlib.util.find_spec("snakemake_executor_plugin_slurm") is not None

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not INSTALLED, reason="no slurmctld: install slurmctld, slurmd and munge"),
    pytest.mark.skipif(not EXECUTOR, reason="no SLURM executor: `make slurm`"),
]

THROUGH_SLURM = ("--workflow-profile", "none", "--profile", "profiles/slurm", "--latency-wait", "5")
THROUGH_SLURM += ("--slurm-init-seconds-before-status-checks", "2")
RUNS = ("sspo-s0", "sspo-s1")
TARGETS = [f"results/runs/{run}/eval.json" for run in RUNS]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The folder of a running cluster."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SCRIPT, "start", folder], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield folder
    subprocess.run([SCRIPT, "stop", folder], check=True)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The same runs without a cluster; long enough to be killed in the middle."""
    workspace = Workspace(tmp_path_factory.mktemp("local"), fake=False)
    workspace.edit(
        experiment__methods=["sspo"],
        experiment__seeds=[0, 1],
        experiment__control=False,
        train__steps=150,
        train__eval_every=50,
        train__kl_every=50,
        train__checkpoint_every=10,
    )
    workspace.run("--cores", "2", *TARGETS)
    return workspace


@pytest.fixture
def workspace(local, cluster, tmp_path):
    """Code and configuration of the local one, no results, with the cluster on its PATH."""
    workspace = copy_of(local, tmp_path / "cluster")
    shutil.rmtree(workspace.folder / "results")
    shutil.rmtree(workspace.folder / ".snakemake")
    workspace.path = f"{cluster / 'bin'}{os.pathsep}{workspace.path}"
    return workspace


def assert_same_results(local, workspace, *runs):
    places = ("results/data/", "results/base/", *(f"results/runs/{run}/" for run in runs))
    expected = {k: v for k, v in results_of(local).items() if k.startswith(places)}
    found = results_of(workspace)
    assert expected.keys() <= found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []


def test_every_run_is_a_job_and_ends_with_the_bytes_of_a_local_run(local, workspace):
    text = workspace.run(*THROUGH_SLURM, *TARGETS)
    submitted = re.findall(r"submitted with SLURM jobid (\d+) \(log: \S+/rule_(\w+)/", text)
    assert sorted(rule for _, rule in submitted) == [
        *("evaluate", "evaluate", "prepare_data", "pretrain", "train", "train")
    ]
    jobs = dict(submitted)
    for run in RUNS:
        node, job = (workspace.folder / f"results/runs/{run}/.lock").read_text().split(", job ")
        assert jobs[job] in ("train", "evaluate")
        assert f"NodeName={node} " in (Path(os.environ["SLURM_CONF"])).read_text()
    assert_same_results(local, workspace, *RUNS)


def test_a_study_is_one_job_array_and_ends_with_the_bytes_of_local_runs(local, workspace):
    for made in ("data", "base"):
        shutil.copytree(local.folder / "results" / made, workspace.folder / "results" / made)
    text = workspace.run(*THROUGH_SLURM, "--slurm-array-jobs", "train", *TARGETS)
    assert len(re.findall(r"SLURM job ID \d+\. The individual task IDs are 1-2\.", text)) == 1
    alone = re.findall(r"submitted with SLURM jobid \d+ \(log: \S+/rule_(\w+)/", text)
    assert alone.count("evaluate") == 2 and "train" not in alone
    assert_same_results(local, workspace, *RUNS)


def test_a_killed_job_and_a_killed_head_cost_nothing_but_the_same_command_again(local, workspace):
    for made in ("data", "base"):
        shutil.copytree(local.folder / "results" / made, workspace.folder / "results" / made)
    command = (*THROUGH_SLURM, TARGETS[0])
    pipeline = Background(workspace, *command)
    try:
        job = running_job(workspace, pipeline)
        subprocess.run(["scancel", "--signal=KILL", "--full", job], check=True)
        code, output = pipeline.finish()
        assert code != 0
        assert f"SLURM-job '{job}' failed" in output

        pipeline = Background(workspace, *command)
        running_job(workspace, pipeline, other=job)
        pipeline.kill(group=True)  # the job is no child of Snakemake and goes on

        pipeline = Background(workspace, *command)
        code, output = pipeline.finish()
        assert code == 0, output
    finally:
        pipeline.clean_up()
    assert_same_results(local, workspace, RUNS[0])


def running_job(workspace, pipeline, other=None):
    """SLURM's number of the training job, not ``other``, once the table has it past a checkpoint."""
    found = []

    def at_work():
        assert pipeline.process.poll() is None, pipeline.finish()
        done = subprocess.run(
            [sys.executable, "workflow/scripts/status.py"],
            cwd=workspace.folder,
            env=workspace.environment(),
            capture_output=True,
            text=True,
        )
        found[:] = re.findall(r"sspo-s0 +(\d+)/150 .*(?:running|on \S+), job (\d+)", done.stdout)
        return found and int(found[0][0]) > 10 and found[0][1] != other

    wait_for(at_work, seconds=1200.0)
    return found[0][1]
