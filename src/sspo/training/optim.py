"""The optimizer and learning-rate schedule that warm-up, control and RL share."""

from __future__ import annotations

import math

import torch
from torch import nn

from sspo.training.errors import NonFiniteError


def make_optimizer(
    model: nn.Module, learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW over the trained weights; weight decay acts on matrices, not on norms and biases."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim >= 2]
    vectors = [p for p in trained if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)


def learning_rate_at(
    update: int, peak: float, warmup: int, total: int = 0, schedule: str = "constant"
) -> float:
    """Learning rate of the update with this index (from 0): linear warm-up, then the schedule.

    "constant" holds the peak; "cosine" reaches 0 after ``total`` updates, warm-up included.

    Raises:
        ValueError: unknown schedule.
    """
    if schedule not in ("constant", "cosine"):
        raise ValueError(f"unknown schedule {schedule!r}; choose constant or cosine")
    if update < warmup:
        return peak * (update + 1) / warmup
    if schedule == "constant":
        return peak
    progress = (update - warmup) / max(1, total - warmup)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def apply_update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    learning_rate: float,
    max_grad_norm: float,
    loss: float = 0.0,
) -> float:
    """Clip the gradient, step and clear the gradient; returns its norm before clipping.

    Raises:
        NonFiniteError: ``loss`` or the gradient norm is NaN or infinite; nothing was changed.
    """
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise NonFiniteError(f"loss {loss}, gradient norm {float(norm)}")
    nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)
