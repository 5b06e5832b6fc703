"""Options of ``pytest benchmarks``: ``--results``, the pipeline to measure with, and ``--threads``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from setting import Setting

from sspo.models.policy import load_model, load_tokenizer


def pytest_addoption(parser) -> None:
    parser.addoption("--results", type=Path, default=Path("results"), help="finished pipeline")
    parser.addoption("--threads", type=int, default=1, help="PyTorch threads")


@pytest.fixture(scope="session")
def setting(request) -> Setting:
    return Setting(request.config.getoption("--results"), "end")


@pytest.fixture(scope="session")
def tokenizer(setting):
    return load_tokenizer(setting.model)


@pytest.fixture(scope="session")
def model(setting):
    return load_model(setting.model)


@pytest.fixture(autouse=True)
def threads(request):
    torch.set_num_threads(request.config.getoption("--threads"))
