"""The objectives as policy losses of verl 0.9, under the ``loss_mode`` "sspo/<method>".

Write a module that calls ``register`` (``examples/verl_losses.py``). Name it in
``VERL_USE_EXTERNAL_MODULES``, so that every worker imports it, and set ``actor.policy_loss.loss_mode``.
``register`` also takes the ``methods`` of a profile, as in

    register(yaml.safe_load(open("config/default.yaml"))["methods"])

Parameters come from there alone. verl's ``clip_ratio``, ``tau_pos`` and ``loss_agg_mode``
have no effect on these losses, so none gets a clip width or a mean that belongs to another objective.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sspo.objectives.advantages import mask_off_policy
from sspo.objectives.losses import LOSSES, check_objective

PREFIX = "sspo/"  # verl has its own losses with the names gspo, sapo and cispo

LossAndMetrics = tuple[Tensor, dict[str, float]]


def register(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Register every method with verl; returns their loss modes.

    Of a method ``objective``, ``params`` and ``train.off_policy_threshold`` count here.

    Raises:
        ValueError: an objective or its parameters cannot run.
    """
    from verl.trainer.ppo.core_algos import register_policy_loss

    names = []
    for name, method in methods.items():
        threshold = method.get("train", {}).get("off_policy_threshold")
        loss = policy_loss(method["objective"], method["params"], threshold)
        names.append(PREFIX + name)
        register_policy_loss(names[-1])(loss)
    return names


def policy_loss(
    objective: str, params: Mapping[str, object], off_policy_threshold: float | None = None
) -> Callable[..., LossAndMetrics]:
    """One objective as a function with verl's signature.

    The mean over a micro-batch is scaled by the micro-batch's share of the global batch, so that the
    sum is the mean over the global batch. It is also scaled by the number of data-parallel ranks,
    because verl averages their gradients. The off-policy mask measures the distance to verl's
    ``old_log_prob``, which are the sampler's own in its bypass mode.

    Raises:
        ValueError: the objective or its parameters cannot run.
    """
    check_objective(objective, dict(params))
    chosen = LOSSES[objective]
    total_key = "batch_num_tokens" if chosen.over == "tokens" else "global_batch_size"

    def loss(
        old_log_prob: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        loss_agg_mode: str = "",
        config: object = None,
        rollout_is_weights: Tensor | None = None,
    ) -> LossAndMetrics:
        """Loss and metrics; log-probabilities, advantages and mask are (B, T)."""
        if rollout_is_weights is not None:
            raise ValueError(
                "rollout_is_weights: these objectives take no importance weights; set "
                "algorithm.rollout_correction.rollout_is to null"
            )
        batch = getattr(config, "global_batch_info", {})
        given = response_advantages(advantages, response_mask)
        kept = mask_off_policy(given, log_prob, old_log_prob, response_mask, off_policy_threshold)
        value, stats = chosen(log_prob, old_log_prob, kept, response_mask, **params)
        units = chosen.units(response_mask)
        total = batch.get(total_key)
        scale = units / (units if total is None else total) * batch.get("dp_size", 1)
        log_ratio = stats["log_ratio"][response_mask.bool()]
        return value * scale, {
            "actor/ppo_kl": -log_ratio.mean().item(),
            "actor/sequence_weight": stats["sequence_weight"].mean().item(),
            "actor/masked_responses": (kept != given).float().mean().item(),
        }

    return loss


def response_advantages(advantages: Tensor, mask: Tensor) -> Tensor:
    """One advantage per response (B,) from one per token (B, T).

    Raises:
        ValueError: the advantages vary within a response, as those of GAE do.
    """
    first = mask.int().argmax(dim=1, keepdim=True)
    found = advantages.gather(1, first)
    if not torch.equal(torch.where(mask.bool(), advantages, found), found.expand_as(advantages)):
        raise ValueError(
            "advantages vary within a response; set algorithm.adv_estimator to grpo or another one that "
            "gives each response one advantage"
        )
    return found.squeeze(1)
