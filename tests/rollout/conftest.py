"""A checkpoint that both engines sample from, and prompts for it."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import PreTrainedModel

from sspo.config.settings import ModelConfig
from sspo.data import tasks
from sspo.models.policy import build_model, load_model
from sspo.rollout.torch_engine import TorchEngine
from support.engines import CONTEXT


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
