"""The training loop: determinism, on-policy identities, micro-batch independence, resume."""

import dataclasses
import json

import pytest
import torch

from sspo.objectives.losses import LOSSES
from sspo.rewards.base import Reward
from sspo.rollout.torch_engine import TorchEngine
from sspo.training.checkpoint import CheckpointStore
from sspo.training.errors import TrainingError
from sspo.training.metrics import RunLog
from sspo.training.trainer import collect_rollout, train
from support.runs import (
    PARAMS,
    PROBLEMS,
    SEQUENCE_MEAN,
    TOKENIZER,
    gradient_of,
    make_actors,
    mixed_reward,
    read_metrics,
    run_config,
    run_training,
    weights,
)


def test_same_seed_twice_gives_identical_bytes_and_weights(tmp_path):
    first = run_training(tmp_path / "a", run_config())
    second = run_training(tmp_path / "b", run_config())
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert torch.equal(weights(first), weights(second))


def test_another_seed_gives_other_rollouts(tmp_path):
    run_training(tmp_path / "a", run_config())
    run_training(tmp_path / "b", run_config(seed=1))
    first, second = ((tmp_path / n / "rollouts.jsonl").read_text() for n in "ab")
    assert first != second


def test_methods_with_one_seed_see_the_same_prompts_and_first_responses(tmp_path):
    for method in ("grpo", "sspo"):
        run_training(tmp_path / method, run_config(method, steps=2))
    grpo, sspo = (
        [json.loads(x) for x in (tmp_path / m / "rollouts.jsonl").read_text().splitlines()]
        for m in ("grpo", "sspo")
    )
    assert [r["problem"] for r in grpo] == [r["problem"] for r in sspo]
    firsts = [[r["response"] for r in rows if r["step"] == 1] for rows in (grpo, sspo)]
    assert firsts[0] == firsts[1]


@pytest.mark.parametrize("method", LOSSES)
def test_first_update_of_a_rollout_has_log_ratio_exactly_zero(method):
    _, _, stats = gradient_of(run_config(method), make_actors())
    assert stats["log_ratio_min"] == stats["log_ratio_max"] == 0.0
    assert stats["clip_fraction"] == 0.0


@pytest.mark.parametrize("method", SEQUENCE_MEAN)
def test_first_gradient_is_reinforce_for_every_sequence_mean_objective(method):
    actors = make_actors()
    config = run_config(method)
    gradient, _, stats = gradient_of(config, actors)
    rollout = collect_rollout(config, make_actors(), PROBLEMS[:4], step=1)
    reference = make_actors().policy
    objective = 0.0
    rows = 8  # the first of two minibatches of 16 responses
    for i in range(rows):
        ids = torch.tensor([rollout.prompts[i] + rollout.completions[i].token_ids])
        start = len(rollout.prompts[i])
        logprobs = reference(ids).logits[0].log_softmax(-1)
        chosen = logprobs[start - 1 : -1].gather(-1, ids[0, start:, None])
        objective = objective - rollout.advantages[i] * chosen.mean() / rows
    objective.backward()
    expected = torch.cat([p.grad.flatten() for p in reference.parameters()])
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)
    assert stats["coefficient_mean"] == pytest.approx(1.0, abs=1e-5)


def test_with_one_update_per_rollout_all_sequence_mean_methods_train_alike(tmp_path):
    # Stochastic gradient descent in disguise: the first Adam step depends on the gradient's sign only,
    # so three steps compare the gradients themselves through the weights.
    results = []
    for method in SEQUENCE_MEAN:
        config = run_config(method, updates_per_rollout=1, learning_rate=1e-4)
        results.append(weights(run_training(tmp_path / method, config)))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=1e-5)


def test_a_policy_computing_in_bfloat16_learns_from_updates_that_bfloat16_weights_would_lose(
    tmp_path,
):
    config = run_config(dtype="bfloat16", learning_rate=1e-6, steps=1)
    actors = make_actors()
    before = weights(actors).clone()
    after = weights(run_training(tmp_path, config, actors))
    assert after.dtype == torch.float32
    assert 0.0 < (after - before).abs().max() <= 2.1e-6
    assert (before.bfloat16() == after.bfloat16()).float().mean() > 0.9


def test_a_minibatch_that_teaches_nothing_still_moves_adam_on(tmp_path):
    def only_first_step(answer, completion):
        only_first_step.calls += 1
        return mixed_reward(answer, completion) if only_first_step.calls <= 16 else Reward(0.0, "x")

    only_first_step.calls = 0
    actors = make_actors(reward=only_first_step)
    config = run_config("grpo", steps=1)
    before = weights(run_training(tmp_path / "one", config, actors)).clone()
    only_first_step.calls = 0
    actors = make_actors(reward=only_first_step)
    after = weights(run_training(tmp_path / "two", run_config("grpo", steps=2), actors))
    assert (after - before).abs().max() > 1e-5  # momentum of the first step


def test_kl_of_the_initial_policy_is_zero_and_grows_with_training(tmp_path):
    run_training(tmp_path, run_config(steps=3))
    kl = [r["kl"] for r in read_metrics(tmp_path)[1:]]
    assert kl[0] == 0.0
    assert all(value > 0.0 for value in kl[1:])


