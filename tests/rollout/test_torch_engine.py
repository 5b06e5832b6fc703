"""Rollout engines: what they sample, from which distribution, and how they follow the policy."""

from __future__ import annotations

import copy
import random
import sys
from itertools import product

import numpy as np
import pytest
import torch

from sspo.config.errors import ConfigError
from sspo.config.settings import ModelConfig
from sspo.models.policy import build_model, load_model, save_model
from sspo.rollout import decoder
from sspo.rollout.engine import Sampling, sample_seed
from sspo.rollout.factory import make_engine
from sspo.rollout.torch_engine import TorchEngine
from support.engines import (
    SAMPLING,
    assert_close,
    assert_first_tokens_follow_softmax,
    assert_scores_match,
    assert_well_formed,
    compute,
    engine_called,
    perturb,
    seeds_of,
    token_ids,
)


def test_greedy_equals_hugging_face_generate(engine, model, tokenizer, prompts):
    completions = engine.generate(prompts, Sampling(max_tokens=30, temperature=0.0))
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=30,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        assert completion.token_ids == expected[0, len(prompt) :].tolist()


@torch.no_grad()
def sample_without_cache(
    model, prompt: list[int], seed: int, max_tokens: int, eos: int
) -> list[int]:
    """The plainest sampler: one sequence, everything recomputed for every token."""
    uniforms = np.random.Generator(np.random.Philox(seed)).random(max_tokens)
    ids = list(prompt)
    for u in uniforms:
        probabilities = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
        ids.append(int((probabilities.cumsum(-1) <= u * probabilities.sum()).sum()))
        if ids[-1] == eos:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("block", [1, 64])
def test_samples_equal_those_of_a_loop_without_a_cache(
    engine, model, tokenizer, prompts, block, monkeypatch
):
    monkeypatch.setattr(decoder, "CACHE_BLOCK", block)  # 1: the cache grows again and again
    repeated = [p for p in prompts[:6] for _ in range(3)]  # equal prompts share their prefill
    seeds = seeds_of(repeated)
    completions = engine.generate(repeated, Sampling(30, 1.0, seeds))
    for prompt, seed, completion in zip(repeated, seeds, completions, strict=True):
        expected = sample_without_cache(model, prompt, seed, 30, tokenizer.eos_token_id)
        assert completion.token_ids == expected


def test_equal_prompts_are_read_once(engine, model, prompts):
    seen = []
    hook = model.get_input_embeddings().register_forward_hook(lambda m, i, o: seen.append(o.shape))
    with hook:
        engine.generate([prompts[0]] * 5 + [prompts[1]] * 4, Sampling(2, 1.0, list(range(9))))
    assert seen[0][0] == 2
    assert seen[1][0] > 2


def test_a_model_with_sliding_windows_is_refused(tokenizer):
    sizes = ModelConfig(hidden_size=32, layers=1, heads=1, mlp_size=32, context=64)
    model = build_model(sizes, len(tokenizer), seed=0)
    model.config.layer_types = ["sliding_attention"]
    with pytest.raises(ValueError, match="sliding_attention"):
        TorchEngine(model, tokenizer).generate([[5]], Sampling(2, 0.0))


def test_a_sample_depends_on_its_own_seed_only(model, tokenizer, prompts):
    seeds = seeds_of(prompts)
    order = random.Random(1).sample(range(len(prompts)), len(prompts))
    expected = TorchEngine(model, tokenizer).generate(prompts, Sampling(40, 1.0, seeds))
    shuffled = TorchEngine(model, tokenizer, max_batch=5).generate(
        [prompts[i] for i in order], Sampling(40, 1.0, [seeds[i] for i in order])
    )
    assert_close(shuffled, [expected[i] for i in order])


