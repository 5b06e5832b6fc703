"""Warm-up training and the optimizer it shares with RL: loss, gradient, schedule, clipping."""

from __future__ import annotations

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from sspo.config.settings import SupervisedConfig
from sspo.data.batching import batches
from sspo.data.problems import read_jsonl
from sspo.data.tasks import SplitSpec, TraceStyle, make_splits
from sspo.models.policy import load_model
from sspo.training.errors import NonFiniteError
from sspo.training.optim import apply_update, learning_rate_at, make_optimizer
from sspo.training.supervised import encode_solutions, train_supervised
from support.supervised_runs import PROBLEMS, supervised_config, train_supervised_run

STYLE = TraceStyle(careful_author=0.3, careful_step=0.3, slip=0.5, noise=0.0)
RECORDS = make_splits(
    "chain", {"warmup": SplitSpec(size=12, min_operations=1, max_operations=4)}, STYLE, seed=0
)["warmup"]


def settings(**changes) -> SupervisedConfig:
    values = {
        "steps": 6,
        "batch_size": 5,
        "micro_batch": 3,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup_steps": 2,
        "betas": (0.9, 0.99),
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "log_every": 1,
        "eval_every": 0,
    }
    return SupervisedConfig(**{**values, **changes})


@pytest.fixture
def examples(tokenizer):
    return encode_solutions(RECORDS, tokenizer)


def train(model, examples, config, seed=0, validate=lambda: {"greedy": 0.5}):
    records = []
    train_supervised(model, examples, config, seed, validate, records.append)
    return records


def gradients(model, examples, config, monkeypatch) -> list[torch.Tensor]:
    """The gradient of every update of a model whose weights are held fixed."""
    seen = []

    def keep(trained, optimizer, rate, max_norm, loss):
        seen.append(torch.cat([p.grad.flatten() for p in trained.parameters()]))
        optimizer.zero_grad(set_to_none=True)
        return 0.0

    monkeypatch.setattr("sspo.training.supervised.apply_update", keep)
    train(copy.deepcopy(model), examples, config)
    return seen


def naive_loss(model, chosen):
    """Mean cross-entropy per solution token in float64, row by row, over full logits."""
    total, count = 0.0, 0
    for prompt, solution in chosen:
        logits = model(torch.tensor([prompt + solution])).logits[0].double()
        for i, token in enumerate(solution):
            row = logits[len(prompt) + i - 1]
            total = total + torch.logsumexp(row, dim=0) - row[token]
        count += len(solution)
    return total / count


# Examples


def test_examples_are_prompt_and_solution_with_the_end_token(tokenizer, examples):
    for record, (prompt, solution) in zip(RECORDS, examples, strict=True):
        assert tokenizer.decode(prompt) == record["prompt"]
        assert tokenizer.decode(solution[:-1]) == record["solution"]
        assert solution[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in prompt


# Loss and gradient


def test_loss_and_gradient_are_those_of_naive_cross_entropy_on_solution_tokens(
    model, examples, monkeypatch
):
    config = settings(steps=3, learning_rate=1e-30)  # the weights stay where they are
    order = list(itertools.islice(batches(len(examples), config.batch_size, seed=0), config.steps))
    reported = train(copy.deepcopy(model), examples, config)
    seen = gradients(model, examples, config, monkeypatch)
    reference = copy.deepcopy(model).double()
    for rows, gradient, record in zip(order, seen, reported, strict=True):
        reference.zero_grad(set_to_none=True)
        loss = naive_loss(reference, [examples[i] for i in rows])
        loss.backward()
        expected = torch.cat([p.grad.flatten() for p in reference.parameters()])
        assert record["loss"] == pytest.approx(loss.item(), abs=1e-5)
        assert record["grad_norm"] == pytest.approx(expected.norm().item(), rel=1e-4)
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-6)