def test_a_run_without_kl_needs_no_initial_policy(tmp_path):
    actors = dataclasses.replace(make_actors(), reference=None)
    run_training(tmp_path, run_config(kl_every=0), actors)
    assert all("kl" not in record for record in read_metrics(tmp_path))


def test_a_kl_term_without_the_initial_policy_is_refused():
    with pytest.raises(ValueError, match=r"kl_coefficient = 0\.1 .*kl_every = 0"):
        run_config(kl_coefficient=0.1, kl_every=0)


def test_groups_of_equal_rewards_teach_nothing(tmp_path):
    actors = make_actors(reward=lambda answer, completion: Reward(1.0, "correct"))
    before = weights(actors).clone()
    run_training(tmp_path, run_config(), actors)
    assert torch.equal(weights(actors), before)
    assert [r["degenerate_groups"] for r in read_metrics(tmp_path)[1:]] == [1.0, 1.0, 1.0]


def test_training_raises_the_reward_it_is_given(tmp_path):
    def likes_seven(answer, completion):
        return Reward(
            float(TOKENIZER.convert_tokens_to_ids("7") in completion.token_ids), "correct"
        )

    config = run_config(steps=15, learning_rate=3e-3)
    run_training(tmp_path, config, make_actors(likes_seven))
    rewards = [r["reward"] for r in read_metrics(tmp_path)[1:]]
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.5


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_resumed_after_a_stop_ends_with_the_same_bytes(tmp_path, stop):
    config = run_config(steps=4)
    whole = run_training(tmp_path / "whole", config)

    class Stop(Exception):
        pass

    def stop_here(step, record, seconds):
        if step == stop:
            raise Stop

    folder = tmp_path / "resumed"
    store = CheckpointStore(folder, "f")
    with pytest.raises(Stop):
        train(config, make_actors(), PROBLEMS, store, RunLog(folder), stop_here)
    resumed = run_training(folder, config)
    assert torch.equal(weights(resumed), weights(whole))
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_resume_redoes_steps_after_the_last_saved_state(tmp_path):
    config = run_config(steps=4, checkpoint_every=2)
    whole = run_training(tmp_path / "whole", config)
    folder = tmp_path / "resumed"

    def stop_at_three(step, record, seconds):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            config,
            make_actors(),
            PROBLEMS,
            CheckpointStore(folder, "f"),
            RunLog(folder),
            stop_at_three,
        )
    resumed = run_training(folder, config)
    assert [r["step"] for r in read_metrics(folder)] == [0, 1, 2, 3, 4]
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("name", ["metrics.jsonl", "rollouts.jsonl"])
def test_a_run_whose_log_was_damaged_starts_over_rather_than_lose_records(tmp_path, name, caplog):
    config = run_config(steps=3)
    whole = run_training(tmp_path / "whole", config)
    folder = tmp_path / "resumed"
    run_training(folder, config.changed(train={"steps": 2}))
    lines = (folder / name).read_bytes().splitlines(keepends=True)
    (folder / name).write_bytes(b"".join([lines[0], b"#", *lines[1:]]))
    resumed = run_training(folder, config)
    assert "run log that belongs to" in caplog.text
    assert torch.equal(weights(resumed), weights(whole))
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_non_finite_gradient_stops_the_run_and_names_run_and_step(tmp_path):
    actors = make_actors()
    poisoned = dataclasses.replace(
        actors, reward=lambda answer, completion: Reward(float("nan"), "correct")
    )
    with pytest.raises(TrainingError, match=r"sspo-s0: step 1, update 1"):
        run_training(tmp_path, run_config(), poisoned)


def test_missing_completions_stop_the_run(tmp_path):
    actors = make_actors()

    class Forgetful(TorchEngine):
        def generate(self, prompts, sampling):
            return super().generate(prompts, sampling)[:-1]

    lossy = dataclasses.replace(actors, engine=Forgetful(actors.policy, TOKENIZER))
    with pytest.raises(TrainingError, match="asked for 16 completions, got 15"):
        run_training(tmp_path, run_config(), lossy)


def test_bad_objective_parameters_are_refused_before_anything_is_written(tmp_path):
    config = run_config()
    bad = config.changed(objective={"params": {**PARAMS["sspo"], "tau_pos": -1.0}})
    with pytest.raises(ValueError, match="tau_pos"):
        run_training(tmp_path / "run", bad)
    assert not (tmp_path / "run").exists()


def test_metrics_count_tokens_lengths_and_failures(tmp_path):
    run_training(tmp_path, run_config(steps=2))
    first, second = read_metrics(tmp_path)[1:3]
    assert first["sampled_tokens"] == round(16 * first["response_tokens"])
    assert second["sampled_tokens"] == pytest.approx(
        first["sampled_tokens"] + 16 * second["response_tokens"]
    )
    assert 0.0 <= first["engine_logprob_gap_mean"] <= first["engine_logprob_gap"] < 1e-4
    assert 0.0 < first["entropy"] < 3.1
