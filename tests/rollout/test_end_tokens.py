"""Every end token of a checkpoint ends a response, in every engine, in training and in its score alike."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig

from sspo.models.policy import (
    ScoreBatch,
    load_model,
    load_tokenizer,
    save_model,
    save_policy,
    score,
)
from sspo.models.pretrained import load_published
from sspo.rollout.engine import Sampling, end_tokens, generation_ends
from sspo.rollout.torch_engine import TorchEngine
from sspo.rollout.vllm_engine import VllmEngine
from sspo.rollout.vllm_server import VllmServerEngine
from sspo.training.grading import evaluate_problems
from support.engines import seeds_of
from support.published import END, TURN, edit_json, saved

CHAT = "<|im_start|>user\n{} + 2 = ?" + TURN + "\n"
LETTER = "q"


def checkpoint(folder, *ends: str):
    """An imported base model whose generation configuration names these end tokens."""
    config = saved(folder / "hub")
    vocabulary = load_tokenizer(folder / "hub").get_vocab()
    ids = [vocabulary[end] for end in ends]
    edit_json(folder / "hub" / "generation_config.json", eos_token_id=ids)
    save_model(*load_published(config), folder / "base")
    return folder / "base", ids


def test_the_import_keeps_every_end_token_and_so_does_a_run(tmp_path):
    base, ids = checkpoint(tmp_path, END, TURN, LETTER)
    model, tokenizer = load_model(base), load_tokenizer(base)
    save_policy(model, tokenizer, tmp_path / "trained", "bfloat16")
    for folder in (base, tmp_path / "trained"):
        assert GenerationConfig.from_pretrained(folder).eos_token_id == ids
        assert generation_ends(folder) == ids
        assert load_model(folder).generation_config.eos_token_id == ids


def test_a_response_ends_at_the_first_of_several_end_tokens_and_keeps_it(tmp_path):
    base, ids = checkpoint(tmp_path, END, TURN, LETTER)
    model, tokenizer = load_model(base), load_tokenizer(base)
    prompts = tokenizer([CHAT.format(i) for i in range(40)])["input_ids"]
    sampling = Sampling(60, 1.0, seeds_of(prompts))
    several = TorchEngine(model, tokenizer).generate(prompts, sampling)
    model.generation_config.eos_token_id = None
    alone = TorchEngine(model, tokenizer).generate(prompts, sampling)
    last = set()
    for one, free in zip(several, alone, strict=True):
        # Sampling is per token and seed: until it ends, a response is the same.
        length = next((i + 1 for i, t in enumerate(free.token_ids) if t in ids), 60)
        assert one.token_ids == free.token_ids[:length]
        assert one.finish_reason == ("stop" if one.token_ids[-1] in ids else "length")
        assert one.text == tokenizer.decode(one.token_ids, skip_special_tokens=True)
        last.add(one.token_ids[-1])
    assert last >= {*ids}  # each of them ended a response


def test_such_a_response_is_scored_up_to_its_end_token_and_not_counted_as_cut_off(tmp_path):
    base, ids = checkpoint(tmp_path, END, TURN, LETTER)
    model, tokenizer = load_model(base), load_tokenizer(base)
    engine = TorchEngine(model, tokenizer)
    problems = [{"id": str(i), "prompt": CHAT.format(i), "answer": "2"} for i in range(20)]
    prompts = tokenizer([p["prompt"] for p in problems])["input_ids"]
    completions = engine.generate(prompts, Sampling(60, 1.0, seeds_of(prompts)))
    batch = ScoreBatch.collate(prompts, [c.token_ids for c in completions], "cpu")
    with torch.no_grad():
        logprobs, _ = score(model, batch)
    assert batch.mask.sum(dim=1).tolist() == [len(c.token_ids) for c in completions]
    for row, completion in zip(logprobs, completions, strict=True):
        expected = torch.tensor(completion.logprobs)
        torch.testing.assert_close(row[: len(expected)], expected, rtol=0, atol=1e-4)
    seen = []

    def reward(answer, completion):
        seen.append(completion)
        return SimpleNamespace(value=0.0, answer=None)

    records = evaluate_problems(
        problems, engine, tokenizer, reward, samples=2, temperature=1.0, max_tokens=60, seed=0
    )
    cut_off = [value for record in records for value in record["truncated"]]
    assert len(cut_off) * 3 == len(seen) * 2  # the greedy ones are not listed
    assert cut_off.count(1.0) < len(cut_off)
    assert all((c.token_ids[-1] in ids) == (c.finish_reason == "stop") for c in seen)


@pytest.mark.parametrize(
    ("named", "found"), [(None, []), (2, [2]), ([2], [2]), ([0, 2], [2]), ([2, 30, 2], [2, 30])]
)
def test_the_tokenizers_own_end_comes_first_and_none_twice(tmp_path, named, found):
    saved(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert end_tokens(tokenizer, (), named) == [tokenizer.eos_token_id, *found]
    assert end_tokens(tokenizer, [TURN], named) == [
        tokenizer.eos_token_id,
        *dict.fromkeys([*found, tokenizer.convert_tokens_to_ids(TURN)]),
    ]


@pytest.mark.parametrize("of_config", [None, 2, [0, 2]])
@pytest.mark.parametrize("of_generation", ["no file", None, 30, [2, 30]])
def test_files_say_what_the_loaded_model_says(tmp_path, of_config, of_generation):
    saved(tmp_path)
    edit_json(tmp_path / "config.json", eos_token_id=of_config)
    edit_json(tmp_path / "generation_config.json", eos_token_id=of_generation)
    if of_generation == "no file":
        (tmp_path / "generation_config.json").unlink()
    assert generation_ends(tmp_path) == load_model(tmp_path).generation_config.eos_token_id


@pytest.fixture
def vllm(monkeypatch):
    """A vLLM that only keeps the sampling parameters it is given."""
    asked = []

    class LLM:
        def __init__(self, *_, **__):
            pass

        def generate(self, inputs, params, use_tqdm):
            asked.extend(params)
            tokens = SimpleNamespace(
                token_ids=[2], finish_reason="stop", logprobs=SimpleNamespace(logprobs=[0.0])
            )
            return [SimpleNamespace(outputs=[tokens]) for _ in inputs]

    module, platforms = ModuleType("vllm"), ModuleType("vllm.platforms")
    module.LLM, module.SamplingParams = LLM, SimpleNamespace
    platforms.current_platform = SimpleNamespace(is_cpu=lambda: True)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    return asked


def test_vllm_is_told_every_end_token(tmp_path, vllm):
    base, ids = checkpoint(tmp_path, END, TURN, LETTER)
    engine = VllmEngine(base, load_tokenizer(base))
    engine.generate([[5]], Sampling(4, temperature=0.0))
    (asked,) = vllm
    assert asked.stop_token_ids == engine.ends == ids
    assert asked.ignore_eos is True  # so that no other list counts


def test_a_vllm_server_is_told_every_end_token(tmp_path, monkeypatch):
    base, ids = checkpoint(tmp_path, END, TURN, LETTER)
    asked = []

    def answer(method, address, json, timeout):
        asked.append(json)
        choice = {"token_ids": [2], "finish_reason": "stop", "weight_versions": [{"version": ""}]}
        choice["logprobs"] = {"content": [{"logprob": 0.0}]}
        return SimpleNamespace(ok=True, json=lambda: {"version": "0", "choices": [choice]})

    monkeypatch.setattr("sspo.rollout.vllm_server.requests.request", answer)
    monkeypatch.setattr(VllmServerEngine, "_problem", lambda *_: "")
    monkeypatch.setattr(VllmServerEngine, "version", "")
    engine = VllmServerEngine(base, load_tokenizer(base), weights=tmp_path / "weights")
    engine.generate([[5]], Sampling(4, temperature=0.0))
    assert asked[-1]["sampling_params"]["stop_token_ids"] == ids


@pytest.mark.vllm
def test_vllm_ends_where_the_torch_engine_ends(tmp_path):
    pytest.importorskip("vllm")
    base, ids = checkpoint(tmp_path, END, TURN, LETTER)
    model, tokenizer = load_model(base), load_tokenizer(base)
    prompts = tokenizer([CHAT.format(i) for i in range(24)])["input_ids"]
    engine = VllmEngine(base, tokenizer, cpu_cache_gib=0.25)
    try:
        greedy = Sampling(60, temperature=0.0)
        sampled = engine.generate(prompts, Sampling(60, 1.0, seeds_of(prompts)))
        expected = TorchEngine(model, tokenizer).generate(prompts, greedy)
        found = engine.generate(prompts, greedy)
    finally:
        engine.close()
    assert [c.token_ids for c in found] == [c.token_ids for c in expected]
    assert {c.token_ids[-1] for c in sampled} & {*ids[1:]}
    for completion in sampled:
        assert not {*completion.token_ids[:-1]} & {*ids}
        assert completion.finish_reason == ("stop" if completion.token_ids[-1] in ids else "length")


def test_a_base_model_of_ours_ends_at_its_tokenizers_end_alone(folder, tokenizer, model):
    assert generation_ends(folder) == tokenizer.eos_token_id
    assert TorchEngine(model, tokenizer).ends == [tokenizer.eos_token_id]
