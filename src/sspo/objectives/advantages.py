"""Group-relative advantages, and the mask that takes them from responses the policy has moved away from."""

from __future__ import annotations

from torch import Tensor

from sspo.objectives.batch import prepare


def group_advantages(rewards: Tensor, *, normalize_std: bool = True, eps: float = 1e-6) -> Tensor:
    """A_i = (R_i - mean R) / (std R + eps) within each group (GRPO, arXiv 2402.03300).

    Dr. GRPO (arXiv 2503.20783) does not divide, as with ``normalize_std=False``. The standard deviation
    is that of a sample (n - 1), as in the public implementations.

    Args:
        rewards: (num_prompts, group_size) rewards.
        normalize_std: divide by the group's standard deviation.
        eps: added to the standard deviation.

    Returns:
        (num_prompts, group_size) advantages; exactly 0 where a group's rewards are all equal.

    Raises:
        ValueError: a group has fewer than two responses, and so nothing to be compared with.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards must be (num_prompts, group_size >= 2), got {tuple(rewards.shape)}"
        )
    advantages = rewards - rewards.mean(dim=1, keepdim=True)
    if normalize_std:
        advantages = advantages / (rewards.std(dim=1, keepdim=True) + eps)
    # The mean of equal floats can be off by a rounding error, which dividing by eps would blow up.
    return advantages.masked_fill(degenerate_groups(rewards).unsqueeze(1), 0.0)


def degenerate_groups(rewards: Tensor) -> Tensor:
    """The groups that teach nothing, because all their rewards are equal.

    Args:
        rewards: (num_prompts, group_size).

    Returns:
        (num_prompts,) bool.
    """
    return (rewards == rewards[:, :1]).all(dim=1)


def mask_off_policy(
    advantages: Tensor,
    logprobs: Tensor,
    sampled_logprobs: Tensor,
    mask: Tensor,
    threshold: float | None,
) -> Tensor:
    """Off-policy sequence masking (DeepSeek-V3.2, arXiv 2512.02556), for any objective.

    A response with A < 0 and mean_t (log pi_sampled - log pi) > threshold gets A = 0. So it contributes
    nothing to any objective, and still counts in the means, as in TRL.

    Args:
        advantages: (B,).
        logprobs: (B, T) under the current policy, in nats.
        sampled_logprobs: (B, T) under the policy that sampled the responses, in nats.
        mask: (B, T), 1 on response tokens.
        threshold: in nats per token; None masks nothing.

    Returns:
        (B,) advantages.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if threshold is None:
        return advantages
    batch = prepare(logprobs.detach(), sampled_logprobs, advantages, mask)
    drift = -batch.sequence_mean(batch.log_ratio).squeeze(1)
    return advantages.masked_fill((advantages < 0.0) & (drift > threshold), 0.0)
