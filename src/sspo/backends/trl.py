"""Any objective of the table in an existing script for TRL's GRPOTrainer (TRL 1.16): one line changes.

    from sspo.backends.trl import SSPOTrainer as GRPOTrainer

That is SSPO. ``SSPOTrainer(..., objective="maspo", params={...})`` is another entry of
``sspo.objectives.LOSSES``. The objective stands in for GRPOConfig's ``loss_type``, ``epsilon``,
``importance_sampling_level`` and the other keys of TRL's own losses, which have no effect then. Everything
else stays TRL's: sampling, rewards, advantages (``scale_rewards``), ``num_iterations``, the KL term, the
entropy bonus, ``off_policy_mask_threshold``, and the correction for vLLM's probabilities.

This module needs PyTorch and TRL alone. ``sspo.backends.trl_run`` trains the runs of a profile inside TRL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from sspo.objectives.advantages import mask_off_policy
from sspo.objectives.losses import LOSSES, check_objective

# The gate of the paper's first version. Its temperatures are not known; 1 is ours.
SIGMOID = {"gate": "sigmoid", "tau_pos": 1.0, "tau_neg": 1.0}

# The loss of TRL that averages as an objective does, so that the KL term gets its mean.
AVERAGES_AS = {"responses": "grpo", "tokens": "dapo", "length": "dr_grpo"}


class SSPOTrainer(GRPOTrainer):
    """GRPOTrainer with an objective of ours as its policy loss, scaled as TRL scales its own."""

    def __init__(
        self,
        *args: Any,
        objective: str = "sspo",
        params: Mapping[str, object] = SIGMOID,
        **kwargs: Any,
    ) -> None:
        """Take GRPOTrainer's arguments, a key of ``LOSSES`` and the objective's parameters.

        Raises:
            ValueError: the objective or its parameters cannot run.
        """
        check_objective(objective, dict(params))
        super().__init__(*args, **kwargs)
        self.objective, self.objective_params = LOSSES[objective], dict(params)
        self.loss_type = AVERAGES_AS[self.objective.over]
        self.importance_sampling_level = "token"

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Keep log-probabilities and entropies of the last forward pass for the objective."""
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._scored = found[:2]
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """The objective's loss, and what TRL adds to one: KL term, entropy bonus, auxiliary loss."""
        without = {**inputs, "advantages": torch.zeros_like(inputs["advantages"])}
        if self.beta == 0.0:  # only the KL term needs ratios, which may overflow
            without.pop("old_per_token_logps", None)
        added = super()._compute_loss(model, without)
        metrics = self._metrics["train" if self.model.training else "eval"]
        for key in [key for key in metrics if key.startswith("clip_ratio/")]:
            del metrics[key]  # of the loss that the objective stands in for
        return added + self._policy_loss(inputs, metrics)

    def _policy_loss(self, inputs: dict[str, Any], metrics: dict[str, list[float]]) -> Tensor:
        logprobs, entropies = self._scored
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        old = inputs.get("old_per_token_logps", logprobs.detach())
        sampled = inputs.get("sampling_per_token_logps", old)
        sampled = torch.where(sampled.isnan(), logprobs.detach(), sampled)
        threshold = self.off_policy_mask_threshold
        advantages = mask_off_policy(inputs["advantages"], logprobs, sampled, mask, threshold)
        weights = self._token_weights(inputs, mask, entropies)
        # The same value, and the gradient multiplied by the weights.
        weighted = logprobs.detach() + weights * (logprobs - logprobs.detach())
        loss, stats = self.objective(weighted, old, advantages, mask, **self.objective_params)
        masked = (advantages != inputs["advantages"]).float()
        observed = {"sequence_weight": stats["sequence_weight"], "masked_responses": masked}
        for name, values in observed.items():
            metrics[f"objective/{name}"].append(self.accelerator.gather(values).mean().item())
        return loss * self._scale(inputs, mask)

    def _token_weights(self, inputs: dict[str, Any], mask: Tensor, entropies: Tensor) -> Tensor:
        """What TRL multiplies a token's loss by: weights that correct for vLLM, and the entropy mask."""
        weights = torch.ones_like(entropies)
        if self.top_entropy_quantile < 1.0:
            weights *= self.get_high_entropy_mask(entropies, mask, 1 - self.top_entropy_quantile)
        if self.use_vllm and self.vllm_importance_sampling_correction:
            weights *= inputs["importance_sampling_ratio"]
        return weights

    def _scale(self, inputs: dict[str, Any], mask: Tensor) -> Tensor | float:
        """From the mean over a micro-batch to its part of the mean over an update, as TRL computes it."""
        training = self.model.training
        steps = self.current_gradient_accumulation_steps if training else 1.0
        if self.objective.over != "tokens":
            return 1.0 / steps
        # The tokens of the whole rollout, of which an update has this share.
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        share = steps / self.args.steps_per_generation if training else 1.0
        return mask.sum() / (tokens * share)
