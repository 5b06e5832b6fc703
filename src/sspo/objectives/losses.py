"""The objectives: SSPO and its baselines, one pure function each, in the table ``LOSSES``.

Every loss has the signature ``(logprobs, old_logprobs, advantages, mask, **params) -> (loss, stats)``:

- ``logprobs`` (B, T): log pi_theta of the sampled response tokens, in nats, with gradient;
- ``old_logprobs`` (B, T): the same under the policy at rollout time;
- ``advantages`` (B,): one A_i per response;
- ``mask`` (B, T): 1 on response tokens (the end token included), 0 on padding;
- ``loss``: scalar, the negative objective, averaged as that objective prescribes;
- ``stats``: detached tensors with leading dimension B, so that micro-batches concatenate exactly:
  ``log_ratio`` (B, T) and ``sequence_weight`` (B,), the response's importance weight divided by its
  on-policy value, so that it is 1 for every objective at r = 1.

Arithmetic is float32 whatever comes in (float64 stays float64) and happens in log space. Loss values
of different objectives are not comparable (f(1) = 2 / tau for the sigmoid gate); gradients are.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sspo.objectives.batch import MAX_LOG_RATIO, Batch, prepare, widen
from sspo.objectives.gates import log_gate, pessimistic_log_gate

LossAndStats = tuple[Tensor, dict[str, Tensor]]


def grpo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> LossAndStats:
    """GRPO (arXiv 2402.03300): mean_i mean_t min(r A, clip(r, 1 - lo, 1 + hi) A)."""
    batch = prepare(logprobs, old_logprobs, advantages, mask)
    objective, weight = _clipped_tokens(batch, clip_low, clip_high)
    return -batch.sequence_mean(objective).mean(), batch.stats(weight)


def dr_grpo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    max_response_tokens: int,
) -> LossAndStats:
    """Dr. GRPO (arXiv 2503.20783): sum_t of GRPO's tokens / a constant, so length earns no bias.

    Meant for advantages without the division by the standard deviation.
    """
    whole = float(max_response_tokens).is_integer() and max_response_tokens >= 1
    _require(whole, "max_response_tokens", max_response_tokens, "a whole number of at least 1")
    batch = prepare(logprobs, old_logprobs, advantages, mask)
    objective, weight = _clipped_tokens(batch, clip_low, clip_high)
    per_sequence = (objective * batch.mask).sum(dim=1) / max_response_tokens
    return -per_sequence.mean(), batch.stats(weight)


def dapo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> LossAndStats:
    """DAPO (arXiv 2503.14476): GRPO's tokens averaged over all tokens of the batch."""
    batch = prepare(logprobs, old_logprobs, advantages, mask)
    objective, weight = _clipped_tokens(batch, clip_low, clip_high)
    return -batch.token_mean(objective), batch.stats(weight)


def cispo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_high: float,
) -> LossAndStats:
    """CISPO (arXiv 2506.13585): token mean of sg(min(r, 1 + hi)) A log pi.

    The weight is capped, never the gradient's path: every token keeps contributing.
    """
    _require(clip_high > 0.0, "clip_high", clip_high, "positive")
    batch = prepare(logprobs, old_logprobs, advantages, mask)
    weight = batch.log_ratio.exp().clamp(max=1.0 + clip_high).detach()
    objective = weight * batch.advantages * batch.logprobs
    return -batch.token_mean(objective), batch.stats(batch.sequence_mean(weight))


def gspo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> LossAndStats:
    """GSPO (arXiv 2507.18071): min(s A, clip(s, 1 - lo, 1 + hi) A), s = exp(mean_t l)."""
    _require_clip(clip_low, clip_high)
    batch = prepare(logprobs, old_logprobs, advantages, mask)
    weight = batch.sequence_mean(batch.log_ratio).exp()
    objective = _clipped(weight, batch.advantages, clip_low, clip_high)
    return -objective.mean(), batch.stats(weight)


