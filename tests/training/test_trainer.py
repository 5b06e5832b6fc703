"""The training loop: determinism, on-policy identities, micro-batch independence, resume."""

import dataclasses
import json
import math

import pytest
import torch

from sspo.models.policy import ScoreBatch, score
from sspo.objectives.losses import LOSSES
from sspo.rewards.base import Reward
from sspo.rollout.torch_engine import TorchEngine
from sspo.training.checkpoint import CheckpointStore
from sspo.training.errors import TrainingError
from sspo.training.metrics import RunLog, UpdateStats
from sspo.training.optim import make_optimizer
from sspo.training.trainer import collect_rollout, train
from sspo.training.update import (
    Scorer,
    accumulate_gradient,
    engine_weights,
    split_rollout,
    update_policy,
)
from support.runs import (
    PARAMS,
    PROBLEMS,
    SEQUENCE_MEAN,
    TOKENIZER,
    make_actors,
    mixed_reward,
    read_metrics,
    run_config,
    run_training,
    weights,
)


def gradient_of(config, actors):
    """The gradient of the first minibatch, the loss's value and its statistics."""
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    minibatches = split_rollout(config, rollout, actors.policy.device)
    stats = UpdateStats()
    loss = accumulate_gradient(
        config, Scorer(config, actors.policy, actors.reference), minibatches[0], stats
    )
    return torch.cat([p.grad.flatten() for p in actors.policy.parameters()]), loss, stats.summary()


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


@pytest.mark.parametrize("method", LOSSES)
def test_gradient_does_not_depend_on_the_micro_batch_split(method):
    whole, loss, stats = gradient_of(run_config(method, micro_batch=8), make_actors())
    for size in (1, 3):
        split, split_loss, split_stats = gradient_of(
            run_config(method, micro_batch=size), make_actors()
        )
        torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-6)
        assert split_loss == pytest.approx(loss, abs=1e-6)
        assert split_stats["coefficient_mean"] == pytest.approx(stats["coefficient_mean"], abs=1e-4)


def test_gradient_does_not_depend_on_a_token_budget_of_micro_batches():
    whole, loss, _ = gradient_of(run_config(micro_batch=8), make_actors())
    split, split_loss, _ = gradient_of(
        run_config(micro_batch=8, micro_batch_tokens=40), make_actors()
    )
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-6)
    assert split_loss == pytest.approx(loss, abs=1e-6)


def test_no_micro_batch_of_several_responses_exceeds_the_token_budget():
    config = run_config(micro_batch=8, micro_batch_tokens=40)
    rollout = collect_rollout(config, make_actors(), PROBLEMS[:4], step=1)
    micros = [m for minibatch in split_rollout(config, rollout, "cpu") for m in minibatch]
    assert sorted(row for m in micros for row in m.rows) == list(range(16))
    assert all(m.batch.input_ids.numel() <= 40 for m in micros if len(m.rows) > 1)
    assert max(len(m.rows) for m in micros) > 1


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


@pytest.mark.parametrize("method", LOSSES)
def test_first_update_in_bfloat16_has_log_ratio_exactly_zero(method):
    _, _, stats = gradient_of(run_config(method, dtype="bfloat16"), make_actors())
    assert stats["log_ratio_min"] == stats["log_ratio_max"] == 0.0


def test_gradient_in_bfloat16_points_where_that_in_float32_does():
    exact, *_ = gradient_of(run_config(), make_actors())
    mixed, *_ = gradient_of(run_config(dtype="bfloat16"), make_actors())
    assert torch.nn.functional.cosine_similarity(exact, mixed, dim=0) > 0.99
    assert not torch.equal(exact, mixed)


def engine_gap(actors, gap):
    """Actors whose engine reports log-probabilities ``gap`` nats below those it sampled from."""
    actors.engine.generate = lambda *request: [
        dataclasses.replace(c, logprobs=[value - gap for value in c.logprobs])
        for c in TorchEngine.generate(actors.engine, *request)
    ]
    return actors


