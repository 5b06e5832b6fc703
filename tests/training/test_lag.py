"""Rollouts of an older policy: against a loop with a plain list, their age, resume from every step."""

import pytest
import torch

from sspo.config.errors import ConfigError
from sspo.data.batching import batches
from sspo.models.policy import ScoreBatch, score
from sspo.objectives.losses import LOSSES
from sspo.rewards.base import Reward
from sspo.training.checkpoint import CheckpointStore
from sspo.training.metrics import RunLog
from sspo.training.optim import make_optimizer
from sspo.training.trainer import collect_rollout, train
from support.runs import (
    PROBLEMS,
    make_actors,
    read_metrics,
    run_config,
    run_training,
    weights,
)


def textbook(config, behind):
    """Sample and score before every step for the step ``behind`` later; train on what waited longest."""
    actors, waiting, steps = make_actors(), [], config.train.steps
    optimizer = make_optimizer(actors.policy, config.train.learning_rate, (0.9, 0.99), 0.0)
    order = batches(len(PROBLEMS), 4, config.seed)
    for step in range(1, steps + 1):
        while step + len(waiting) <= min(step + behind, steps):
            chosen = [PROBLEMS[i] for i in next(order)]
            rollout = collect_rollout(config, actors, chosen, step + len(waiting))
            responses = [c.token_ids for c in rollout.completions]
            with torch.no_grad():
                old, _ = score(actors.policy, ScoreBatch.collate(rollout.prompts, responses, "cpu"))
            waiting.append((rollout, responses, old))
        rollout, responses, old = waiting.pop(0)
        for i in (0, 8):
            rows = slice(i, i + 8)
            batch = ScoreBatch.collate(rollout.prompts[rows], responses[rows], "cpu")
            logprobs, _ = score(actors.policy, batch)
            before = old[rows, : logprobs.shape[1]]
            loss, _ = LOSSES[config.objective.name](
                logprobs, before, rollout.advantages[rows], batch.mask, **config.objective.params
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(actors.policy.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return weights(actors)


@pytest.mark.parametrize("method", ["grpo", "sspo"])
@pytest.mark.parametrize("behind", [0, 1, 3])
def test_a_lag_trains_as_a_loop_with_a_list_of_rollouts_does(method, behind, tmp_path):
    config = run_config(method, lag=2 * behind, steps=5)
    found = weights(run_training(tmp_path, config))
    torch.testing.assert_close(found, textbook(config, behind), rtol=1e-3, atol=2e-4)
    other = textbook(config, behind + 1)
    assert (found - other).abs().max() > 10 * (found - textbook(config, behind)).abs().max()


def test_the_age_of_rollouts_grows_to_the_lag_and_their_log_ratios_with_it(tmp_path):
    config = run_config(lag=4, steps=6, updates_per_rollout=1)
    run_training(tmp_path / "lag", config)
    run_training(tmp_path / "none", run_config(steps=6, updates_per_rollout=1))
    late, fresh = (read_metrics(tmp_path / name)[1:] for name in ("lag", "none"))
    assert [record["rollout_age"] for record in late] == [0, 1, 2, 3, 4, 4]
    assert late[0]["log_ratio_rms"] == fresh[5]["log_ratio_rms"] == 0.0
    assert 0.0 < late[1]["log_ratio_rms"] < late[4]["log_ratio_rms"]
    assert all("rollout_age" not in record for record in fresh)


def test_rollouts_that_wait_have_an_entropy_and_a_gap_whoever_scores_them(tmp_path):
    for source in ("policy", "engine"):
        config = run_config(lag=4, old_logprobs=source, steps=5)
        run_training(tmp_path / source, config)
    scored, sampled = (read_metrics(tmp_path / name)[1:] for name in ("policy", "engine"))
    assert scored[0]["entropy"] == pytest.approx(sampled[0]["entropy"], rel=0.2)
    for a, b in zip(scored, sampled, strict=True):
        assert 0.0 < b["engine_logprob_gap"] < 1e-4
        assert a["log_ratio_rms"] == pytest.approx(b["log_ratio_rms"], rel=0.05, abs=1e-5)


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"old_logprobs": "engine", "epochs": 2},
        {"kl_coefficient": 0.1},
        {"kl_every": 2, "checkpoint_every": 2, "dtype": "bfloat16"},
    ],
)
def test_a_run_with_a_queue_stopped_after_every_step_ends_with_the_same_bytes(tmp_path, changes):
    config = run_config(steps=6, micro_batch=3, **{"lag": 8, **changes})
    whole = run_training(tmp_path / "whole", config)
    folder = tmp_path / "resumed"
    for stop in range(1, 6):

        def stop_here(step, record, seconds, stop=stop):
            if step >= stop:
                raise Stop

        store = CheckpointStore(folder, "f")
        with pytest.raises(Stop):
            train(config, make_actors(), PROBLEMS, store, RunLog(folder), stop_here)
    resumed = run_training(folder, config)
    assert torch.equal(weights(resumed), weights(whole))
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lag": 3}, "rollout.lag = 3 is not divisible by the 2 updates of a step"),
        ({"lag": 4, "epochs": 4}, "rollout.lag = 4 is not divisible by the 8 updates"),
        ({"lag": 6}, "rollout.lag = 6 is not below the 6 updates of the run"),
    ],
)
def test_a_lag_that_no_rollout_can_have_is_refused(changes, said):
    plain = run_config()
    rollout, train_changes = {"lag": changes["lag"]}, {"epochs": changes.get("epochs", 1)}
    with pytest.raises(ConfigError, match=said):
        plain.changed(rollout=rollout, train=train_changes)
    with pytest.raises(ConfigError, match="trainer = 'trl' has no queue"):
        plain.changed(rollout={"lag": 2}, trainer="trl")


def test_a_run_goes_on_where_no_waiting_response_teaches_anything(tmp_path):
    config = run_config(lag=2, steps=4)
    actors = make_actors(reward=lambda answer, completion: Reward(0.0, "wrong"))
    before = weights(actors)
    run_training(tmp_path, config, actors)
    records = read_metrics(tmp_path)[1:]
    assert len(records) == 4
    assert {record["degenerate_groups"] for record in records} == {1.0}
    assert {record["log_ratio_rms"] for record in records} == {None}
    assert torch.equal(weights(actors), before)
