"""An update that meets NaN or infinity changes nothing, is saved, and is traced to its token."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from sspo.config.errors import ConfigError
from sspo.objectives.losses import LOSSES
from sspo.pipeline.provenance import ROOT
from sspo.rewards.base import Reward
from sspo.training.errors import NonFiniteError
from sspo.training.metrics import UpdateStats
from sspo.training.minibatches import split_rollout
from sspo.training.optim import apply_update, make_optimizer
from sspo.training.replay import replay, save_failure
from sspo.training.trainer import collect_rollout
from sspo.training.update import PoisonedUpdateError, Scorer, accumulate_gradient
from support.runs import (
    PROBLEMS,
    TOKENIZER,
    make_actors,
    read_metrics,
    run_config,
    run_training,
    weights,
)


def poisoned_reward(answer, completion):
    """One response in seven has no number for a reward."""
    total = sum(completion.token_ids)
    return Reward(math.nan if total % 7 == 0 else float(total % 2), "correct")


def fail(folder, config, actors):
    with pytest.raises(PoisonedUpdateError) as caught:
        run_training(folder, config, actors)
    return caught.value


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_nothing_is_updated_by_a_loss_or_gradient_that_is_not_finite(bad, where):
    model = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(model, 0.1, (0.9, 0.99), 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    apply_update(model, optimizer, 0.1, 1.0, loss=1.0)
    before = [p.detach().clone() for p in model.parameters()]
    moments = [m["exp_avg"].clone() for m in optimizer.state.values()]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    if where == "gradient":
        model.bias.grad[1] = bad
    with pytest.raises(NonFiniteError, match="loss .*, gradient norm"):
        apply_update(model, optimizer, 0.1, 1.0, loss=bad if where == "loss" else 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    after = [m["exp_avg"] for m in optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))


@pytest.fixture
def failed(tmp_path):
    """A run stopped by rewards that are no numbers: (folder of the failure, error, actors)."""
    config, actors = run_config(), make_actors(poisoned_reward)
    initial = weights(actors).clone()
    error = fail(tmp_path / "run", config, actors)
    if error.update == 1:
        assert torch.equal(weights(actors), initial)
    save_failure(tmp_path / "failure", error, config, actors.policy, TOKENIZER)
    return tmp_path / "failure", error, actors


def test_the_error_names_run_step_update_and_what_was_found(failed):
    _, error, _ = failed
    assert str(error) == (
        f"sspo-s0: step 1, update {error.update}: loss nan, gradient norm nan; nothing was updated"
    )


def test_no_state_and_no_record_of_the_failed_step_is_left(failed):
    folder, _, _ = failed
    run = folder.parent / "run"
    assert [record["step"] for record in read_metrics(run)] == [0]
    assert not list(run.glob("step-*"))


def test_replay_finds_the_loss_again_and_names_every_poisoned_response(failed):
    folder, error, _ = failed
    again = replay(folder)
    assert math.isnan(again.loss) and math.isnan(again.grad_norm)
    assert again.failure["found"] == "loss nan, gradient norm nan"
    expected = sorted(
        row
        for micro in error.minibatch
        for row, advantage in zip(micro.rows, micro.advantages.tolist(), strict=True)
        if math.isnan(advantage)
    )
    assert [finding.row for finding in again.findings] == expected
    assert {finding.stage for finding in again.findings} == {"advantage"}
    for finding in again.findings:
        assert finding.problem == error.problems[finding.row]


@pytest.mark.parametrize("objective", LOSSES)
def test_replay_of_a_sound_minibatch_gives_the_loss_and_gradient_of_the_run(tmp_path, objective):
    config, actors = run_config(objective, kl_coefficient=0.1), make_actors()
    error = sound_error(config, actors)
    save_failure(tmp_path / "failure", error, config, actors.policy, TOKENIZER)
    loss = accumulate_gradient(
        config, Scorer(config, actors.policy), error.minibatch, UpdateStats()
    )
    norm = torch.nn.utils.get_total_norm([p.grad for p in actors.policy.parameters()])
    again = replay(tmp_path / "failure")
    assert again.findings == []
    assert again.loss == loss
    assert again.grad_norm == float(norm)


def sound_error(config, actors):
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    minibatches = split_rollout(config, rollout, actors.policy.device)
    scorer = Scorer(config, actors.policy, actors.reference)
    with torch.no_grad():
        for micro in (m for minibatch in minibatches for m in minibatch):
            scorer.score(micro)
    return PoisonedUpdateError("sspo-s0", 1, 2, minibatches[1], rollout, "loss nan")


def test_a_failure_is_saved_whatever_the_old_logprobs_are_taken_from(tmp_path):
    config, actors = run_config(old_logprobs="engine"), make_actors()
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    minibatch = split_rollout(config, rollout, actors.policy.device)[1]
    for micro in minibatch:
        Scorer(config, actors.policy).score_ahead(micro)
    error = PoisonedUpdateError("sspo-s0", 1, 2, minibatch, rollout, "loss nan")
    save_failure(tmp_path / "failure", error, config, actors.policy, TOKENIZER)
    assert replay(tmp_path / "failure").findings == []


def test_replay_names_the_first_bad_token_of_each_stage(tmp_path):
    config, actors = run_config(), make_actors()
    error = sound_error(config, actors)
    first, second = error.minibatch[0], error.minibatch[1]
    first.old_logprobs[1, 1] = math.nan
    second.reference_logprobs[0, 0] = math.inf
    save_failure(tmp_path / "failure", error, config, actors.policy, TOKENIZER)
    findings = {f.row: (f.stage, f.token) for f in replay(tmp_path / "failure").findings}
    assert findings == {
        first.rows[1]: ("old log-probability", 1),
        second.rows[0]: ("reference log-probability", 0),
    }


def test_replay_finds_weights_that_are_not_finite_in_the_first_log_probability(tmp_path):
    config, actors = run_config(), make_actors()
    error = sound_error(config, actors)
    with torch.no_grad():
        actors.policy.base_model.norm.weight[0] = math.nan
    save_failure(tmp_path / "failure", error, config, actors.policy, TOKENIZER)
    findings = replay(tmp_path / "failure").findings
    assert [f.row for f in findings] == sorted(r for m in error.minibatch for r in m.rows)
    assert {(f.stage, f.token) for f in findings} == {("log-probability", 0)}


def test_a_failure_saved_again_replaces_the_old_one_whole(failed):
    folder, error, actors = failed
    (folder / "leftover").write_text("x")
    save_failure(folder, error, run_config(), actors.policy, TOKENIZER)
    assert sorted(p.name for p in folder.iterdir()) == [
        "batch.safetensors",
        "failure.json",
        "model",
    ]
    assert sorted(p.name for p in folder.parent.iterdir()) == ["failure", "run"]


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_batch_is_refused_by_name(failed, damage):
    batch = failed[0] / "batch.safetensors"
    content = batch.read_bytes()
    batch.unlink() if damage == "missing" else batch.write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=r"batch.safetensors: cannot be read"):
        replay(failed[0])


@pytest.mark.slow
def test_the_script_prints_where_it_begins(failed):
    command = [sys.executable, ROOT / "workflow/scripts/replay.py", "--failure", failed[0]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SSPO_PIPELINE": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    first = replay(failed[0]).findings[0]
    assert f"response {first.row} (problem {first.problem}): advantage" in done.stdout
    assert "replayed: loss nan, gradient norm nan" in done.stdout


def test_the_saved_circumstances_are_plain_json(failed):
    data = json.loads((failed[0] / "failure.json").read_text())
    assert (data["run"], data["method"], data["step"]) == ("sspo-s0", "sspo", 1)
    assert data["config"]["objective"]["name"] == "sspo"


def test_weights_that_stopped_being_finite_are_not_saved(tmp_path):
    actors = make_actors()
    config = run_config(learning_rate=1e38, max_grad_norm=1e38, steps=2)
    with pytest.raises((PoisonedUpdateError, ValueError)):
        run_training(tmp_path, config, actors)
    for saved in tmp_path.glob("step-*"):
        tensors = load_file(saved / "weights.safetensors")
        assert all(torch.isfinite(t).all() for t in tensors.values())


def test_changes_to_the_run_config_survive_the_round_trip(tmp_path):
    config, actors = run_config(), make_actors()
    config = config.changed(train={"micro_batch": 3})
    error = sound_error(config, actors)
    save_failure(tmp_path / "failure", error, config, actors.policy, TOKENIZER)
    assert replay(tmp_path / "failure").failure["config"]["train"]["micro_batch"] == 3
