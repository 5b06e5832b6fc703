"""A model's weights under the names they have without adapters, which count outside of training."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

ADAPTER = "default"  # peft's own name for the only adapter


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


def first_non_finite(model: nn.Module) -> str | None:
    """The name of the first weight or buffer that holds NaN or infinity; None if all are finite."""
    named = chain(model.named_parameters(), model.named_buffers())
    return next((name for name, tensor in named if not torch.isfinite(tensor).all()), None)


def merge_adapters(model: nn.Module) -> None:
    """Make a model with adapters a plain one again that computes the same, in place."""
    weights = plain_weights(model)
    for name, layer in [*_adapted(model)]:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    model.load_state_dict(weights)
    model.requires_grad_(True)


def _whole(tensor: Any) -> Tensor:
    # DTensor's own method; importing that class would make every script start later.
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((n, m) for n, m in model.named_modules() if hasattr(m, "get_delta_weight"))
