"""Weights as an engine of lower precision holds them; the model goes on computing in its own precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sspo.config.errors import ConfigError

LARGEST = {"float8_e4m3": 448.0, "int8": 127.0, "int4": 7.0}  # number that the format can hold


def round_weights(model: PreTrainedModel, weights_dtype: str) -> None:
    """Replace a model's weights by what is left of them in ``weights_dtype``.

    bfloat16 rounds every parameter. The formats of ``LARGEST`` round the linear layers alone,
    without the output layer, as vLLM's own fp8 does. float32 rounds nothing.

    Raises:
        ConfigError: this PyTorch does not have the format, or the model has no layer to round.
    """
    if weights_dtype == "float32":
        return
    if weights_dtype == "bfloat16":
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16).to(parameter.dtype)
        return
    if weights_dtype == "float8_e4m3" and not hasattr(torch, "float8_e4m3fn"):
        raise ConfigError(
            f"rollout.weights_dtype = 'float8_e4m3': PyTorch {torch.__version__} does not have it; choose "
            "int8 or bfloat16, or install PyTorch 2.1 or later"
        )
    head = model.get_output_embeddings()
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    if not layers:
        raise ConfigError(
            f"rollout.weights_dtype = {weights_dtype!r}: {type(model).__name__} has no torch.nn.Linear "
            "to round; choose bfloat16"
        )
    for layer in layers:
        layer.weight.data = rounded_rows(layer.weight.data, weights_dtype)


def rounded_rows(weight: Tensor, weights_dtype: str) -> Tensor:
    """s_o q(W_o / s_o) for every output channel o, with s_o = max_i |W_oi| / m, in float32 arithmetic.

    q rounds to the nearest number of the format, whose largest one is m.

    Args:
        weight: (out, in).
        weights_dtype: a key of ``LARGEST``.

    Returns:
        (out, in), of the weight's own dtype.
    """
    exact = weight.float()
    scale = exact.abs().amax(dim=1, keepdim=True) / LARGEST[weights_dtype]
    scale = torch.where(scale > 0.0, scale, 1.0)  # a row of zeros stays one
    units = exact / scale
    fp8 = weights_dtype == "float8_e4m3"
    kept = units.to(torch.float8_e4m3fn).float() if fp8 else units.round()
    return (kept * scale).to(weight.dtype)
