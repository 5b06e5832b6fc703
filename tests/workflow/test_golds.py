"""Scripts stop before they compute where a gold answer cannot be earned."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from sspo.config.profile import check_profile
from sspo.data.problems import write_jsonl
from sspo.experiment.expand import expand_profile
from support.paths import ROOT
from support.supervised_runs import PROBLEMS

pytestmark = pytest.mark.slow


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
