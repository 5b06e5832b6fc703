"""(c) Compare training speed with the machine's matmul rate; (d) time each loss and its gradient."""

from __future__ import annotations

import time

import pytest
import torch

from sspo.data.batching import micro_batches
from sspo.models.policy import ScoreBatch, score
from sspo.objectives.losses import LOSSES
from sspo.rollout.engine import Sampling
from sspo.rollout.torch_engine import TorchEngine

CLIP, TAUS = {"clip_low": 0.2, "clip_high": 0.2}, {"tau_pos": 1.0, "tau_neg": 1.05}
SIGMAS = {"sigma": 1.0, "alpha": 0.3, "beta": 0.03, "sigma_high": 10.0}
CASES = {
    "grpo": ("grpo", CLIP),
    "gspo": ("gspo", {"clip_low": 3e-4, "clip_high": 4e-4}),
    "gmpo": ("gmpo", {"clip": 0.4}),
    "sapo": ("sapo", TAUS),
    "sspo": ("sspo", {"gate": "sigmoid", **TAUS}),
    "sspo_power": ("sspo", {"gate": "sigmoid", **TAUS, "power": 0.5}),
    "vespo": ("vespo", {"k_pos": 2.0, "lambda_pos": 3.0, "k_neg": 3.0, "lambda_neg": 2.0}),
    "luspo": ("luspo", {"clip_low": 2e-3, "clip_high": 2.5e-3}),
    "maspo": ("maspo", {**SIGMAS, "advantage_low": 0.1, "advantage_high": 10.0}),
    "dgpo": ("dgpo", {**CLIP, "n": 1.0, "m": 2.0}),
}


@pytest.fixture(scope="module")
def batches(model, tokenizer, setting):
    """One rollout of 256 responses in the micro-batches of the default run."""
    prompts = setting.prompts(tokenizer, 256, 8)
    engine = TorchEngine(model, tokenizer, shares_policy=True)
    completions = engine.generate(prompts, Sampling(96, 1.0, list(range(256))))
    responses = [c.token_ids for c in completions]
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    return [
        ScoreBatch.collate([prompts[i] for i in rows], [responses[i] for i in rows], "cpu")
        for rows in micro_batches(lengths, setting.config.train.micro_batch)
    ]


def forward_backward(model, batches):
    for batch in batches:
        logprobs, _ = score(model, batch)
        logprobs.sum().backward()
    model.zero_grad()


def test_training(benchmark, model, batches):
    benchmark.pedantic(forward_backward, args=(model, batches), rounds=15, warmup_rounds=2)
    tokens = sum(batch.mask.sum().item() + batch.starts.sum().item() for batch in batches)
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    # For each weight, a token costs 2 floating-point operations forward and 4 backward.
    operations = 6 * tokens * sum(p.numel() for p in inner)
    seconds = benchmark.stats.stats.median
    rate = matmul_rate(model, batches)
    benchmark.extra_info |= {
        "tokens": tokens,
        "gflops": operations / seconds / 1e9,
        "matmul_gflops_at_these_shapes": rate / 1e9,
        "fraction": operations / seconds / rate,
    }


def matmul_rate(model, batches, repeats: int = 10) -> float:
    """Operations per second of the model's matrix products: one forward and two backward per weight."""
    rows = [batch.input_ids.numel() for batch in batches]
    weights = [p.detach() for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    inputs = {(n, w.shape[1]): torch.randn(n, w.shape[1]) for n in rows for w in weights}
    grads = {(n, w.shape[0]): torch.randn(n, w.shape[0]) for n in rows for w in weights}
    rates = []
    for _ in range(repeats):
        began = time.perf_counter()
        for n in rows:
            for w in weights:
                x, g = inputs[n, w.shape[1]], grads[n, w.shape[0]]
                x @ w.t(), g @ w, g.t() @ x
        rates.append(
            6 * sum(rows) * sum(w.numel() for w in weights) / (time.perf_counter() - began)
        )
    return max(rates)


@pytest.mark.parametrize("name", CASES)
def test_loss(benchmark, name, batches):
    """Loss and its gradient w.r.t. the log-probabilities, over the whole rollout."""
    objective, params = CASES[name]
    generator = torch.Generator().manual_seed(0)
    cases = []
    for batch in batches:
        old = -torch.rand(batch.mask.shape, generator=generator)
        drift = 0.1 * torch.randn(batch.mask.shape, generator=generator)
        advantages = torch.randn(len(batch.mask), generator=generator)
        cases.append(((old + drift).requires_grad_(), old, advantages, batch.mask))

    def run():
        for case in cases:
            loss, _ = LOSSES[objective](*case, **params)
            torch.autograd.grad(loss, case[0])

    benchmark.pedantic(run, rounds=30, warmup_rounds=3)
