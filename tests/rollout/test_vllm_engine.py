"""The vLLM engine in the process: as the torch engine samples, whatever is loaded."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sspo.rollout.engine import Sampling
from sspo.rollout.vllm_engine import VllmEngine
from support.engines import (
    CONTEXT,
    assert_close,
    assert_depends_on_own_seed_only,
    assert_first_tokens_follow_softmax,
    assert_follows_every_load,
    assert_scores_match,
    assert_well_formed,
    seeds_of,
    token_ids,
)


@pytest.fixture(scope="module")
def vllm_start(folder, tokenizer, prompts):
    """One engine for the module, with what it did to the process and what it said at first."""
    pytest.importorskip("vllm")
    state = process_state()
    engine = VllmEngine(folder, tokenizer, cpu_cache_gib=0.25)
    kept = process_state() == state
    greedy = engine.generate(prompts, Sampling(40, temperature=0.0))
    yield SimpleNamespace(engine=engine, process_kept=kept, greedy=greedy)
    engine.close()
    assert not torch.distributed.is_initialized()


@pytest.fixture
def vllm_engine(vllm_start, model) -> VllmEngine:
    """The engine with the weights of ``model``, whatever an earlier test loaded."""
    vllm_start.engine.load_weights(model.state_dict())
    return vllm_start.engine


def process_state() -> tuple:
    """Generators and threads that training shares with an engine in the same process."""
    numpy_state = str(np.random.get_state())
    torch_state = torch.get_rng_state().tolist()
    threads = torch.get_num_threads(), torch.set_num_threads
    return random.getstate(), numpy_state, torch_state, threads


@pytest.mark.vllm
def test_vllm_starts_from_its_folder_and_greedily_equals_torch(vllm_start, engine, prompts):
    expected = engine.generate(prompts, Sampling(40, temperature=0.0))
    assert_close(vllm_start.greedy, expected)


@pytest.mark.vllm
def test_vllm_leaves_generators_and_threads_of_the_process_alone(vllm_start, prompts):
    assert vllm_start.process_kept
    state = process_state()
    vllm_start.engine.generate(prompts, Sampling(5, 1.0, seeds_of(prompts)))
    assert process_state() == state


@pytest.mark.vllm
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_vllm_logprobs_equal_those_of_scoring(vllm_engine, model, prompts, temperature):
    completions = vllm_engine.generate(prompts, Sampling(60, temperature, seeds_of(prompts)))
    assert_scores_match(model, prompts, completions, temperature)


@pytest.mark.vllm
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_vllm_first_tokens_follow_the_softmax(vllm_engine, model, temperature):
    assert_first_tokens_follow_softmax(vllm_engine, model, temperature)


@pytest.mark.vllm
def test_vllm_follows_every_load_and_nothing_else(vllm_engine, engine, model, prompts):
    assert_follows_every_load(vllm_engine, engine, model, prompts)


@pytest.mark.vllm
def test_a_vllm_sample_depends_on_its_own_seed_only(vllm_engine, prompts):
    assert_depends_on_own_seed_only(vllm_engine, prompts)


@pytest.mark.vllm
def test_more_prompt_tokens_than_vllm_reads_in_one_step_change_no_sample(vllm_engine, prompts):
    seeds = seeds_of(prompts)
    few = vllm_engine.generate(prompts, Sampling(3, 1.0, seeds))
    many = vllm_engine.generate(prompts * 40, Sampling(3, 1.0, seeds * 40))
    assert sum(map(len, prompts)) * 40 > 16_384  # tokens of one step, whatever vLLM's default
    assert token_ids(many) == token_ids(few) * 40


@pytest.mark.vllm
def test_vllm_ends_and_truncates_as_torch_does(vllm_engine, tokenizer, prompts):
    completions = vllm_engine.generate(prompts, Sampling(30, 1.0, seeds_of(prompts)))
    short = vllm_engine.generate(prompts, Sampling(7, 1.0, seeds_of(prompts)))
    assert_well_formed(completions, tokenizer, max_tokens=30)
    assert token_ids(short) == [ids[:7] for ids in token_ids(completions)]
    assert vllm_engine.generate([], Sampling(5, 1.0, [])) == []


@pytest.mark.vllm
def test_vllm_refuses_what_it_would_not_sample_as_asked(vllm_engine, prompts):
    with pytest.raises(ValueError, match="24 prompts need as many seeds, got 0"):
        vllm_engine.generate(prompts, Sampling(5, 1.0))
    with pytest.raises(ValueError, match="empty prompt"):
        vllm_engine.generate([[3], []], Sampling(5, temperature=0.0))
    with pytest.raises(ValueError, match=r"vLLM samples at 0\.01 or more"):
        vllm_engine.generate([[3]], Sampling(5, 0.001, [1]))
    with pytest.raises(ValueError, match=f"exceed the model's context of {CONTEXT}"):
        vllm_engine.generate([[3] * 300], Sampling(21, temperature=0.0))
