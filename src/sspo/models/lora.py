"""Low-rank adapters (LoRA, arXiv 2106.09685) instead of training all weights, through peft.

They are put into the model's own linear layers, so that a policy with adapters is scored and sampled
from like any other. Names of weights change by it: outside of training, ``sspo.models.weights`` counts.
"""

from __future__ import annotations

import torch
from torch import nn

from sspo.config.errors import ConfigError
from sspo.config.settings import LoraConfig


def add_adapters(model: nn.Module, config: LoraConfig, seed: int) -> None:
    """Freeze the weights and add float32 adapters to every linear layer but the output layer.

    W x becomes W x + (alpha / rank) B A x, with B = 0 at first: the model computes what it did.

    Args:
        model: changed in place.
        config: rank and alpha.
        seed: of A; the global RNG is left as it was.

    Raises:
        ConfigError: peft is not installed.
    """
    try:
        import peft
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise ConfigError(
            f"lora.rank = {config.rank}: peft is not installed; run `make lora`, or set it to 0"
        ) from None
    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules="all-linear"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