def gmpo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip: float,
) -> LossAndStats:
    """GMPO (arXiv 2507.20673): A exp(mean_t l~), the log-ratio clipped on one side only.

    l~ = min(l, c) for A > 0 and max(l, -c) for A < 0, c in nats: as in PPO, a token is cut off only
    on the side towards which its advantage would push it.
    """
    _require(clip > 0.0, "clip", clip, "positive")
    batch = prepare(logprobs, old_logprobs, advantages, mask)
    one_sided = torch.where(
        batch.advantages > 0.0, batch.log_ratio.clamp(max=clip), batch.log_ratio.clamp(min=-clip)
    )
    weight = batch.sequence_mean(one_sided).exp()
    return -(batch.advantages * weight).mean(), batch.stats(weight)


def sapo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    tau_pos: float,
    tau_neg: float,
    gate: str = "sigmoid",
    pessimistic: bool = False,
) -> LossAndStats:
    """SAPO (arXiv 2511.20347): A mean_t f(r), f(r) = (4 / tau) sigmoid(tau (r - 1)).

    tau is ``tau_pos`` for A > 0 and ``tau_neg`` otherwise. The published method has the sigmoid gate;
    any other gate here is ours, to separate the gate from the level at which it acts.
    ``pessimistic`` (ours) makes it ``sspo.objectives.gates.pessimistic_log_gate``: the coefficient of
    grad log pi_{i,t} is then (A_i / n_i) r where A has not been followed yet, as in PPO, and
    (A_i / n_i) f_p(r) w(d) / w(0) where it has.
    """
    batch = prepare(logprobs, old_logprobs, advantages, mask)
    log_f, log_f_at_1 = _gated(batch, gate, tau_pos, tau_neg, pessimistic)
    objective = batch.advantages * batch.sequence_mean(log_f.exp())
    normalized = batch.sequence_mean((log_f - log_f_at_1).exp())
    return -objective.mean(), batch.stats(normalized)


def sspo(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    gate: str,
    tau_pos: float,
    tau_neg: float,
    pessimistic: bool = False,
) -> LossAndStats:
    """SSPO (arXiv 2602.19327): A exp(mean_t log f(r)), a geometric mean of soft token gates.

    The coefficient of grad log pi_{i,t} is (A_i / n_i) s_i w(r_{i,t}) with s_i = exp(mean_t log f)
    and w = d log f / d log r. tau is ``tau_pos`` for A > 0 and ``tau_neg`` otherwise; ``gate`` is a
    key of ``sspo.objectives.gates.GATES``. ``pessimistic`` (ours) makes it ``pessimistic_log_gate``:
    w is then 1 where A has not been followed yet, as in GMPO, and w(d) / w(0) where it has.
    """
    batch = prepare(logprobs, old_logprobs, advantages, mask)
    log_f, log_f_at_1 = _gated(batch, gate, tau_pos, tau_neg, pessimistic)
    log_weight = batch.sequence_mean(log_f)
    objective = batch.advantages * log_weight.exp()
    return -objective.mean(), batch.stats((log_weight - log_f_at_1).exp())


@dataclass(frozen=True)
class Objective:
    """An entry of ``LOSSES``: the function, and what its mean runs over.

    The trainer weighs micro-batches by that unit (sequences or tokens), which keeps the gradient
    independent of how a minibatch is split.
    """

    function: Callable[..., LossAndStats]
    unit: Literal["sequence", "token"] = "sequence"

    def __call__(self, *tensors: Tensor, **params: object) -> LossAndStats:
        return self.function(*tensors, **params)

    def units(self, mask: Tensor) -> float:
        """How many units a batch with this (B, T) mask holds."""
        return mask.sum(dtype=torch.float64).item() if self.unit == "token" else float(len(mask))


LOSSES: dict[str, Objective] = {
    "grpo": Objective(grpo),
    "dr_grpo": Objective(dr_grpo),
    "dapo": Objective(dapo, unit="token"),
    "cispo": Objective(cispo, unit="token"),
    "gspo": Objective(gspo),
    "gmpo": Objective(gmpo),
    "sapo": Objective(sapo),
    "sspo": Objective(sspo),
}


