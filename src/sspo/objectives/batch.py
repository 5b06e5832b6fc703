"""The inputs of every objective, checked and widened, and the means over their tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Beyond this many nats a ratio has no meaning and exp() overflows float32 (at 88.7).
MAX_LOG_RATIO = 60.0


@dataclass(frozen=True)
class Batch:
    """Checked inputs of a loss: logprobs, log_ratio (nats), mask (B, T); advantages, lengths (B, 1)."""

    logprobs: Tensor
    log_ratio: Tensor
    advantages: Tensor
    mask: Tensor
    lengths: Tensor

    def sequence_mean(self, values: Tensor) -> Tensor:
        """(B, T) -> (B, 1), the mean over each response's own tokens."""
        return (values * self.mask).sum(dim=1, keepdim=True) / self.lengths

    def token_mean(self, values: Tensor) -> Tensor:
        """(B, T) -> scalar, the mean over all response tokens of the batch."""
        return (values * self.mask).sum() / self.mask.sum().clamp(min=1.0)


def prepare(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor) -> Batch:
    """Check and widen the inputs of a loss; values on masked positions become 0.

    Args:
        logprobs: (B, T) in nats, with gradient.
        old_logprobs: (B, T) in nats.
        advantages: (B,).
        mask: (B, T), 1 on response tokens.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if not logprobs.shape == old_logprobs.shape == mask.shape or logprobs.ndim != 2:
        raise ValueError(
            "logprobs, old_logprobs and mask must share one (B, T) shape, got "
            f"{tuple(logprobs.shape)}, {tuple(old_logprobs.shape)}, {tuple(mask.shape)}"
        )
    if advantages.shape != logprobs.shape[:1]:
        raise ValueError(
            f"advantages must be ({logprobs.shape[0]},), got {tuple(advantages.shape)}"
        )
    logprobs = widen(logprobs)
    dtype = logprobs.dtype
    mask = mask.to(dtype)
    # Multiplying by the mask would not do: padding may hold inf, and 0 * inf is NaN.
    logprobs = torch.where(mask > 0, logprobs, 0.0)
    old_logprobs = torch.where(mask > 0, old_logprobs.to(dtype), 0.0)
    log_ratio = (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    lengths = mask.sum(dim=1, keepdim=True).clamp(min=1.0)
    return Batch(logprobs, log_ratio, advantages.to(dtype).unsqueeze(1), mask, lengths)


def widen(values: Tensor) -> Tensor:
    """The values as float32, or unchanged if they are float64."""
    return values if values.dtype == torch.float64 else values.float()
