"""What several test modules share: one thread, and a model small enough to train in a test."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from sspo.config.settings import ModelConfig
from sspo.data.tasks import CHARACTERS
from sspo.models.policy import build_model
from sspo.models.tokenizer import character_tokenizer

pytest.register_assert_rewrite("support")

# The same examples in every run; `make fuzz` looks for new ones.
settings.register_profile("tests", derandomize=True, deadline=None, database=None)
settings.load_profile("tests")

TINY = ModelConfig(hidden_size=32, layers=2, heads=1, mlp_size=64, context=128)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small matrices: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    return character_tokenizer(CHARACTERS)


@pytest.fixture
def model(tokenizer):
    """Random weights, large enough that tokens depend on all earlier ones."""
    model = build_model(TINY, len(tokenizer), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15, generator=generator)
    return model
