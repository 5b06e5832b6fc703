"""Parameters of a model are counted exactly, from its settings or its checkpoint's config."""

from __future__ import annotations

import pytest
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sspo.config.errors import ConfigError
from sspo.config.settings import LoraConfig, ModelConfig
from sspo.data.tasks import CHARACTERS
from sspo.models.lora import add_adapters
from sspo.models.policy import build_model
from sspo.models.tokenizer import character_tokenizer
from sspo.planning.jobs import by_kind
from sspo.planning.memory import Machine, adapters, by_memory
from sspo.planning.model_size import base_folder, base_size, checkpoint_size
from support.packages import pretend_installed
from support.plans import expand, jobs_of, parts_of, rl_job, scratch_size


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(hidden_size=32, layers=2, heads=1, mlp_size=64, context=128),
        ModelConfig(hidden_size=96, layers=1, heads=3, mlp_size=40, context=64),
    ],
)
def test_parameters_of_a_model_from_scratch_are_counted_exactly(model):
    built = build_model(model, len(character_tokenizer(CHARACTERS)), seed=0)
    size = scratch_size(model)
    assert size.parameters == built.num_parameters()
    assert size.vocab_size == built.config.vocab_size
    assert size.query_size == size.key_size == model.hidden_size
    assert (size.layers, size.mlp_size) == (model.layers, model.mlp_size)


def test_adapters_are_counted_exactly():
    pytest.importorskip("peft", reason="peft is not installed (`make lora`)")
    config = ModelConfig(hidden_size=64, layers=3, heads=2, mlp_size=96, context=64)
    model = build_model(config, 18, seed=0)
    add_adapters(model, LoraConfig(rank=4, alpha=8.0), seed=0)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert adapters(scratch_size(config), 4) == trained


def test_adapters_need_neither_gradients_nor_moments_of_all_weights(monkeypatch):
    pretend_installed(monkeypatch, "peft", installed=True)  # what they cost is known without it
    few = {"max_batch": 1}
    whole, adapters = (
        parts_of(rl_job({"rollout": few, "lora": {"rank": rank, "alpha": 8.0}})) for rank in (0, 8)
    )
    assert adapters["weights"] == whole["weights"] / 4 * 2
    assert "Adam's moments" in whole and "Adam's moments" not in adapters
    assert sum(adapters.values()) < 0.5 * sum(whole.values())


ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def tiny_checkpoint(kind, folder, **changes):
    settings, model = ARCHITECTURES[kind]
    built = model(
        settings(
            vocab_size=96, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=96, **changes,
        )
    )  # fmt: skip
    built.save_pretrained(folder)
    return built


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_of_a_checkpoint_are_counted_from_its_config_alone(tmp_path, kind, tied):
    built = tiny_checkpoint(kind, tmp_path, tie_word_embeddings=tied)
    (tmp_path / "model.safetensors").unlink()
    size = checkpoint_size(tmp_path)
    assert size.parameters == built.num_parameters()
    head = built.config.head_dim if kind == "qwen3" else 16
    assert (size.query_size, size.key_size, size.mlp_size) == (4 * head, 2 * head, 96)


@pytest.mark.parametrize(
    "text", [None, "no json!", "{}", '{"model_type": "unheard_of"}', '{"model_type": "mamba"}']
)
def test_a_checkpoint_without_a_usable_config_has_no_size(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json: no model of known size") as caught:
        checkpoint_size(tmp_path)
    assert "\n" not in str(caught.value)


HUB = {"source": "Qwen/Qwen2.5-Math-1.5B", "revision": "4a" * 20}


def test_a_repository_that_is_not_here_has_no_size_and_is_not_fetched(tmp_path, monkeypatch):
    def fetch(*arguments, **keywords):
        raise AssertionError("a plan fetches nothing")

    monkeypatch.setattr("socket.socket.connect", fetch)
    assert base_size({"checkpoint": HUB}, tmp_path) is None
    jobs = jobs_of(expand({"checkpoint": HUB}))
    assert by_kind(jobs)["import base"]
    assert by_memory(jobs, {}, Machine("cpu", 1.0, 1.0, 2)) == []


def test_the_config_of_a_repository_in_the_cache_is_enough_for_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--Qwen--Qwen2.5-Math-1.5B" / "snapshots" / HUB["revision"]
    built = tiny_checkpoint("qwen2", snapshot)
    (snapshot / "model.safetensors").unlink()
    assert base_folder({"checkpoint": HUB}, tmp_path / "base") == snapshot
    assert base_size({"checkpoint": HUB}, tmp_path).parameters == built.num_parameters()
    with pytest.raises(ConfigError, match=r"checkpoint\.source"):
        base_size({"checkpoint": {**HUB, "source": "a/b/c"}}, tmp_path)


def test_what_another_config_made_is_no_base_model(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_text("")
    (tmp_path / "config.json").write_text('{"seed": 0}')
    assert base_folder({"seed": 0}, tmp_path) == tmp_path / "model"
    assert base_folder({"seed": 1}, tmp_path) is None
