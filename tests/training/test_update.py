"""One update: its gradient however the batch is split, corrections, old logprobs, the KL term."""

import dataclasses
import math

import pytest
import torch

from sspo.models.policy import ScoreBatch, score
from sspo.objectives.losses import LOSSES
from sspo.rollout.torch_engine import TorchEngine
from sspo.training.errors import TrainingError
from sspo.training.minibatches import split_rollout
from sspo.training.optim import make_optimizer
from sspo.training.trainer import collect_rollout
from sspo.training.update import Scorer, engine_weights, prepare, update_policy
from support.runs import PROBLEMS, gradient_of, make_actors, run_config, weights


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


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_masked_correction_drops_everything_beyond_its_cap(level):
    actors = engine_gap(make_actors(), 9.0)
    masked, _, stats = gradient_of(run_config("grpo", correction=f"{level}_mask"), actors)
    assert not masked.any()
    assert stats["dropped_tokens"] == 1.0


def test_a_masked_correction_equals_the_truncated_one_where_nothing_exceeds_the_cap():
    both = {"token": 0.3, "sequence": 0.01}  # of 0.405 nats, a response has up to 12 tokens
    for level, gap in both.items():
        truncated, masked = (
            gradient_of(run_config("grpo", correction=name), engine_gap(make_actors(), gap))
            for name in (level, f"{level}_mask")
        )
        torch.testing.assert_close(masked[0], truncated[0])
        assert masked[2]["dropped_tokens"] == 0.0
        assert "dropped_tokens" not in truncated[2]


def test_the_token_mask_drops_single_tokens_and_the_sequence_mask_whole_responses():
    config = run_config("grpo", correction="token_mask", micro_batch=1, updates_per_rollout=1)
    rollout = collect_rollout(config, make_actors(), PROBLEMS[:4], step=1)
    micro = split_rollout(config, rollout, "cpu")[0][0]
    # log 1.5 = 0.405: the second token is beyond the cap, and so is the sum.
    gaps = torch.tensor([[0.1, 0.5, -0.1]])
    micro.engine_logprobs = torch.zeros(1, 3)
    micro.old_logprobs = gaps
    micro.batch = dataclasses.replace(micro.batch, mask=torch.ones(1, 3))
    expected = torch.tensor([[0.1, -math.inf, -0.1]]).exp()
    torch.testing.assert_close(engine_weights(config, micro), expected)
    whole = run_config("grpo", correction="sequence_mask")
    assert engine_weights(whole, micro).tolist() == [[0.0]]


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
    for level in ("token", "sequence", "token_mask", "sequence_mask"):
        corrected, *_ = gradient_of(run_config("sspo", correction=level), make_actors())
        torch.testing.assert_close(corrected, plain, rtol=1e-3, atol=1e-6)


def masking(threshold):
    """Record and weights of two updates, the first of which moves the policy far."""
    config = run_config("grpo", learning_rate=20.0, off_policy_threshold=threshold)
    return updated(config, make_actors())


@pytest.mark.parametrize("method", ["grpo", "sspo"])
def test_the_clip_share_is_what_grpos_own_clip_cuts_whatever_the_objective(method):
    record, _ = updated(run_config(method, learning_rate=20.0), make_actors())
    share = record["grpo_clip_share"]
    assert 0.0 < share < 1.0
    assert (share == record["clip_fraction"]) == (method == "grpo")


def test_the_off_policy_mask_is_counted_and_changes_the_update():
    (record, moved), (loose, expected), (off, plain) = map(masking, (0.01, 1e9, None))
    assert 0.0 < record["masked_responses"] < 0.5
    assert record["clip_fraction"] > loose["clip_fraction"]
    assert not torch.equal(moved, expected)
    assert loose["masked_responses"] == 0.0 and torch.equal(expected, plain)
    assert loose == off | {"masked_responses": 0.0}


def test_the_off_policy_mask_measures_the_distance_to_what_the_engine_sampled_with():
    """This engine's log-probabilities are above the policy's, so its responses are far from the start."""
    actors = make_actors()
    sample = actors.engine.generate
    actors.engine.generate = lambda *request: [
        dataclasses.replace(c, logprobs=[0.95 * x for x in c.logprobs]) for c in sample(*request)
    ]
    config = run_config("sspo", updates_per_rollout=1, off_policy_threshold=0.01)
    record, _ = updated(config, actors)
    assert record["log_ratio_max"] == record["log_ratio_min"] == 0.0
    rollout = collect_rollout(config, make_actors(), PROBLEMS[:4], step=1)
    learning = rollout.advantages[rollout.advantages != 0.0]
    negative = (learning < 0.0).float().mean().item()
    assert record["masked_responses"] == pytest.approx(negative)


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
        learning = rollout.advantages[i : i + size] != 0.0
        log_ratios.append((logprobs - old).detach()[learning][batch.mask[learning].bool()])
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
    record = update_policy(config, ours, optimizers[0], prepare(config, ours, rollouts[0], 1))
    expected = textbook_update(config, textbook, rollouts[1], optimizers[1])
    assert expected["log_ratio_var"] > 1e-4
    for key, value in expected.items():
        assert record[key] == pytest.approx(value, rel=1e-3, abs=1e-6), key
    torch.testing.assert_close(weights(ours), weights(textbook), rtol=1e-4, atol=1e-5)