def check_objective(name: str, params: dict[str, object]) -> None:
    """Refuse an objective or parameters that cannot run, before any compute is spent.

    The loss itself is the judge: it is called once on a one-token batch, so its own checks apply.

    Raises:
        ValueError: unknown objective, missing, unknown or impossible parameter; the message names it.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown objective {name!r}; choose one of {', '.join(LOSSES)}")
    allowed = inspect.signature(LOSSES[name].function).parameters.values()
    keywords = {p.name: p for p in allowed if p.kind is inspect.Parameter.KEYWORD_ONLY}
    for key in params:
        if key not in keywords:
            raise ValueError(f"{name} has no parameter {key!r}; it takes {', '.join(keywords)}")
    for key, parameter in keywords.items():
        if key not in params and parameter.default is inspect.Parameter.empty:
            raise ValueError(f"{name} needs the parameter {key!r}")
    one = torch.ones(1, 1)
    try:
        LOSSES[name](-one, -one, one[0], one, **params)
    except TypeError as error:
        raise ValueError(f"{name} cannot take {params}: {error}") from error


def token_coefficients(grad: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Each token's gradient relative to plain REINFORCE, from the gradient of a loss.

    With c = -n_i (dL / d log pi_{i,t}) / A_i a response's tokens are pushed c times as hard as
    on-policy: 1 at r = 1 for objectives that average over a response's own tokens, 0 where a hard clip
    cuts off.

    Args:
        grad: (B, T) gradient of B times the mean loss (sum over responses) w.r.t. ``logprobs``.
        advantages: (B,).
        mask: (B, T).

    Returns:
        (B, T) coefficients, NaN where the mask or the advantage is 0.
    """
    lengths = mask.sum(dim=1, keepdim=True, dtype=grad.dtype).clamp(min=1.0)
    defined = mask.bool() & (advantages.unsqueeze(1) != 0.0)
    safe = torch.where(defined, advantages.unsqueeze(1), 1.0)
    return torch.where(defined, -grad * lengths / safe, torch.nan)


def k3_divergence(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Per-token estimate of KL(pi || ref) in nats, exp(d) - d - 1 with d = log ref - log pi.

    Unbiased when the tokens come from pi, and never negative (the "k3" estimator used by GRPO).
    """
    difference = widen(reference_logprobs) - widen(logprobs)
    difference = difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.expm1(difference) - difference


def _clipped(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """PPO's pessimistic clip (arXiv 1707.06347): min(r A, clip(r, 1 - lo, 1 + hi) A)."""
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return torch.minimum(ratio * advantages, clipped * advantages)


def _clipped_tokens(batch: Batch, clip_low: float, clip_high: float) -> tuple[Tensor, Tensor]:
    """(B, T) clipped objective of every token, (B, 1) mean ratio of every response."""
    _require_clip(clip_low, clip_high)
    ratio = batch.log_ratio.exp()
    objective = _clipped(ratio, batch.advantages, clip_low, clip_high)
    return objective, batch.sequence_mean(ratio)


def _gated(
    batch: Batch, gate: str, tau_pos: float, tau_neg: float, pessimistic: bool
) -> tuple[Tensor, Tensor]:
    """(B, T) log f(r) with each response's tau, and (B, 1) its value at r = 1."""
    for key, tau in (("tau_pos", tau_pos), ("tau_neg", tau_neg)):
        _require(0.0 < tau < math.inf, key, tau, "positive and finite")
    _require(isinstance(pessimistic, bool), "pessimistic", pessimistic, "true or false")
    positive = batch.advantages > 0.0
    tau = torch.full_like(batch.advantages, tau_neg).masked_fill(positive, tau_pos)
    if pessimistic:
        return pessimistic_log_gate(gate, batch.log_ratio, tau, positive), torch.zeros_like(tau)
    return log_gate(gate, batch.log_ratio, tau), log_gate(gate, torch.zeros_like(tau), tau)


def _require_clip(clip_low: float, clip_high: float) -> None:
    _require(0.0 < clip_low < 1.0, "clip_low", clip_low, "between 0 and 1")
    _require(clip_high > 0.0, "clip_high", clip_high, "positive")


def _require(holds: bool, key: str, value: object, must: str) -> None:
    if not holds:
        raise ValueError(f"{key} = {value} must be {must}")
