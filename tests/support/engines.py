"""What every rollout engine is held to: token by token, and against the model that trains."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import torch
from transformers import PreTrainedModel

from sspo.config.rollout import SamplingConfig
from sspo.config.settings import ComputeConfig
from sspo.models.policy import ScoreBatch, score
from sspo.rollout.engine import Completion, Sampling, sample_seed

CONTEXT = 320


SAMPLING = SamplingConfig(temperature=1.0, max_response_tokens=40, max_batch=99, stop_tokens=())


def engine_called(name):
    return SimpleNamespace(engine=name, vllm_memory=0.3)


def compute(dtype="float32"):
    return ComputeConfig(device="cpu", dtype=dtype, threads=1)


TOLERANCE = 3e-5  # nats, float32; both engines stay below 5e-6 with these weights


def seeds_of(prompts: list[list[int]]) -> list[int]:
    return [sample_seed("test", i) for i in range(len(prompts))]


def token_ids(completions: list[Completion]) -> list[list[int]]:
    return [c.token_ids for c in completions]


def assert_close(a: list[Completion], b: list[Completion]) -> None:
    """Same tokens, texts and finish reasons; log-probabilities within ``TOLERANCE``."""
    assert [(c.token_ids, c.text, c.finish_reason) for c in a] == [
        (c.token_ids, c.text, c.finish_reason) for c in b
    ]
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x.logprobs, y.logprobs, rtol=0, atol=TOLERANCE)


def assert_scores_match(
    model: PreTrainedModel,
    prompts: list[list[int]],
    completions: list[Completion],
    temperature: float,
) -> None:
    """The engine's log-probabilities are those that training computes."""
    batch = ScoreBatch.collate(prompts, token_ids(completions), "cpu")
    with torch.no_grad():
        expected, _ = score(model, batch, temperature=temperature)
    for row, completion in zip(expected.tolist(), completions, strict=True):
        count = len(completion.token_ids)
        np.testing.assert_allclose(completion.logprobs, row[:count], rtol=0, atol=TOLERANCE)


def assert_well_formed(completions: list[Completion], tokenizer, max_tokens: int) -> None:
    """The end token comes last or never, and finish reason, length and text say the same."""
    end = tokenizer.eos_token_id
    for c in completions:
        assert end not in c.token_ids[:-1]
        assert len(c.logprobs) == len(c.token_ids)
        assert c.finish_reason == ("stop" if c.token_ids[-1] == end else "length")
        assert c.finish_reason == "stop" or len(c.token_ids) == max_tokens
        assert c.text == tokenizer.decode(c.token_ids, skip_special_tokens=True)
    assert {c.finish_reason for c in completions} == {"stop", "length"}  # or nothing was tested


def assert_first_tokens_follow_softmax(engine, model: PreTrainedModel, temperature: float) -> None:
    """Frequencies of the first token within five binomial standard deviations of the softmax."""
    prompt, count = [5, 9, 3], 4000
    sampling = Sampling(1, temperature, [sample_seed("frequency", i) for i in range(count)])
    first = [c.token_ids[0] for c in engine.generate([prompt] * count, sampling)]
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    expected = (logits / temperature).softmax(dim=-1).double().numpy()
    observed = np.bincount(first, minlength=len(expected)) / count
    bound = 5 * np.sqrt(expected * (1 - expected) / count) + 1 / count
    assert (np.abs(observed - expected) < bound).all()


def assert_follows_every_load(vllm, engine, model: PreTrainedModel, prompts) -> None:
    """vLLM samples greedily what the torch engine samples, once weights are loaded and not before."""
    # vLLM caches blocks of 128 tokens, so only a long prompt can meet keys of the old weights.
    prompts = [*prompts, *[(prompts[1] * 200)[:200]] * 2]
    greedy = Sampling(40, temperature=0.0)
    for update in (1, 2):
        before = vllm.generate(prompts, greedy)
        perturb(model, seed=update)
        assert_close(vllm.generate(prompts, greedy), before)
        vllm.load_weights(model.state_dict())
        after = vllm.generate(prompts, greedy)
        assert token_ids(after) != token_ids(before)
        assert_close(after, engine.generate(prompts, greedy))


def assert_depends_on_own_seed_only(vllm, prompts: list[list[int]]) -> None:
    """A response is the same in another order and alone, and another one under another seed."""
    seeds = seeds_of(prompts)
    order = random.Random(1).sample(range(len(prompts)), len(prompts))
    expected = vllm.generate(prompts, Sampling(40, 1.0, seeds))
    shuffled = vllm.generate(
        [prompts[i] for i in order], Sampling(40, 1.0, [seeds[i] for i in order])
    )
    alone = vllm.generate(prompts[:1], Sampling(40, 1.0, seeds[:1]))
    other = vllm.generate(prompts, Sampling(40, 1.0, [seed + 1 for seed in seeds]))
    assert_close(shuffled, [expected[i] for i in order])
    assert_close(alone, expected[:1])
    assert token_ids(other) != token_ids(expected)


def perturb(model: PreTrainedModel, seed: int) -> None:
    """Change every weight matrix in place, enough to change the most likely tokens."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
