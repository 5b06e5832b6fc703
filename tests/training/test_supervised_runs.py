"""What training scripts share: length checks, validation, progress, the status table."""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from sspo.config.errors import ConfigError
from sspo.config.profile import check_profile
from sspo.config.settings import (
    ComputeConfig,
    SamplingConfig,
    ValidationConfig,
)
from sspo.data.problems import check_lengths, read_jsonl, write_jsonl
from sspo.experiment.expand import expand_profile
from sspo.models.policy import load_model
from sspo.models.torch_setup import set_up_torch
from sspo.pipeline.locks import hold_folder
from sspo.pipeline.script import parse_paths, run
from sspo.rewards.exact import exact_reward
from sspo.rollout.torch_engine import TorchEngine
from sspo.training.progress import Progress
from sspo.training.validation import make_validation
from support.paths import ROOT
from support.supervised_runs import PROBLEMS, supervised_config, train_supervised_run


def test_a_prompt_longer_than_the_context_names_file_and_problem(tokenizer):
    check_lengths(PROBLEMS, tokenizer, 128, 128 - 12, Path("train.jsonl"))
    with pytest.raises(ConfigError, match=r"train.jsonl: problem b has 12 prompt tokens"):
        check_lengths(PROBLEMS, tokenizer, 128, 128 - 11, Path("train.jsonl"))


def test_validation_repeats_itself_and_uses_the_first_problems_only(model, tokenizer):
    engine = TorchEngine(model, tokenizer, shares_policy=True)
    sampling = SamplingConfig(temperature=1.0, max_response_tokens=8, max_batch=64, stop_tokens=())
    one = ValidationConfig(problems=1, samples=2)
    make = [
        make_validation(problems, engine, tokenizer, exact_reward, one, sampling, 0)
        for problems in (PROBLEMS, PROBLEMS[:1])
    ]
    assert make[0]() == make[0]() == make[1]()
    assert set(make[0]()) == {"greedy", "pass@1"}


@pytest.mark.parametrize(
    ("script", "place", "inputs"),
    [
        ("train", "runs/sspo-s0", ["base", "problems", "validation", "tracking"]),
        ("pretrain", "base", ["warmup", "validation", "tracking"]),
        ("evaluate", "evaluation", ["model", "data"]),
    ],
)
def test_a_gold_that_nothing_can_earn_stops_a_script_before_it_computes(
    tmp_path, script, place, inputs
):
    settings = yaml.safe_load((ROOT / "config/default.yaml").read_text(encoding="utf-8"))
    configs = expand_profile(check_profile(settings, "default.yaml"), "default.yaml")
    for name, config in (("config", configs[place]), ("tracking", configs["tracking"])):
        (tmp_path / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    bad = [*PROBLEMS, {"id": "c", "prompt": "1+1=", "answer": "1#2", "solution": "+1=2#2"}]
    for name in ("problems", "warmup", "validation", "test", "hard"):
        records = [{"solution": "#3", **r} for r in (PROBLEMS if name == "warmup" else bad)]
        write_jsonl(tmp_path / f"{name}.jsonl", records)
    files = {"base": "nothing", "model": "nothing", "data": "."}
    files |= {"config": "config.json", "tracking": "tracking.json"}
    command = [sys.executable, ROOT / f"workflow/scripts/{script}.py", "--output", tmp_path]
    for name in ("config", *inputs):
        command += [f"--{name}", tmp_path / files.get(name, f"{name}.jsonl")]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert re.match(rf"error: {tmp_path}/[a-z]+\.jsonl:3: answer '1#2' of problem 'c' ", error)


def test_a_supervised_run_saves_model_and_metrics_on_the_axis_of_rl_steps(
    model, tokenizer, tmp_path
):
    records = [{**problem, "solution": f"{problem['answer']}#"} for problem in PROBLEMS]
    shown = []
    train_supervised_run(model, tokenizer, tmp_path, records, lambda step, _: shown.append(step))
    metrics = read_jsonl(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in metrics] == shown == [0, 1, 2]
    assert all({"greedy", "pass@1"} <= record.keys() for record in metrics)
    saved = load_model(tmp_path / "model")
    for a, b in zip(saved.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert (progress["step"], progress["steps"]) == (2, 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_validation_follows_the_model_in_either_precision(model, tokenizer, tmp_path, dtype):
    records = [{**problem, "solution": f"#{problem['answer']}"} for problem in PROBLEMS]
    config = supervised_config(60)
    config = config.changed(
        supervised={"learning_rate": 1e-2, "eval_every": 60}, compute={"dtype": dtype}
    )
    train_supervised_run(model, tokenizer, tmp_path, records, config=config)
    accuracy = [r["greedy"] for r in read_jsonl(tmp_path / "metrics.jsonl") if "greedy" in r]
    assert accuracy == [0.0, 1.0]


def test_a_supervised_run_that_diverges_saves_no_model(model, tokenizer, tmp_path):
    records = [{**problem, "solution": f"{problem['answer']}#"} for problem in PROBLEMS]
    with torch.no_grad():
        model.base_model.norm.weight[0] = float("inf")
    with pytest.raises(RuntimeError, match="supervised training, step 1"):
        train_supervised_run(model, tokenizer, tmp_path, records)
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_progress_estimates_the_time_left_from_recent_steps(tmp_path, capsys):
    progress = Progress(tmp_path / "progress.json", "sspo-s0", 10)
    progress(1, {"reward": 0.25}, 2.0)
    progress(2, {"reward": 0.5}, 4.0)
    state = json.loads((tmp_path / "progress.json").read_text())
    assert state["seconds_left"] == 8 * 3.0
    assert state["reward"] == 0.5
    assert "sspo-s0 step 2/10 reward 0.500" in capsys.readouterr().out


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


def test_an_expected_error_is_one_line_and_exit_code_1():
    def fails():
        raise ConfigError("here:\n  is what\nto fix")

    with pytest.raises(SystemExit) as stopped:
        run(fails)
    assert stopped.value.code == "error: here: is what to fix"


def test_a_script_without_its_paths_says_which_are_missing(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit):
        parse_paths("Train.", config="run config")
    assert "--config" in capsys.readouterr().err


def test_a_missing_gpu_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="compute.device = 'cuda'"):
        set_up_torch(ComputeConfig(device="cuda", dtype="float32", threads=1))