def test_the_token_correction_weighs_every_tokens_gradient_by_its_ratio_to_the_engine():
    plain, *_ = gradient_of(run_config("grpo"), make_actors())
    actors = engine_gap(make_actors(), math.log(1.2))
    corrected, *_ = gradient_of(run_config("grpo", correction="token"), actors)
    torch.testing.assert_close(corrected, 1.2 * plain, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_no_weight_of_the_correction_exceeds_its_cap(level):
    plain, *_ = gradient_of(run_config("grpo"), make_actors())
    actors = engine_gap(make_actors(), 9.0)
    capped, *_ = gradient_of(run_config("grpo", correction=level), actors)
    torch.testing.assert_close(capped, 1.5 * plain, rtol=1e-3, atol=1e-6)


def test_the_sequence_correction_is_the_product_of_the_token_ratios():
    config = run_config("grpo", correction="sequence", micro_batch=1, updates_per_rollout=1)
    actors = engine_gap(make_actors(), -0.05)
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    (minibatch,) = split_rollout(config, rollout, "cpu")
    scorer = Scorer(config, actors.policy)
    for micro in minibatch:
        scorer.score(micro)
        tokens = micro.batch.mask.sum().item()
        assert engine_weights(config, micro).item() == pytest.approx(math.exp(-0.05 * tokens), 1e-3)


def test_without_a_gap_the_correction_changes_nothing():
    plain, *_ = gradient_of(run_config("sspo"), make_actors())
    for level in ("token", "sequence"):
        corrected, *_ = gradient_of(run_config("sspo", correction=level), make_actors())
        torch.testing.assert_close(corrected, plain, rtol=1e-3, atol=1e-6)


def textbook_update(config, actors, rollout, optimizer):
    """The plain loop: every old log-probability first, then whole padded minibatches, no row skipped."""
    settings = config.train
    responses = [c.token_ids for c in rollout.completions]
    size = len(responses) // settings.updates_per_rollout
    starts = range(0, len(responses), size)
    batches = [
        ScoreBatch.collate(rollout.prompts[i : i + size], responses[i : i + size], "cpu")
        for i in starts
    ]
    with torch.no_grad():
        scored = [score(actors.policy, batch) for batch in batches]
    tokens = sum(batch.mask.sum() for batch in batches)
    record = {"entropy": (sum(entropy.sum() for _, entropy in scored) / tokens).item()}
    losses, log_ratios = [], []
    for i, batch, (old, _) in zip(starts, batches, scored, strict=True):
        logprobs, _ = score(actors.policy, batch)
        loss, _ = LOSSES[config.objective.name](
            logprobs, old, rollout.advantages[i : i + size], batch.mask, **config.objective.params
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(actors.policy.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        log_ratios.append((logprobs - old).detach()[batch.mask.bool()])
    record["loss"] = sum(losses) / len(losses)
    record["log_ratio_var"] = torch.cat(log_ratios).var(unbiased=False).item()
    return record


@pytest.mark.parametrize("method", LOSSES)
def test_updates_equal_those_of_the_textbook_loop(method):
    config = run_config(method, learning_rate=0.5, micro_batch=3)
    ours, textbook = make_actors(), make_actors()
    rollouts = [collect_rollout(config, a, PROBLEMS[:4], step=1) for a in (ours, textbook)]
    optimizers = [torch.optim.SGD(a.policy.parameters(), lr=0.5) for a in (ours, textbook)]
    for rollout in rollouts:
        rollout.advantages[:4] = 0.0  # a group that teaches nothing
    record = update_policy(config, ours, optimizers[0], rollouts[0], step=1)
    expected = textbook_update(config, textbook, rollouts[1], optimizers[1])
    assert expected["log_ratio_var"] > 1e-4
    for key, value in expected.items():
        assert record[key] == pytest.approx(value, rel=1e-3, abs=1e-6), key
    torch.testing.assert_close(weights(ours), weights(textbook), rtol=1e-4, atol=1e-5)


def updated(config, actors):
    """Record and weights after one rollout's updates with plain gradient steps, large enough to drift."""
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    optimizer = torch.optim.SGD(actors.policy.parameters(), lr=config.train.learning_rate)
    return update_policy(config, actors, optimizer, rollout, step=1), weights(actors)


@pytest.mark.parametrize("method", LOSSES)
def test_old_logprobs_of_an_engine_that_is_the_policy_change_nothing(method):
    (scored, expected), (sampled, found) = (
        updated(run_config(method, learning_rate=0.5, old_logprobs=source), make_actors())
        for source in ("policy", "engine")
    )
    assert scored["log_ratio_var"] > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    of_the_first_update = ("entropy", "engine_logprob_gap", "engine_logprob_gap_mean")
    for key in scored.keys() - set(of_the_first_update):
        assert sampled[key] == pytest.approx(scored[key], rel=1e-3, abs=1e-5), key


def test_ratios_of_all_updates_but_the_first_are_taken_to_the_engines_logprobs_where_asked():
    for source, largest in (("policy", 0.0), ("engine", 0.25)):
        config = run_config("grpo", learning_rate=1e-6, old_logprobs=source)
        record, _ = updated(config, engine_gap(make_actors(), 0.25))
        assert record["log_ratio_min"] == pytest.approx(0.0, abs=1e-4)
        assert record["log_ratio_max"] == pytest.approx(largest, abs=1e-4)
        assert record["engine_logprob_gap_mean"] == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize(("source", "ahead"), [("policy", 8), ("engine", 0)])
def test_no_response_goes_through_the_model_more_often_than_needed(source, ahead):
    config, actors = run_config("grpo", old_logprobs=source), make_actors()
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    rows = []
    hook = actors.policy.base_model.register_forward_hook(lambda m, i, o: rows.append(len(i[0])))
    optimizer = make_optimizer(actors.policy, 1e-3, config.train.betas, 0.0)
    with hook:
        update_policy(config, actors, optimizer, rollout, step=1)
    # The second minibatch's 8 responses before the first update, then each minibatch once.
    assert sum(rows) == ahead + 8 + 8


def test_rows_that_teach_nothing_are_not_differentiated_but_counted():
    config = run_config("grpo", micro_batch=8)
    actors = make_actors()
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    rollout.advantages[:4] = 0.0
    first, second = split_rollout(config, rollout, actors.policy.device)
    assert sum(len(m.advantages) for m in first if not m.differentiate) == 4
    assert all(m.differentiate == bool((m.advantages != 0).all()) for m in first + second)
    assert sum(len(m.advantages) for m in first) == sum(len(m.advantages) for m in second) == 8
    with_kl = split_rollout(run_config("grpo", kl_coefficient=0.1), rollout, actors.policy.device)
    assert all(m.differentiate for minibatch in with_kl for m in minibatch)


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


def test_kl_term_adds_the_gradient_of_the_k3_divergence():
    actors = make_actors()
    with torch.no_grad():  # move the policy off its reference
        for parameter in actors.policy.parameters():
            parameter.add_(0.02 * torch.sin(torch.arange(parameter.numel()).view_as(parameter)))
    plain, *_ = gradient_of(run_config(), actors)
    actors.policy.zero_grad()
    penalised, *_ = gradient_of(run_config(kl_coefficient=0.5), actors)
    actors.policy.zero_grad()
    doubled, *_ = gradient_of(run_config(kl_coefficient=1.0), actors)
    assert (penalised - plain).norm() > 1e-4
    torch.testing.assert_close(doubled - plain, 2 * (penalised - plain), rtol=1e-3, atol=1e-6)


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
