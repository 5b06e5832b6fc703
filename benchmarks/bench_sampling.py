"""(b) Time every engine on one rollout of the default run, and on an evaluation.

A rollout has 256 responses. An evaluation has 4,096, as many as one split of the default run.
"""

from __future__ import annotations

import importlib.util

import pytest
import torch
from hand_written import HandWritten

from sspo.rollout.engine import Sampling
from sspo.rollout.torch_engine import TorchEngine

HORIZON = 96
ENGINES = ("torch", "hand_written", "generate", "vllm")


@pytest.fixture(params=[256, 4096], ids=["rollout", "evaluation"])
def request_of(request, setting, tokenizer):
    count = request.param
    seeds = list(range(count))
    return setting.prompts(tokenizer, count, 8), Sampling(HORIZON, 1.0, seeds)


def make_sampler(name, model, tokenizer, setting):
    """A function (prompts, sampling) -> token ids of every completion."""
    if name == "torch":
        engine = TorchEngine(model, tokenizer, shares_policy=True)
        return lambda prompts, sampling: ids_of(engine.generate(prompts, sampling))
    if name == "hand_written":
        hand = HandWritten(model)
        eos = tokenizer.eos_token_id
        return lambda prompts, sampling: in_batches(
            prompts, sampling, lambda p, s: hand.generate(p, HORIZON, s, eos)
        )
    if name == "generate":
        return lambda prompts, sampling: in_batches(
            prompts, sampling, lambda p, s: hugging_face(model, tokenizer, p)
        )
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed (make vllm)")
    from sspo.rollout.vllm_engine import VllmEngine

    engine = VllmEngine(setting.model, tokenizer)
    engine.load_weights(model.state_dict())
    return lambda prompts, sampling: ids_of(engine.generate(prompts, sampling))


def ids_of(completions):
    return [c.token_ids for c in completions]


def in_batches(prompts, sampling, generate, size=1024):
    """At most ``size`` prompts at once, as the torch engine does."""
    done = []
    for i in range(0, len(prompts), size):
        done += generate(prompts[i : i + size], sampling.seeds[i : i + size])
    return done


@torch.no_grad()
def hugging_face(model, tokenizer, prompts):
    """``model.generate``, as TRL samples."""
    tokenizer.padding_side = "left"
    batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    out = model.generate(**batch, max_new_tokens=HORIZON, do_sample=True, temperature=1.0, top_k=0)
    rows = out[:, batch["input_ids"].shape[1] :].tolist()
    eos = tokenizer.eos_token_id
    return [row[: row.index(eos) + 1] if eos in row else row for row in rows]


@pytest.mark.parametrize("name", ENGINES)
def test_sampling(benchmark, name, model, tokenizer, setting, request_of):
    prompts, sampling = request_of
    if name == "vllm" and len(prompts) > 256:
        pytest.skip("vLLM is measured on the rollout only")
    sample = make_sampler(name, model.eval(), tokenizer, setting)
    rounds = 15 if len(prompts) == 256 else 3
    completions = benchmark.pedantic(
        sample, args=(prompts, sampling), rounds=rounds, warmup_rounds=1
    )
    benchmark.extra_info["tokens"] = sum(map(len, completions))


def test_the_hand_written_loop_samples_what_the_engine_samples(model, tokenizer, setting):
    prompts, sampling = setting.prompts(tokenizer, 256, 8), Sampling(HORIZON, 1.0, list(range(256)))
    ours = make_sampler("torch", model.eval(), tokenizer, setting)(prompts, sampling)
    assert make_sampler("hand_written", model, tokenizer, setting)(prompts, sampling) == ours
