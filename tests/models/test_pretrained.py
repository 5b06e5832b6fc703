"""A published model as a base: architectures, chat tokens, sharded files, and what is refused."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config

from sspo.config.errors import ConfigError
from sspo.config.rollout import SamplingConfig
from sspo.config.settings import CheckpointConfig
from sspo.models.architectures import partial_attention
from sspo.models.policy import ScoreBatch, load_model, load_tokenizer, save_model, score
from sspo.models.pretrained import checkpoint_files, checkpoint_folder, load_published
from sspo.rollout.engine import Sampling
from sspo.rollout.factory import make_engine
from sspo.rollout.torch_engine import TorchEngine
from support.engines import assert_scores_match, compute, engine_called
from support.published import TURN, chat_tokenizer, published, saved

REVISION = "4a83ca6e4526a4f2da3aa259ec36c259f66b2ab2"


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_published_model_keeps_its_weights_and_precision_as_a_base(tmp_path, architecture, tied):
    source = published(architecture, tied)
    source.save_pretrained(tmp_path / "hub")
    chat_tokenizer().save_pretrained(tmp_path / "hub")
    model, tokenizer = load_published(CheckpointConfig(source=str(tmp_path / "hub"), revision=""))
    save_model(model, tokenizer, tmp_path / "base")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert again.dtype == torch.bfloat16
    for name, value in source.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert load_tokenizer(tmp_path / "base").chat_template == tokenizer.chat_template


def test_a_sharded_checkpoint_becomes_one_file(tmp_path):
    config = saved(tmp_path / "hub", max_shard_size="40KB")
    shards = [f for f in checkpoint_files(config) if f.endswith(".safetensors")]
    assert len(shards) > 2
    save_model(*load_published(config), tmp_path / "base")
    assert [f.name for f in (tmp_path / "base").glob("*.safetensors")] == ["model.safetensors"]


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_what_is_sampled_from_a_published_model_is_what_is_scored(tmp_path, architecture):
    saved(tmp_path, architecture)
    model, tokenizer = load_model(tmp_path), load_tokenizer(tmp_path)
    prompts = tokenizer([f"<|im_start|>user\n{i} + 2 = ?{TURN}\n" for i in range(6)])["input_ids"]
    engine = TorchEngine(model, tokenizer, stop_tokens=[TURN])
    completions = engine.generate(prompts, Sampling(24, 0.8, list(range(6))))
    assert_scores_match(model, prompts, completions, 0.8)


@pytest.mark.vllm
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.3)])
def test_vllm_follows_float32_weights_of_a_published_model_in_training(tmp_path, dtype, tolerance):
    pytest.importorskip("vllm")
    saved(tmp_path)
    policy, tokenizer = load_model(tmp_path), load_tokenizer(tmp_path)
    sampling = SamplingConfig(
        temperature=1.0, max_response_tokens=20, max_batch=8, stop_tokens=(TURN,)
    )
    engine = make_engine(
        engine_called("vllm"), sampling, compute(dtype), tmp_path, tokenizer, policy
    )
    prompts = tokenizer([f"<|im_start|>user\n{i} + 2 = ?{TURN}\n" for i in range(6)])["input_ids"]
    generator = torch.Generator().manual_seed(0)
    try:
        for _ in range(2):
            with torch.no_grad():
                for parameter in policy.parameters():
                    parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
            engine.load_weights(policy.state_dict())
            completions = engine.generate(prompts, Sampling(24, 1.0, list(range(6))))
            batch = ScoreBatch.collate(prompts, [c.token_ids for c in completions], "cpu")
            with torch.no_grad():
                logprobs, _ = score(policy, batch, dtype=dtype)
            for row, completion in zip(logprobs, completions, strict=True):
                expected = torch.tensor(completion.logprobs)
                torch.testing.assert_close(row[: len(expected)], expected, rtol=0, atol=tolerance)
    finally:
        engine.close()


def test_the_chat_format_in_a_prompt_is_read_as_the_template_writes_it():
    tokenizer = chat_tokenizer()
    system, problem = "lease reason.", "1 + 1 = ?"
    messages = [{"role": "system", "content": system}, {"role": "user", "content": problem}]
    template = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt = (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{problem}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert prompt == template
    ids = tokenizer(prompt)["input_ids"]
    assert ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3
    assert tokenizer.unk_token_id not in ids


def test_a_repository_that_cannot_be_reached_says_how_to_bring_it_here(monkeypatch):
    import huggingface_hub

    def unreachable(source, revision, allow_patterns):
        assert (source, revision) == ("Qwen/Qwen2.5-Math-1.5B", REVISION)
        assert not any(fits.endswith((".bin", ".py", "*")) for fits in allow_patterns)
        raise OSError("no network\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ConfigError) as caught:
        checkpoint_folder(CheckpointConfig(source="Qwen/Qwen2.5-Math-1.5B", revision=REVISION))
    message = str(caught.value)
    assert "\n" not in message
    assert "no network" in message
    assert f"hf download Qwen/Qwen2.5-Math-1.5B --revision {REVISION}" in message


def test_a_repository_is_read_at_its_revision(tmp_path, monkeypatch):
    import huggingface_hub

    saved(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    config = CheckpointConfig(source="Qwen/Qwen2.5-Math-1.5B", revision=REVISION)
    assert checkpoint_files(config) == []
    assert load_published(config)[0].num_parameters() == published("qwen2").num_parameters()


def test_a_window_of_an_architecture_that_names_no_layers_is_refused_where_it_hides_something():
    sizes = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
    assert partial_attention(MistralConfig(**sizes, sliding_window=16)) == "sliding_window = 16"
    assert partial_attention(MistralConfig(**sizes, sliding_window=64)) == ""
    assert partial_attention(MistralConfig(**sizes, sliding_window=None)) == ""
    unused = Qwen2Config(**sizes, use_sliding_window=False, sliding_window=16)
    assert partial_attention(unused) == ""
