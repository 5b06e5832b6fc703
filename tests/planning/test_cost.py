"""What an experiment costs: jobs side by side, cores and GPUs, and the plan as a user reads it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import torch
import yaml

from sspo.config.launch_file import Launch
from sspo.config.reading import merged, plain
from sspo.planning.cost import device_memory, read_cost
from sspo.planning.jobs import jobs_at_once
from sspo.planning.memory import GIB, Machine, refusals
from sspo.planning.model_size import base_size
from support.paths import PROFILES, ROOT
from support.plans import BILLION, NOWHERE, RATES, TINY, expand, jobs_of, rl_job


def test_jobs_that_fit_one_by_one_but_not_together_ask_for_fewer_cores():
    jobs = jobs_of(expand())
    size = base_size(expand()["base"], NOWHERE)
    assert refusals(jobs, {"base": size}, Machine("cpu", 4 * GIB, 1e15, 2)) == []
    (reason,) = refusals(jobs, {"base": size}, Machine("cpu", 4 * GIB, 1e15, 8))
    assert "lower CORES" in reason
    assert "so that 2 run at once" in reason


def test_jobs_on_gpus_run_side_by_side_as_the_limit_of_gpus_allows():
    jobs = jobs_of(expand())
    assert jobs_at_once(jobs, 16, 1) == 16
    assert jobs_at_once(jobs, 16, 1, gpus=1) == 1
    assert jobs_at_once(jobs, 16, 4, gpus=8) == 4
    wide = [dataclasses.replace(job, launch=Launch(8)) for job in jobs]
    assert jobs_at_once(wide, 16, 1, gpus=8) == 1
    assert jobs_at_once(wide, 16, 1, gpus=16) == 2
    assert jobs_at_once(wide, 16, 1, gpus=1) == 1  # Snakemake gives it what there is


def test_a_plan_counts_gpus_as_a_local_run_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = profile(tmp_path, {"compute": {"device": "cuda"}})
    limits = yaml.safe_load((ROOT / "profiles" / "default" / "config.yaml").read_text())
    assert "gpu=1" in limits["resources"]
    assert read_cost([file], 16).machine.at_once == 1
    assert read_cost([file], 16, gpus=2).machine.at_once == 2


def test_jobs_that_share_a_gpu_too_small_for_them_ask_for_fewer_gpus():
    jobs = [rl_job({"rollout": {"max_batch": 1}, "train": {"micro_batch": 1}})] * 2
    (reason,) = refusals(jobs, {"base": BILLION}, Machine("cuda", 40 * GIB, 1e15, 2))
    assert "lower GPUS" in reason and "CORES" not in reason


def profile(folder, changes):
    """A workflow folder with a tiny profile; results go below the current folder."""
    target = folder / "config"
    target.mkdir(parents=True)
    (target / "default.yaml").write_text((PROFILES / "default.yaml").read_text())
    (target / "tiny.yaml").write_text(yaml.safe_dump(merged(TINY, changes)))
    return target / "tiny.yaml"


def script(name, folder, *arguments):
    command = [sys.executable, ROOT / "workflow" / "scripts" / f"{name}.py", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


def plan(folder, file):
    """The script that ``make plan`` runs, on the CPU."""
    command = [sys.executable, ROOT / "workflow" / "scripts" / "plan.py"]
    return subprocess.run(
        [*command, "--config", file, "--rates", folder / "rates.json", "--cores", "2"],
        cwd=folder, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


def test_without_the_device_there_are_no_hours(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_memory("cuda") is None
    done = plan(tmp_path, profile(tmp_path, {"compute": {"device": "cuda"}}))
    assert (done.returncode, (tmp_path / "rates.json").exists()) == (0, False)
    assert "not calibrated: no CUDA device here" in done.stdout
    assert "memory is not compared" in done.stdout
    assert "GPU hours" not in done.stdout


def test_a_measured_step_gives_hours_and_is_not_measured_twice(tmp_path):
    file, rates = profile(tmp_path, {}), tmp_path / "rates.json"
    done = plan(tmp_path, file)
    assert done.returncode == 0, done.stderr
    assert "measuring one step" in done.stdout
    assert "with 2 jobs at once" in done.stdout
    assert "as measured" not in done.stdout  # lengths of an untrained model say nothing
    written = rates.read_bytes()
    again = plan(tmp_path, file)
    assert "measuring" not in again.stdout and "with 2 jobs at once" in again.stdout
    assert rates.read_bytes() == written


def test_a_measured_step_of_another_run_gives_no_hours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, other = (
        read_cost([profile(tmp_path / name, {"train": {"micro_batch": size}})], 1)
        for name, size in (("a", 4), ("b", 8))
    )
    file = tmp_path / "rates.json"
    file.write_text(json.dumps({"rates": plain(RATES), "measured": first.measured}))
    assert first.rates(file) == RATES
    assert other.rates(file) is None


def test_a_plan_that_cannot_fit_ends_with_one_line_and_an_error(tmp_path):
    changes = {
        "model": {"hidden_size": 65536, "heads": 64, "layers": 400, "mlp_size": 65536},
        "experiment": {"control": False},
    }
    done = plan(tmp_path, profile(tmp_path, changes))
    assert done.returncode == 1
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())
    assert "a smaller model" in done.stderr
    assert "tiny.yaml" in done.stderr
    assert "not calibrated: the plan does not fit" in done.stdout
    assert not (tmp_path / "rates.json").exists()
