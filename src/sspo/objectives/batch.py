"""The inputs of every objective, checked and widened, and the means over their tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Beyond this many nats a ratio has no meaning and exp() overflows float32 (at 88.7).
MAX_LOG_RATIO = 60.0


@dataclass(frozen=True)
class Batch:
    """Checked inputs of a loss, in nats: advantages and lengths are (B, 1), all others (B, T)."""

    logprobs: Tensor
    old_logprobs: Tensor
    log_ratio: Tensor
    advantages: Tensor
    mask: Tensor
    lengths: Tensor

    def sequence_mean(self, values: Tensor) -> Tensor:
        """(B, T) -> (B, 1), the mean over each response's own tokens."""
        return (values * self.mask).sum(dim=1, keepdim=True) / self.lengths

    def log_power_mean(self, log_values: Tensor, power: float) -> Tensor:
        """(B, T) log f -> (B, 1), log of (mean_t f^p)^(1/p) over each response's own tokens, p not 0.

        All terms are relative to the largest f^p. So none overflows, and for p -> 0 the result tends to
        the mean of log f without losing digits.
        """
        powers = torch.where(self.mask > 0, power * log_values, -torch.inf).detach()
        top = powers.amax(dim=1, keepdim=True).nan_to_num(neginf=0.0)  # -inf without any token
        gaps = torch.where(self.mask > 0, power * log_values - top, 0.0)
        return (top + torch.log1p(self.sequence_mean(torch.expm1(gaps)))) / power

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
    advantages = advantages.to(dtype).unsqueeze(1)
    return Batch(logprobs, old_logprobs, log_ratio, advantages, mask, lengths)


def widen(values: Tensor) -> Tensor:
    """The values as float32, or unchanged if they are float64."""
    return values if values.dtype == torch.float64 else values.float()