def test_prompt_tokens_carry_no_loss(model):
    # One solution token after a long prompt: were prompt tokens in the mean, the loss would not be it.
    prompt, solution = [5, 9, 3, 12, 7, 4, 8, 3, 3, 10], [6]
    record, *_ = train(copy.deepcopy(model), [(prompt, solution)] * 5, settings(steps=1))
    logits = model(torch.tensor([prompt])).logits[0, -1]
    expected = -logits.detach().log_softmax(-1)[6].item()
    assert record["loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_gradient_does_not_depend_on_the_micro_batch(model, examples, monkeypatch, micro_batch):
    whole = gradients(model, examples, settings(micro_batch=5), monkeypatch)
    split = gradients(model, examples, settings(micro_batch=micro_batch), monkeypatch)
    assert len({len(solution) for _, solution in examples}) > 3  # or a mean of means would pass
    for one, other in zip(whole, split, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)


def test_loss_falls_when_few_examples_are_repeated(model, examples):
    config = settings(
        steps=60, batch_size=4, micro_batch=4, learning_rate=1e-2, weight_decay=0.0, warmup_steps=0
    )
    losses = [record["loss"] for record in train(model, examples[:4], config)]
    assert losses[0] > 2.0
    assert losses[-1] < 0.1


def test_same_seed_gives_the_same_weights_and_another_seed_others(model, examples):
    noise = itertools.count()

    def trained(seed):
        twin = copy.deepcopy(model)
        torch.manual_seed(next(noise))  # nothing may depend on the global generator
        train(twin, examples, settings(), seed)
        return torch.cat([p.detach().flatten() for p in twin.parameters()])

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))


# Records


@pytest.mark.parametrize(
    "log_every, eval_every, logged, validated",
    [
        (2, 0, [2, 4, 6, 7], [7]),
        (1, 3, [1, 2, 3, 4, 5, 6, 7], [3, 6, 7]),
        (5, 2, [2, 4, 5, 6, 7], [2, 4, 6, 7]),
        (7, 7, [7], [7]),
        (100, 0, [7], [7]),
    ],
)
def test_records_come_as_often_as_asked_and_the_last_update_is_validated(
    model, examples, log_every, eval_every, logged, validated
):
    config = settings(steps=7, log_every=log_every, eval_every=eval_every)
    records = train(model, examples, config)
    assert [r["step"] for r in records] == logged
    assert [r["step"] for r in records if "greedy" in r] == validated


def test_records_hold_the_learning_rate_of_the_schedule(model, examples):
    records = train(model, examples, settings(steps=6, warmup_steps=2, learning_rate=0.01))
    expected = [0.005, 0.01] + [0.005 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    assert [r["learning_rate"] for r in records] == pytest.approx(expected)


# Schedule


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warm_up_rises_linearly_to_the_peak_without_a_zero_step(schedule):
    rates = [learning_rate_at(i, 3.0, 6, 50, schedule) for i in range(6)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])


def test_constant_holds_the_peak_whatever_the_total():
    rates = {
        learning_rate_at(i, 3.0, 6, total, "constant") for i in range(6, 99) for total in (0, 9)
    }
    assert rates == {3.0}


@pytest.mark.parametrize("warmup, total", [(0, 40), (7, 40), (39, 40)])
def test_cosine_falls_from_the_peak_to_zero_after_the_last_update(warmup, total):
    rates = np.array(
        [learning_rate_at(i, 2.0, warmup, total, "cosine") for i in range(warmup, total)]
    )
    progress = np.arange(total - warmup) / (total - warmup)
    np.testing.assert_allclose(rates, 2.0 * np.cos(np.pi * progress / 2) ** 2, atol=1e-12)
    assert rates[0] == 2.0
    assert learning_rate_at(total, 2.0, warmup, total, "cosine") == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("update", [0, 30])
def test_an_unknown_schedule_raises_also_during_warm_up(update):
    with pytest.raises(ValueError, match="unknown schedule 'linear'; choose constant or cosine"):
        learning_rate_at(update, 1.0, 10, 50, "linear")


# Optimizer


def test_weight_decay_is_on_matrices_only(model):
    optimizer = make_optimizer(model, 0.1, (0.9, 0.99), 0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    vectors = 0
    for name, parameter in model.named_parameters():
        factor = 1.0 - 0.1 * 0.5 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)
        vectors += parameter.ndim < 2
    assert vectors > 0


