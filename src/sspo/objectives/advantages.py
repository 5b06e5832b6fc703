"""Group-relative advantages: each response is judged against the others to its prompt."""

from __future__ import annotations

from torch import Tensor


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
