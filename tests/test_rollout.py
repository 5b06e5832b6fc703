"""Rollout engines: what they sample, from which distribution, and how they follow the policy."""

from __future__ import annotations

import copy
import random
import sys
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from sspo.config.errors import ConfigError
from sspo.config.settings import ModelConfig, SamplingConfig
from sspo.data import tasks
from sspo.models.policy import ScoreBatch, build_model, load_model, save_model, score
from sspo.models.tokenizer import character_tokenizer
from sspo.rollout import decoder
from sspo.rollout.engine import Completion, Sampling, sample_seed
from sspo.rollout.factory import make_engine
from sspo.rollout.torch_engine import TorchEngine
from sspo.rollout.vllm_engine import VllmEngine

CONTEXT = 320
SAMPLING = SamplingConfig(temperature=1.0, max_response_tokens=40, max_batch=99, stop_tokens=())
TOLERANCE = 3e-5  # nats, float32; both engines stay below 5e-6 with these weights


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer(tasks.CHARACTERS)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory) -> str:
    """A checkpoint of random weights, large enough that tokens depend on all earlier ones."""
    config = ModelConfig(hidden_size=64, layers=2, heads=2, mlp_size=128, context=CONTEXT)
    model = build_model(config, len(tokenizer), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15, generator=generator)
    path = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture
def model(folder) -> PreTrainedModel:
    return load_model(folder)


@pytest.fixture
def engine(model, tokenizer) -> TorchEngine:
    return TorchEngine(model, tokenizer)


@pytest.fixture(scope="module")
def prompts(tokenizer) -> list[list[int]]:
    """24 prompts of 1 to 40 characters."""
    rng = random.Random(0)
    texts = ["".join(rng.choices(tasks.CHARACTERS, k=rng.randint(1, 40))) for _ in range(24)]
    return tokenizer(texts)["input_ids"]


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


# TorchEngine


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
    engine = make_engine(
        "torch", model, tokenizer, folder="", dtype="float32", sampling=SAMPLING, seed=0
    )
    assert isinstance(engine, TorchEngine)
    assert engine.model is model
    assert engine.shares_policy


def test_an_engine_in_another_precision_samples_from_a_copy_that_follows_the_policy(
    model, tokenizer, prompts, tmp_path
):
    engine = make_engine(
        "torch", model, tokenizer, folder="", dtype="bfloat16", sampling=SAMPLING, seed=0
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
        make_engine(
            "sglang", model, tokenizer, folder="", dtype="float32", sampling=SAMPLING, seed=0
        )


def test_vllm_not_installed_is_one_line_with_the_fix(folder, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match="vLLM is not installed; run `make vllm`") as caught:
        make_engine(
            "vllm", None, tokenizer, folder=folder, dtype="float32", sampling=SAMPLING, seed=0
        )
    assert "\n" not in str(caught.value)


# VllmEngine


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