def test_every_parameter_is_optimised_once(model):
    groups = make_optimizer(model, 0.1, (0.9, 0.99), 0.5).param_groups
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())


def test_updates_equal_adamw_written_out():
    rng = np.random.default_rng(0)
    layer = nn.Linear(4, 3)
    optimizer = make_optimizer(layer, 0.05, (0.8, 0.95), 0.2)
    weight = layer.weight.detach().double().numpy().copy()
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for t in range(1, 6):
        gradient = rng.normal(size=weight.shape)
        layer.weight.grad = torch.tensor(gradient, dtype=torch.float32)
        layer.bias.grad = torch.zeros(3)
        rate = 0.05 / t
        apply_update(layer, optimizer, rate, max_grad_norm=1e9)
        first = 0.8 * first + 0.2 * gradient
        second = 0.95 * second + 0.05 * gradient**2
        weight *= 1.0 - rate * 0.2
        weight -= rate * (first / (1 - 0.8**t)) / (np.sqrt(second / (1 - 0.95**t)) + 1e-8)
    np.testing.assert_allclose(layer.weight.detach().numpy(), weight, atol=1e-5)


@pytest.mark.parametrize("max_grad_norm, scale", [(1.0, 1.0 / 13.0), (26.0, 1.0)])
def test_apply_update_returns_the_norm_before_clipping_and_steps_with_the_clipped_gradient(
    max_grad_norm, scale
):
    layer = nn.Linear(2, 1)
    before = [p.detach().clone() for p in layer.parameters()]
    grads = [torch.tensor([[3.0, 4.0]]), torch.tensor([12.0])]  # norm 13 over all parameters
    for parameter, grad in zip(layer.parameters(), grads, strict=True):
        parameter.grad = grad.clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=99.0)
    assert apply_update(layer, optimizer, 0.5, max_grad_norm) == pytest.approx(13.0)
    for parameter, old, grad in zip(layer.parameters(), before, grads, strict=True):
        torch.testing.assert_close(
            parameter.detach(), old - 0.5 * scale * grad, rtol=1e-5, atol=1e-5
        )
        assert parameter.grad is None


def test_a_loss_that_is_not_finite_stops_training_at_its_step_and_changes_no_weight(
    model, examples
):
    with torch.no_grad():
        model.base_model.norm.weight[0] = math.inf
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(NonFiniteError, match=r"supervised training, step 1: loss nan"):
        train(model, examples, settings())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_a_supervised_run_saves_model_and_metrics_on_the_axis_of_rl_steps(
    model, tokenizer, tmp_path
):
    records = [{**problem, "solution": f"{problem['answer']}#"} for problem in PROBLEMS]
    shown = []
    train_supervised_run(model, tokenizer, tmp_path, records, lambda step, _: shown.append(step))
    metrics = read_jsonl(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in metrics] == shown == [0, 1, 2]
    assert all({"greedy", "pass@1"} <= record.keys() for record in metrics)
    saved = load_model(tmp_path / "model")
    for a, b in zip(saved.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert (progress["step"], progress["steps"]) == (2, 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_validation_follows_the_model_in_either_precision(model, tokenizer, tmp_path, dtype):
    records = [{**problem, "solution": f"#{problem['answer']}"} for problem in PROBLEMS]
    config = supervised_config(60)
    config = config.changed(
        supervised={"learning_rate": 1e-2, "eval_every": 60}, compute={"dtype": dtype}
    )
    train_supervised_run(model, tokenizer, tmp_path, records, config=config)
    accuracy = [r["greedy"] for r in read_jsonl(tmp_path / "metrics.jsonl") if "greedy" in r]
    assert accuracy == [0.0, 1.0]


def test_a_supervised_run_that_diverges_saves_no_model(model, tokenizer, tmp_path):
    records = [{**problem, "solution": f"{problem['answer']}#"} for problem in PROBLEMS]
    with torch.no_grad():
        model.base_model.norm.weight[0] = float("inf")
    with pytest.raises(RuntimeError, match="supervised training, step 1"):
        train_supervised_run(model, tokenizer, tmp_path, records)
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "metrics.jsonl").exists()
