"""Numbers of ours in docs/gap.md are those of the records and profiles that the page names."""

from __future__ import annotations

import json
import re
import runpy

import pandas as pd
import pytest

from sspo.training.metrics import UpdateStats
from support.paths import ROOT
from support.profiles import merge, read

PAGE = (ROOT / "docs" / "gap.md").read_text(encoding="utf-8")
RUNS = pd.read_csv(ROOT / "docs" / "pilots" / "runs.csv")


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose header begins with these words."""
    lines = PAGE[PAGE.index(f"\n| {first}") :].lstrip().partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def span(values: pd.Series, digits: int) -> str:
    return f"{values.min():.{digits}f} to {values.max():.{digits}f}"


def test_the_dose_of_every_pilot_is_that_of_its_runs():
    expected = []
    for regime, runs in RUNS.groupby("regime"):
        grpo = runs[runs["method"] == "grpo"].iloc[0]
        drift, share = runs["drift"], runs["grpo_clip_share"]
        dose = [f"{grpo['drift']:.2f}", span(drift, 2)]
        dose += [f"{grpo['grpo_clip_share']:.4f}", span(share, 4)]
        expected.append([f"`{regime}`", *dose, span(runs["test_response_tokens"], 0)])
    assert sorted(rows("regime | drift")) == sorted(expected)


def regimes(cell: str, config: dict) -> list[dict]:
    """The settings of the regimes that a cell names, or the profile's own where it names none."""
    named = [name for name in re.findall(r"`(\w+)`", cell) if name in config.get("regimes", {})]
    return [merge(config, config["regimes"][name]) for name in named] or [config]


@pytest.mark.parametrize("row", rows("experiment |"), ids=lambda row: row[0])
def test_batches_and_updates_of_our_experiments_are_those_of_their_profiles(row):
    experiment, _, longest, rollout, update, updates, *_, files = row
    names = re.findall(r"config/(\w+\.yaml)", files) or ["pilots.yaml", "evidence.yaml"]
    checked = 0
    for config in [merge(read("default.yaml"), read(name)) for name in names]:
        for settings in regimes(experiment, config):
            sampled, train = settings["rollout"], settings["train"]
            responses = sampled["prompts_per_step"] * sampled["group_size"]
            assert rollout.startswith(f"{sampled['prompts_per_step']} x {sampled['group_size']}")
            assert longest.replace(",", "") == str(sampled["max_response_tokens"])
            assert int(update) == responses // train["updates_per_rollout"]
            assert int(updates) == train["updates_per_rollout"] * train.get("epochs", 1)
            checked += 1
    assert checked


def test_the_dose_of_the_demo_is_that_of_its_steps():
    lines = (ROOT / "docs/demo/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [step for step in map(json.loads, lines) if step.get("log_ratio_rms") is not None]
    drift, share = (max(s[key] for s in steps) for key in ("log_ratio_rms", "grpo_clip_share"))
    tokens = [s["response_tokens"] for s in steps]
    assert f"a drift of at most {drift:.2f} in any of its steps" in PAGE
    assert f"a clip share of at most {share:.3f}" in PAGE
    assert f"answers of {min(tokens):.0f} to {max(tokens):.0f} tokens" in PAGE


def test_the_lines_that_measure_the_dose_agree_with_what_a_run_records(tmp_path):
    given = """
import torch
generator = torch.Generator().manual_seed(0)
old_logprobs = -torch.rand(6, 9, generator=generator)
logprobs = old_logprobs + 0.3 * torch.randn(6, 9, generator=generator)
mask = torch.arange(9) < torch.tensor([9, 4, 7, 2, 9, 5]).unsqueeze(1)
advantages = torch.tensor([1.0, -1.0, 0.0, 2.0, -0.5, 0.0])
"""
    [lines] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    script = tmp_path / "dose.py"
    script.write_text(given + lines, encoding="utf-8")
    found = runpy.run_path(str(script))
    logprobs, advantages, mask = found["logprobs"], found["advantages"], found["mask"]
    stats = UpdateStats()
    weights = {"log_ratio": logprobs - found["old_logprobs"], "sequence_weight": advantages}
    stats.add(weights, logprobs, advantages, mask)
    record = stats.summary()
    assert found["drift"].item() == pytest.approx(record["log_ratio_rms"], rel=1e-5)
    assert found["clip_share"].item() == pytest.approx(record["grpo_clip_share"])
    assert 0.1 < found["clip_share"].item() < 0.9