def updated(config, actors):
    """Record and weights after one rollout's updates with plain gradient steps, large enough to drift."""
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    optimizer = torch.optim.SGD(actors.policy.parameters(), lr=config.train.learning_rate)
    return update_policy(config, actors, optimizer, prepare(config, actors, rollout, 1)), weights(
        actors
    )


@pytest.mark.parametrize("method", LOSSES)
def test_old_logprobs_of_an_engine_that_is_the_policy_change_nothing(method):
    (scored, expected), (sampled, found) = (
        updated(run_config(method, learning_rate=0.5, old_logprobs=source), make_actors())
        for source in ("policy", "auto")
    )
    assert scored["log_ratio_var"] > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    of_the_first_update = ("entropy", "engine_logprob_gap", "engine_logprob_gap_mean")
    for key in scored.keys() - set(of_the_first_update):
        assert sampled[key] == pytest.approx(scored[key], rel=1e-3, abs=1e-5), key


def test_ratios_are_taken_to_the_engines_logprobs_where_asked_and_those_of_the_first_update_too():
    for source, expected in (("policy", 0.0), ("engine", 0.25)):
        config = run_config("grpo", learning_rate=1e-6, old_logprobs=source)
        record, _ = updated(config, engine_gap(make_actors(), 0.25))
        assert record["log_ratio_min"] == pytest.approx(expected, abs=1e-4)
        assert record["log_ratio_max"] == pytest.approx(expected, abs=1e-4)
        assert record["engine_logprob_gap_mean"] == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({}, "engine"),
        ({"dtype": "bfloat16"}, "policy"),
        ({"weights_dtype": "int8"}, "policy"),
        ({"rank": 2}, "policy"),
        ({"correction": "token"}, "policy"),
        ({"engine": "vllm"}, "policy"),
    ],
)
def test_old_logprobs_are_the_engines_by_themselves_only_where_it_is_the_policy(changes, source):
    engine = changes.pop("engine", "torch")
    config = run_config(old_logprobs="auto", **changes).changed(rollout={"engine": engine})
    assert config.old_logprobs_from == source


@pytest.mark.parametrize("method", LOSSES)
def test_an_engine_that_should_be_the_policy_and_is_not_stops_the_run(method):
    config = run_config(method, learning_rate=0.5, old_logprobs="auto")
    updated(config, engine_gap(make_actors(), 0.9e-3))
    with pytest.raises(TrainingError, match=r"'auto': the engine's .* up to 0\.0011 nats") as e:
        updated(config, engine_gap(make_actors(), 1.1e-3))
    assert "set it to policy" in str(e.value)


def test_rows_that_teach_nothing_are_scored_by_the_first_update_alone():
    config, actors = run_config("grpo", old_logprobs="engine", kl_every=0), make_actors()
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    rollout.advantages[4:12] = 0.0  # the second group of each of two minibatches
    rows = []
    hook = actors.policy.base_model.register_forward_hook(lambda m, i, o: rows.append(len(i[0])))
    optimizer = make_optimizer(actors.policy, 1e-3, config.train.betas, 0.0)
    with hook:
        record = update_policy(config, actors, optimizer, prepare(config, actors, rollout, 1))
    assert sum(rows) == 8 + 4
    assert record["engine_logprob_gap"] < 1e-4


@pytest.mark.parametrize(("source", "ahead"), [("policy", 8), ("engine", 0)])
def test_no_response_goes_through_the_model_more_often_than_needed(source, ahead):
    config, actors = run_config("grpo", old_logprobs=source), make_actors()
    rollout = collect_rollout(config, actors, PROBLEMS[:4], step=1)
    rows = []
    hook = actors.policy.base_model.register_forward_hook(lambda m, i, o: rows.append(len(i[0])))
    optimizer = make_optimizer(actors.policy, 1e-3, config.train.betas, 0.0)
    with hook:
        update_policy(config, actors, optimizer, prepare(config, actors, rollout, 1))
    # The second minibatch's 8 responses before the first update, then each minibatch once.
    assert (rollout.advantages[8:] != 0.0).all()
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
