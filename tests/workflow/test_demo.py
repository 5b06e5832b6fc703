"""`make demo`: the pipeline's own rules, shown live, with a figure and a table at the end."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys

import pytest
import yaml

from support.paths import ROOT
from support.pipelines import TINY, Workspace, wait_for
from support.profiles import merge

spec = importlib.util.spec_from_file_location("demo", ROOT / "workflow/scripts/demo.py")
demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(demo)

STEPS = 15  # enough that the interruption below comes before the end
SMALL = merge(
    TINY,
    {
        "experiment": {"methods": ["sspo"], "seeds": [0], "control": False},
        "train": {"steps": STEPS, "checkpoint_every": 1},
        "results_dir": "results/tiny",
        "figures_dir": "figures/tiny",
    },
)


def started(made):
    """The demo's process over the profile ``config/tiny.yaml`` of a workspace."""
    (made.folder / "config/tiny.yaml").write_text(yaml.safe_dump(SMALL))
    script = made.folder / "workflow/scripts/demo.py"
    return subprocess.Popen(
        [sys.executable, script, "--config", "config/tiny.yaml", "--cores", "1"],
        cwd=made.folder, env=made.environment(), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.mark.slow
def test_every_step_is_shown_once_also_after_an_interruption_and_the_end_has_the_table(tmp_path):
    made = Workspace(tmp_path / "made", fake=False)
    process = started(made)
    run = made.folder / "results/tiny/runs/sspo-s0"
    wait_for(lambda: any(run.glob("checkpoint/step-*")) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    stopped, _ = process.communicate(timeout=120)
    assert "the same command goes on" in stopped and process.returncode == 1
    process = started(made)
    shown, _ = process.communicate(timeout=300)
    assert process.returncode == 0, shown
    steps = [line.split("step")[1].split()[0] for line in shown.splitlines() if "  step " in line]
    assert steps == [f"{n}/{STEPS}" for n in range(1, STEPS + 1)]
    assert "asking the trained model" in shown
    assert "| test (8) | before |" in shown and "| hard (8) | after |" in shown
    figure = made.folder / "figures/tiny/before_after"
    assert figure.with_suffix(".png").stat().st_size > 10_000
    record = json.loads(figure.with_suffix(".json").read_text())
    assert "results/tiny/runs/sspo-s0/metrics.jsonl" in record["inputs"]
    # Nothing is left to do, so nothing but the end is shown.
    again, _ = started(made).communicate(timeout=300)
    assert "step" not in again.partition("|")[0] and "| test (8) | before |" in again


@pytest.mark.slow
def test_a_failing_pipeline_ends_the_demo_with_its_last_lines(tmp_path):
    made = Workspace(tmp_path / "made", fake=True)
    made.append("workflow/scripts/write_config.py", "\nraise SystemExit('no disk left')\n")
    process = started(made)
    shown, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "error: the pipeline failed" in shown and "no disk left" in shown


def test_a_phase_is_known_by_its_rule_and_the_model_that_it_is_about():
    def job(rule, wildcards):
        return f"rule {rule}:\n    input: a\n    wildcards: {wildcards}\n    resources: tmpdir=/tmp"

    log = "\n\n".join(
        [
            "Building DAG of jobs...",
            job("evaluate", "place=base"),
            job("summarize", "x=y"),
            job("evaluate", "place=runs/sspo-s0"),
            "rule train:\n    input: a, b, and the rest is not written yet",
        ]
    )
    assert demo.phases(log) == [demo.PHASES["evaluate place=base"], demo.PHASES["evaluate"]]


def test_a_step_is_read_once_its_response_is_there_and_no_half_line_is(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    assert demo.read_steps(tmp_path, 0) == []
    step = {"step": 1, "reward": 0.5, "response_tokens": 9.0}
    (folder / "metrics.jsonl").write_text('{"step": 0}\n' + json.dumps(step) + '\n{"step": 2, "re')
    (folder / "rollouts.jsonl").write_text("")
    assert demo.read_steps(tmp_path, 0) == []
    kept = [{"step": 1, "response": text} for text in ("12\nor so", "second")]
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(k) + "\n" for k in kept))
    (found,) = demo.read_steps(tmp_path, 0)
    line = demo.step_line(found, 20)
    assert line == 'step  1/20  reward 0.50   9.0 tokens  e.g. "12 or so"'
    # What was written before the demo began belongs to another config, or is written anew.
    assert demo.read_steps(tmp_path, (folder / "rollouts.jsonl").stat().st_mtime + 1) == []
