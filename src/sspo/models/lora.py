"""Low-rank adapters (LoRA, arXiv 2106.09685) instead of training all weights, through peft.

They are put into the model's own linear layers, so that a policy with adapters is scored and sampled
from like any other. Names of weights change by it: outside of training, ``plain_weights`` counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sspo.config.errors import ConfigError
from sspo.config.settings import LoraConfig

ADAPTER = "default"  # peft's own name for the only adapter


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


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights under the names of the model without adapters, adapters added to them.

    Where processes hold a part of each weight (FSDP), all of them have to call this, and all get the
    whole weights.
    """
    weights = {
        name.replace(".base_layer.", "."): _whole(tensor)
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name
    }
    with torch.no_grad():
        for name, layer in _adapted(model):
            weight = layer.get_base_layer().weight
            weights[f"{name}.weight"] = weight + layer.get_delta_weight(ADAPTER).to(weight.dtype)
    return weights


def merge_adapters(model: nn.Module) -> None:
    """Make a model with adapters a plain one again that computes the same, in place."""
    weights = plain_weights(model)
    for name, layer in [*_adapted(model)]:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    model.load_state_dict(weights)
    model.requires_grad_(True)


def _whole(tensor: Tensor) -> Tensor:
    # DTensor's own method; importing that class would make every script start later.
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _adapted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((n, m) for n, m in model.named_modules() if hasattr(m, "get_delta_weight"))
