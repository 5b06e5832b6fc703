"""Adapters: what they leave alone, what they train, and the plain model they become."""

from __future__ import annotations

import copy
import sys

import pytest
import torch

from sspo.config.errors import ConfigError
from sspo.config.settings import LoraConfig
from sspo.models.lora import add_adapters
from sspo.models.policy import load_model, save_policy
from sspo.models.weights import merge_adapters, plain_weights
from sspo.training.checkpoint import CheckpointStore
from sspo.training.metrics import RunLog
from sspo.training.optim import make_optimizer
from sspo.training.trainer import train
from support.runs import PROBLEMS, make_actors, run_config

pytest.importorskip("peft", reason="peft is not installed (`make lora`)")

IDS = torch.arange(3, 15).view(2, 6)


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture
def adapted(model):
    """A model with adapters that do something."""
    add_adapters(model, LoraConfig(rank=4, alpha=8.0), seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05, generator=generator)
    return model


def test_new_adapters_change_no_logit_and_no_global_random_number(model):
    before, state = logits(model), torch.get_rng_state()
    add_adapters(model, LoraConfig(rank=4, alpha=8.0), seed=0)
    assert torch.equal(logits(model), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_only_adapters_are_trained_and_they_are_float32_beside_bfloat16_weights(model):
    model = model.bfloat16()
    add_adapters(model, LoraConfig(rank=4, alpha=8.0), seed=0)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    linear = [n for n, m in model.named_modules() if n.endswith("_proj")]
    assert len(trained) == 2 * len(linear) == 2 * 14
    assert all(".lora_" in name for name in trained)
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    optimizer = make_optimizer(model, 1e-3, (0.9, 0.99), 0.0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trained)


def test_the_seed_alone_decides_the_first_adapters(model):
    others = []
    for seed in (0, 0, 1):
        other = copy.deepcopy(model)
        add_adapters(other, LoraConfig(rank=4, alpha=8.0), seed=seed)
        others.append(other.model.layers[0].mlp.up_proj.lora_A["default"].weight)
    assert torch.equal(others[0], others[1])
    assert not torch.equal(others[0], others[2])


def test_plain_weights_are_those_of_the_equation(model, adapted):
    layer = adapted.model.layers[1].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = layer.base_layer.weight + 8.0 / 4 * b @ a
    found = plain_weights(adapted)["model.layers.1.self_attn.q_proj.weight"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_plain_weights_of_a_model_without_adapters_are_its_own(model):
    own = model.state_dict()
    found = plain_weights(model)
    assert found.keys() == own.keys()
    assert all(found[name].data_ptr() == tensor.data_ptr() for name, tensor in own.items())


def test_a_merged_model_is_plain_and_computes_the_same(adapted):
    before = logits(adapted)
    names = {name.replace(".base_layer.", ".") for name in adapted.state_dict()}
    merge_adapters(adapted)
    torch.testing.assert_close(logits(adapted), before, rtol=1e-4, atol=1e-5)
    assert {*adapted.state_dict()} == {name for name in names if ".lora_" not in name}
    assert all(p.requires_grad for p in adapted.parameters())


def train_with_adapters(folder, steps=3):
    actors = make_actors()
    add_adapters(actors.policy, LoraConfig(rank=4, alpha=8.0), seed=0)
    config = run_config(rank=4, steps=steps)
    train(config, actors, PROBLEMS, CheckpointStore(folder, "f"), RunLog(folder))
    return actors


def test_training_moves_the_adapters_and_nothing_else(tmp_path):
    fresh = make_actors().policy.state_dict()
    policy = train_with_adapters(tmp_path).policy
    kept = {n.replace(".base_layer.", "."): p for n, p in policy.state_dict().items()}
    assert all(torch.equal(kept[name], tensor) for name, tensor in fresh.items())
    changed = [p.abs().max() for n, p in policy.named_parameters() if "lora_B" in n]
    assert min(changed) > 0.0


def test_a_resumed_run_with_adapters_ends_with_the_same_bits(tmp_path):
    whole = train_with_adapters(tmp_path / "whole").policy
    train_with_adapters(tmp_path / "parts", steps=2)
    resumed = train_with_adapters(tmp_path / "parts").policy
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_a_saved_policy_is_an_ordinary_checkpoint_in_the_precision_of_the_run(
    adapted, tmp_path, tokenizer
):
    expected = {name: tensor.clone() for name, tensor in plain_weights(adapted).items()}
    save_policy(adapted, tokenizer, tmp_path, "bfloat16")
    saved = load_model(tmp_path, "auto")
    assert saved.dtype == torch.bfloat16
    for name, tensor in saved.state_dict().items():
        assert torch.equal(tensor, expected[name].bfloat16()), name


def test_peft_not_installed_is_one_line_with_the_fix(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        ConfigError, match=r"lora\.rank = 4: peft is not installed; run `make lora`"
    ):
        add_adapters(model, LoraConfig(rank=4, alpha=8.0), seed=0)
