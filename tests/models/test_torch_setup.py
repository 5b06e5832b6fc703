"""The device that was asked for, or a refusal."""

import pytest

from sspo.config.errors import ConfigError
from sspo.config.settings import ComputeConfig
from sspo.models.torch_setup import set_up_torch


def test_a_missing_gpu_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="compute.device = 'cuda'"):
        set_up_torch(ComputeConfig(device="cuda", dtype="float32", threads=1))
