"""Rollouts that are used several times: order, old log-probabilities, the textbook loop, resume."""

from itertools import chain

import pytest
import torch

from sspo.models.policy import ScoreBatch, score
from sspo.objectives.losses import LOSSES
from sspo.training.checkpoint import CheckpointStore
from sspo.training.metrics import RunLog
from sspo.training.minibatches import every_epoch, split_rollout
from sspo.training.trainer import collect_rollout, train
from sspo.training.update import Scorer, prepare, update_policy
from support.runs import (
    PROBLEMS,
    make_actors,
    read_metrics,
    run_config,
    run_training,
    weights,
)


def minibatches_of(config, step=1):
    """The minibatches of all epochs, their old log-probabilities recorded."""
    actors = make_actors()
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    first = split_rollout(config, rollout, "cpu")
    scorer = Scorer(config, actors.policy, actors.reference)
    for micro in chain(*first):
        scorer.score_ahead(micro)
    return rollout, [*every_epoch(config, rollout, first, step)]


def groups_of(minibatches):
    """The prompt groups of every minibatch; a group is whole or not there."""
    found = []
    for minibatch in minibatches:
        rows = sorted(row for micro in minibatch for row in micro.rows)
        groups = sorted({row // 4 for row in rows})
        assert rows == [4 * group + i for group in groups for i in range(4)]
        found.append(groups)
    return found


def test_every_epoch_has_every_group_once_in_an_order_of_its_own():
    _, minibatches = minibatches_of(run_config(epochs=9, updates_per_rollout=4))
    epochs = [groups_of(minibatches[i : i + 4]) for i in range(0, 36, 4)]
    assert epochs[0] == [[0], [1], [2], [3]]
    assert all(sorted(epoch) == epochs[0] for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) > 5


def test_the_order_depends_on_seed_and_step_and_is_the_same_again():
    config = run_config(epochs=4, updates_per_rollout=4)
    orders = [
        groups_of(minibatches_of(*which)[1])
        for which in ((config,), (config,), (config, 2), (config.changed(seed=1),))
    ]
    assert orders[0] == orders[1]
    assert orders[2] != orders[0] != orders[3] != orders[2]


@pytest.mark.parametrize("old_logprobs", ["policy", "engine"])
def test_a_row_keeps_what_the_first_epoch_recorded_of_it(old_logprobs):
    config = run_config(epochs=3, micro_batch=3, old_logprobs=old_logprobs)
    rollout, minibatches = minibatches_of(config)
    kept = {}
    for micro in chain(*minibatches):
        assert micro.old_logprobs.shape == micro.reference_logprobs.shape == micro.batch.mask.shape
        for place, row in enumerate(micro.rows):
            length = len(rollout.completions[row].token_ids)
            found = (micro.old_logprobs[place, :length], micro.reference_logprobs[place, :length])
            kept.setdefault(row, found)
            assert all(map(torch.equal, found, kept[row]))
            assert not micro.old_logprobs[place, length:].any()
    assert len(kept) == 16


@pytest.mark.parametrize("method", ["grpo", "dapo", "gspo", "sspo"])
def test_three_epochs_are_three_passes_of_the_textbook_loop(method):
    config = run_config(method, learning_rate=0.5, epochs=3)
    ours, textbook = make_actors(), make_actors()
    rollout = collect_rollout(config, ours, PROBLEMS[:4], step=1)
    sgd = [torch.optim.SGD(a.policy.parameters(), lr=0.5) for a in (ours, textbook)]
    record = update_policy(config, ours, sgd[0], prepare(config, ours, rollout, 1))

    _, minibatches = minibatches_of(config)
    responses = [c.token_ids for c in rollout.completions]
    with torch.no_grad():
        whole = ScoreBatch.collate(rollout.prompts, responses, "cpu")
        old, _ = score(textbook.policy, whole)
    squares = tokens = 0.0
    for groups in groups_of(minibatches):
        rows = [4 * group + i for group in groups for i in range(4)]
        batch = ScoreBatch.collate(
            [rollout.prompts[i] for i in rows], [responses[i] for i in rows], "cpu"
        )
        logprobs, _ = score(textbook.policy, batch)
        before = old[rows, : logprobs.shape[1]]
        loss, _ = LOSSES[method](
            logprobs, before, rollout.advantages[rows], batch.mask, **config.objective.params
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(textbook.policy.parameters(), 1.0)
        sgd[1].step()
        sgd[1].zero_grad()
        learning = batch.mask * (rollout.advantages[rows] != 0.0).unsqueeze(1)
        squares += ((logprobs - before).detach() * learning).square().sum().item()
        tokens += learning.sum().item()
    torch.testing.assert_close(weights(ours), weights(textbook), rtol=1e-4, atol=1e-5)
    assert record["log_ratio_rms"] == pytest.approx((squares / tokens) ** 0.5, rel=1e-3)


def test_more_epochs_take_more_updates_warm_up_by_update_and_drift_further(tmp_path):
    records = {}
    for epochs in (1, 4):
        config = run_config(epochs=epochs, warmup_updates=64, learning_rate=1e-2)
        run_training(tmp_path / str(epochs), config)
        records[epochs] = read_metrics(tmp_path / str(epochs))
    for epochs, found in records.items():
        rates = [record["learning_rate"] for record in found[1:]]
        assert rates == pytest.approx([1e-2 * 2 * epochs * step / 64 for step in (1, 2, 3)])
    assert records[4][1]["log_ratio_rms"] > 1.5 * records[1][1]["log_ratio_rms"]
    same = ("entropy", "kl", "reward", "sampled_tokens", "engine_logprob_gap")
    assert {k: records[4][1][k] for k in same} == {k: records[1][1][k] for k in same}


def test_a_run_of_several_epochs_resumes_to_the_same_bytes(tmp_path):
    config = run_config(epochs=3, steps=4)
    whole = run_training(tmp_path / "whole", config)
    folder = tmp_path / "resumed"

    def stop(step, record, seconds):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, make_actors(), PROBLEMS, CheckpointStore(folder, "f"), RunLog(folder), stop)
    resumed = run_training(folder, config)
    assert torch.equal(weights(resumed), weights(whole))
    written = (folder / "metrics.jsonl").read_bytes()
    assert written == (tmp_path / "whole/metrics.jsonl").read_bytes()
