"""SIGKILL at random moments of real training runs: every byte of what they make stays the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

from sspo.config.profile import check_profile
from sspo.experiment.expand import expand_profile
from sspo.pipeline.files import write_json
from support.paths import ROOT


def small_config(*methods):
    """The default experiment at sizes that train in seconds; without methods named, all and the control."""
    config = yaml.safe_load((ROOT / "config/default.yaml").read_text(encoding="utf-8"))
    chosen = methods or config["methods"]
    config["experiment"] |= {"methods": [*chosen], "seeds": [0], "control": not methods}
    for name, split in config["task"]["splits"].items():
        split["size"] = 64 if name == "warmup" else 16
    config["model"] |= {"hidden_size": 16, "layers": 1, "heads": 1, "mlp_size": 16}
    config["pretrain"]["supervised"] |= {"steps": 4, "warmup_steps": 1, "log_every": 1}
    config["rollout"] |= {"prompts_per_step": 8, "group_size": 4, "max_response_tokens": 24}
    config["methods"]["dr_grpo"]["params"]["max_response_tokens"] = 24
    config["train"] |= {"steps": 9, "eval_every": 2, "kl_every": 2, "checkpoint_every": 2}
    config["validation"]["problems"] = 8
    config["evaluation"] |= {"samples": 2, "pass_at": [1, 2]}
    return config


def arguments(script, place):
    """The command line of a script whose working folder is the results folder."""
    paths = {
        "pretrain": {"warmup": "data/warmup.jsonl", "validation": "data/validation.jsonl"},
        "train": {
            "base": "base/model",
            "problems": "data/train.jsonl",
            "validation": "data/validation.jsonl",
        },
        "train_control": {
            "base": "base/model",
            "warmup": "data/warmup.jsonl",
            "validation": "data/validation.jsonl",
        },
        "evaluate": {"model": f"{place}/model", "data": "data"},
    }.get(script, {})
    if script in ("pretrain", "train", "train_control"):
        paths["tracking"] = "tracking/config.json"
    config = "evaluation" if script == "evaluate" else place
    paths = {"config": f"{config}/config.json", "output": place, **paths}
    return [part for name, path in paths.items() for part in (f"--{name}", path)]


def run_children(whole, killed, jobs):
    done = subprocess.run(
        [sys.executable, ROOT / "tests/support/kill_runs.py"],
        input=json.dumps({"whole": str(whole), "killed": str(killed), "jobs": jobs}),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "SSPO_PIPELINE": ""},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def made_by(results):
    """path -> bytes of all files of a folder, those that hold times left out."""
    files = (p for p in results.rglob("*") if p.is_file())
    timed = {"progress.json", ".lock", "tensorboard"}
    kept = (p for p in files if not timed & {*p.relative_to(results).parts})
    return {str(p.relative_to(results)): p.read_bytes() for p in kept}


def assert_kills_change_nothing(folder, config, kills, least):
    """Every script of an experiment run whole, then with so many kills each: the same files."""
    whole, killed = folder / "whole", folder / "killed"
    configs = expand_profile(check_profile(config, "default.yaml"), "default.yaml")
    for results in (whole, killed):
        for place, content in configs.items():
            write_json(results / place / "config.json", content)
    jobs = [["prepare_data", arguments("prepare_data", "data"), 0, 0]]
    jobs.append(["pretrain", arguments("pretrain", "base"), 1, kills])
    for number, run in enumerate((p for p in configs if p.startswith("runs/")), start=2):
        script = "train_control" if "supervised" in run else "train"
        jobs.append([script, arguments(script, run), number, kills])
        jobs.append(["evaluate", arguments("evaluate", run), -number, 1])
    lives = [life for job in run_children(whole, killed, jobs) for life in job["lives"]]
    assert sum(life["killed"] for life in lives) >= least
    assert all(life.get("ok", True) for life in lives)
    first, second = made_by(whole), made_by(killed)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert not list(killed.rglob("checkpoint")), "saved states are cleared at the end"


@pytest.mark.slow
def test_a_run_killed_once_ends_with_the_same_bytes(tmp_path):
    assert_kills_change_nothing(tmp_path, small_config("sspo"), kills=1, least=2)


@pytest.mark.kills
def test_training_of_every_method_killed_at_random_moments_ends_with_the_same_bytes(tmp_path):
    assert_kills_change_nothing(tmp_path, small_config(), kills=3, least=20)