def test_dropping_finished_rows_changes_nothing(engine, prompts):
    seeds = seeds_of(prompts)
    together = engine.generate(prompts, Sampling(80, 1.0, seeds))
    alone = [
        engine.generate([prompt], Sampling(80, 1.0, [seed]))[0]
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    assert len({len(c.token_ids) for c in together}) > 10  # rows finished one after the other
    assert_close(together, alone)


def test_different_seeds_give_different_samples(engine, prompts):
    sampling = Sampling(40, 1.0, [sample_seed("other", i) for i in range(50)])
    samples = engine.generate([prompts[0]] * 50, sampling)
    assert len({tuple(c.token_ids) for c in samples}) > 10


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_equal_those_of_scoring(engine, model, prompts, temperature):
    completions = engine.generate(prompts, Sampling(60, temperature, seeds_of(prompts)))
    assert_scores_match(model, prompts, completions, temperature)


def test_greedy_and_sampled_rows_of_one_batch_are_what_they_are_apart(engine, prompts):
    greedy = engine.generate(prompts, Sampling(40, temperature=0.0))
    sampled = engine.generate(prompts, Sampling(40, 0.7, seeds_of(prompts)))
    seeds = [
        seed for pair in zip([None] * len(prompts), seeds_of(prompts), strict=True) for seed in pair
    ]
    both = engine.generate([p for p in prompts for _ in range(2)], Sampling(40, 0.7, seeds))
    assert_close(both[::2], greedy)
    assert_close(both[1::2], sampled)
    assert token_ids(greedy) != token_ids(sampled)


def test_greedy_logprobs_are_those_of_temperature_one(engine, model, prompts):
    completions = engine.generate(prompts, Sampling(40, temperature=0.0))
    assert_scores_match(model, prompts, completions, 1.0)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_first_tokens_follow_the_softmax(engine, model, temperature):
    assert_first_tokens_follow_softmax(engine, model, temperature)


def test_the_end_token_ends_a_response_and_the_cap_truncates_it(engine, tokenizer, prompts):
    completions = engine.generate(prompts, Sampling(30, 1.0, seeds_of(prompts)))
    assert_well_formed(completions, tokenizer, max_tokens=30)


def test_a_smaller_cap_cuts_the_same_response(engine, prompts):
    long = engine.generate(prompts, Sampling(60, 1.0, seeds_of(prompts)))
    short = engine.generate(prompts, Sampling(7, 1.0, seeds_of(prompts)))
    assert token_ids(short) == [ids[:7] for ids in token_ids(long)]


def test_no_prompts_give_no_completions(engine):
    assert engine.generate([], Sampling(5, 1.0, [])) == []


def test_missing_seeds_and_empty_prompts_raise(engine, prompts):
    with pytest.raises(ValueError, match="24 prompts need as many seeds, got 0"):
        engine.generate(prompts, Sampling(5, 1.0))
    with pytest.raises(ValueError, match="empty prompt"):
        engine.generate([[3], []], Sampling(5, temperature=0.0))


def test_generate_leaves_the_training_mode_and_the_generators_alone(engine, model, prompts):
    model.train()
    state = torch.get_rng_state()
    engine.generate(prompts, Sampling(5, 1.0, seeds_of(prompts)))
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_an_engine_that_shares_the_policy_follows_it_in_place(model, tokenizer, prompts):
    greedy = Sampling(20, temperature=0.0)
    engine = TorchEngine(model, tokenizer, shares_policy=True)
    before = token_ids(engine.generate(prompts, greedy))
    perturb(model, seed=1)
    after = engine.generate(prompts, greedy)
    assert token_ids(after) != before
    fresh = TorchEngine(copy.deepcopy(model), tokenizer)
    assert_close(after, fresh.generate(prompts, greedy))


def test_load_weights_copies_when_the_policy_is_not_shared(model, tokenizer, prompts):
    greedy = Sampling(20, temperature=0.0)
    engine = TorchEngine(copy.deepcopy(model), tokenizer)
    before = token_ids(engine.generate(prompts, greedy))
    perturb(model, seed=1)
    assert token_ids(engine.generate(prompts, greedy)) == before
    engine.load_weights(model.state_dict())
    loaded = token_ids(engine.generate(prompts, greedy))
    assert loaded == token_ids(TorchEngine(model, tokenizer).generate(prompts, greedy)) != before
    perturb(model, seed=2)
    assert token_ids(engine.generate(prompts, greedy)) == loaded


# Seeds and choice of engine


def test_sample_seeds_do_not_collide():
    grid = list(product(range(6), range(12), range(24), range(16)))
    seeds = {sample_seed("rollout", *coordinates) for coordinates in grid}
    assert len(seeds) == len(grid)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_sample_seed_depends_on_every_coordinate_and_on_nothing_else():
    assert sample_seed("rollout", 1, 2, "p3", 4) == 2888217952219917716
    changed = [
        sample_seed("eval", 1, 2, "p3", 4),
        sample_seed("rollout", 2, 2, "p3", 4),
        sample_seed("rollout", 1, 3, "p3", 4),
        sample_seed("rollout", 1, 2, "p4", 4),
        sample_seed("rollout", 1, 2, "p3", 5),
        sample_seed("rollout", 1, 2, "p3"),
    ]
    assert len({sample_seed("rollout", 1, 2, "p3", 4), *changed}) == 7
    assert sample_seed(1, 23) != sample_seed(12, 3)


def test_make_engine_gives_a_torch_engine_on_the_live_policy(model, tokenizer):
    engine = make_engine(engine_called("torch"), SAMPLING, compute(), "", tokenizer, model)
    assert isinstance(engine, TorchEngine)
    assert engine.model is model
    assert engine.shares_policy


def test_make_engine_without_a_policy_loads_the_checkpoint(folder, tokenizer, prompts):
    request = Sampling(20, 1.0, seeds_of(prompts))
    for dtype in ("float32", "bfloat16"):
        engine = make_engine(engine_called("torch"), SAMPLING, compute(dtype), folder, tokenizer)
        expected = TorchEngine(load_model(folder, dtype), tokenizer).generate(prompts, request)
        assert engine.generate(prompts, request) == expected


def test_an_engine_in_another_precision_samples_from_a_copy_that_follows_the_policy(
    model, tokenizer, prompts, tmp_path
):
    engine = make_engine(
        engine_called("torch"), SAMPLING, compute("bfloat16"), "", tokenizer, model
    )
    request = Sampling(20, 1.0, seeds_of(prompts))
    assert model.dtype == torch.float32
    assert engine.model.dtype == torch.bfloat16
    perturb(model, seed=1)
    engine.load_weights(model.state_dict())
    save_model(model, tokenizer, tmp_path)
    expected = TorchEngine(load_model(tmp_path, "bfloat16"), tokenizer).generate(prompts, request)
    assert engine.generate(prompts, request) == expected


def test_a_stop_token_ends_a_response_and_stays_in_it(engine, model, tokenizer, prompts):
    request = Sampling(40, 1.0, seeds_of(prompts))
    stopping = TorchEngine(model, tokenizer, stop_tokens=["7"])
    seven = tokenizer.get_vocab()["7"]
    cut = 0
    for free, stopped in zip(
        engine.generate(prompts, request), stopping.generate(prompts, request), strict=True
    ):
        ids = free.token_ids
        end = ids.index(seven) + 1 if seven in ids else len(ids)
        cut += end < len(ids)
        assert stopped.token_ids == ids[:end]
        assert stopped.finish_reason == ("stop" if seven in ids else free.finish_reason)
    assert cut > 3


def test_an_unknown_stop_token_is_refused_by_name(model, tokenizer):
    with pytest.raises(ConfigError, match=r"rollout\.stop_tokens: '<\|im_end\|>' is not a token"):
        TorchEngine(model, tokenizer, stop_tokens=["<|im_end|>"])


def test_an_unknown_engine_raises(model, tokenizer):
    with pytest.raises(ValueError, match="unknown rollout engine 'sglang'"):
        make_engine(engine_called("sglang"), SAMPLING, compute(), "", tokenizer, model)


def test_vllm_not_installed_is_one_line_with_the_fix(folder, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match="vLLM is not installed; run `make vllm`") as caught:
        make_engine(engine_called("vllm"), SAMPLING, compute(), folder, tokenizer)
    assert "\n" not in str(caught.value)
