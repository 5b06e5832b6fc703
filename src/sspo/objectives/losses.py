"""The objectives: SSPO and its baselines, each a short pure function in the table ``LOSSES``.

Every entry is called as ``LOSSES[name](logprobs, old_logprobs, advantages, mask, **params)`` and returns
``(loss, stats)``:

- ``logprobs`` (B, T): log pi_theta of the sampled response tokens, in nats, with gradient;
- ``old_logprobs`` (B, T): the same under the policy at the time of the rollout;
- ``advantages`` (B,): one A_i per response;
- ``mask`` (B, T): 1 on response tokens (the end token included), 0 on padding;
- ``loss``: scalar, the negative objective, averaged as the table says;
- ``stats``: detached tensors with leading dimension B, so that those of micro-batches can be concatenated:
  ``log_ratio`` (B, T) in nats, and ``sequence_weight`` (B,), the response's importance weight divided by
  its on-policy value, so that it is 1 for every objective at r = 1.

A function in the table takes the prepared ``Batch`` and its own parameters. It returns what is maximised,
per token (B, T) or per response (B, 1), and the importance weight (B, 1) for ``stats``. In formulas r is a
token's ratio, l = log r, s a response's weight, A its advantage and n its number of tokens.

Arithmetic is in log space and in float32 whatever comes in, except that float64 stays float64. Gradients
of different objectives are comparable; loss values are not, since f(1) = 2 / tau for the sigmoid gate.
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
TermsAndWeight = tuple[Tensor, Tensor]

LENGTH = "max_response_tokens"  # the parameter of objectives that divide by a constant length


def clipped_tokens(batch: Batch, *, clip_low: float, clip_high: float) -> TermsAndWeight:
    """PPO's clip of every token (arXiv 1707.06347): min(r A, clip(r, 1 - lo, 1 + hi) A), (B, T)."""
    _require_clip(clip_low, clip_high)
    ratio = batch.log_ratio.exp()
    return _clipped(ratio, batch.advantages, clip_low, clip_high), batch.sequence_mean(ratio)


def cispo(batch: Batch, *, clip_high: float) -> TermsAndWeight:
    """CISPO (arXiv 2506.13585): sg(min(r, 1 + hi)) A log pi, (B, T).

    Only the weight is capped, so every token keeps contributing to the gradient.
    """
    _require(clip_high > 0.0, "clip_high", clip_high, "positive")
    weight = batch.log_ratio.exp().clamp(max=1.0 + clip_high).detach()
    return weight * batch.advantages * batch.logprobs, batch.sequence_mean(weight)


def gspo(batch: Batch, *, clip_low: float, clip_high: float) -> TermsAndWeight:
    """GSPO (arXiv 2507.18071): min(s A, clip(s, 1 - lo, 1 + hi) A) with s = exp(mean_t l), (B, 1)."""
    _require_clip(clip_low, clip_high)
    weight = batch.sequence_mean(batch.log_ratio).exp()
    return _clipped(weight, batch.advantages, clip_low, clip_high), weight


def gmpo(batch: Batch, *, clip: float) -> TermsAndWeight:
    """GMPO (arXiv 2507.20673): A exp(mean_t l~), with l~ clipped on one side only, (B, 1).

    l~ = min(l, c) for A > 0 and max(l, -c) for A < 0, with c in nats. As in PPO, a token is cut off only
    on the side towards which its advantage pushes it.
    """
    _require(clip > 0.0, "clip", clip, "positive")
    log_ratio, positive = batch.log_ratio, batch.advantages > 0.0
    one_sided = torch.where(positive, log_ratio.clamp(max=clip), log_ratio.clamp(min=-clip))
    weight = batch.sequence_mean(one_sided).exp()
    return batch.advantages * weight, weight


def sapo(
    batch: Batch,
    *,
    tau_pos: float,
    tau_neg: float,
    gate: str = "sigmoid",
    pessimistic: bool = False,
) -> TermsAndWeight:
    """SAPO (arXiv 2511.20347): A mean_t f(r), f(r) = (4 / tau) sigmoid(tau (r - 1)), (B, 1).

    tau is ``tau_pos`` for A > 0 and ``tau_neg`` otherwise. The published method has the sigmoid gate.
    Other gates are ours; they separate the effect of the gate from that of the level at which it acts.
    ``pessimistic`` (ours) uses ``pessimistic_log_gate``, which defines d, f_p and w(d). The coefficient of
    grad log pi_{i,t} is then (A_i / n_i) r for d <= 0, as in PPO, and (A_i / n_i) f_p(r) w(d) / w(0)
    for d > 0.
    """
    log_f, log_f_at_1 = _gated(batch, gate, tau_pos, tau_neg, pessimistic)
    weight = batch.sequence_mean((log_f - log_f_at_1).exp())
    return batch.advantages * batch.sequence_mean(log_f.exp()), weight


def sspo(
    batch: Batch, *, gate: str, tau_pos: float, tau_neg: float, pessimistic: bool = False
) -> TermsAndWeight:
    """SSPO (arXiv 2602.19327): A exp(mean_t log f(r)), a geometric mean of soft gates, (B, 1).

    The coefficient of grad log pi_{i,t} is (A_i / n_i) s_i w(r_{i,t}) with s_i = exp(mean_t log f)
    and w = d log f / d log r. tau is ``tau_pos`` for A > 0 and ``tau_neg`` otherwise; ``gate`` is a
    key of ``GATES``. ``pessimistic`` (ours) uses ``pessimistic_log_gate``, which defines d and w(d): the
    weight is then 1 for d <= 0, as in GMPO, and w(d) / w(0) for d > 0.
    """
    log_f, log_f_at_1 = _gated(batch, gate, tau_pos, tau_neg, pessimistic)
    log_weight = batch.sequence_mean(log_f)
    return batch.advantages * log_weight.exp(), (log_weight - log_f_at_1).exp()


@dataclass(frozen=True)
class Objective:
    """An entry of ``LOSSES``.

    Attributes:
        function: (batch, **params) -> what is maximised, and the importance weight.
        terms: whether the function returns "token" terms (B, T) or "response" terms (B, 1).
        over: how the terms are averaged. "responses" is the mean over responses, each of which is the
            mean over its own tokens if the terms are tokens. "tokens" is the mean over all tokens of the
            batch. "length" is the mean over responses of their sum of terms divided by a constant, the
            parameter ``max_response_tokens``.
    """

    function: Callable[..., TermsAndWeight]
    terms: Literal["token", "response"]
    over: Literal["responses", "tokens", "length"] = "responses"

    def __call__(
        self,
        logprobs: Tensor,
        old_logprobs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        **params: object,
    ) -> LossAndStats:
        """The loss and its statistics, as the module describes them.

        Raises:
            ValueError: the shapes do not fit together, or a parameter is out of its range.
        """
        batch = prepare(logprobs, old_logprobs, advantages, mask)
        length = params.pop(LENGTH, None) if self.over == "length" else None
        terms, weight = self.function(batch, **params)
        stats = {"log_ratio": batch.log_ratio, "sequence_weight": weight.squeeze(1)}
        return -self._mean(batch, terms, length), {k: v.detach() for k, v in stats.items()}

    def _mean(self, batch: Batch, terms: Tensor, length: object) -> Tensor:
        if self.over == "tokens":
            return batch.token_mean(terms)
        if self.over == "length":
            return ((terms * batch.mask).sum(dim=1) / _whole(LENGTH, length)).mean()
        return (batch.sequence_mean(terms) if self.terms == "token" else terms).mean()

    def parameters(self) -> dict[str, bool]:
        """Parameter -> whether it has to be given."""
        found = inspect.signature(self.function).parameters.values()
        own = {p.name: p.default is p.empty for p in found if p.kind is p.KEYWORD_ONLY}
        return own | ({LENGTH: True} if self.over == "length" else {})

    def units(self, mask: Tensor) -> float:
        """The number of tokens or responses, whichever the mean is over, in a batch with this (B, T) mask.

        The trainer weighs micro-batches by it, so that gradients do not depend on how a batch is split.
        """
        return mask.sum(dtype=torch.float64).item() if self.over == "tokens" else float(len(mask))


LOSSES: dict[str, Objective] = {
    "grpo": Objective(clipped_tokens, "token"),  # arXiv 2402.03300
    "dr_grpo": Objective(clipped_tokens, "token", over="length"),  # arXiv 2503.20783
    "dapo": Objective(clipped_tokens, "token", over="tokens"),  # arXiv 2503.14476
    "cispo": Objective(cispo, "token", over="tokens"),
    "gspo": Objective(gspo, "response"),
    "gmpo": Objective(gmpo, "response"),
    "sapo": Objective(sapo, "response"),
    "sspo": Objective(sspo, "response"),
}


def check_objective(name: str, params: dict[str, object]) -> None:
    """Refuse an objective or parameters that cannot run, before any compute is spent.

    The loss is called once on a batch of one token, so that its own checks apply.

    Raises:
        ValueError: the objective is unknown, or a parameter is missing, unknown or impossible; the
            message names it.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown objective {name!r}; choose one of {', '.join(LOSSES)}")
    known = LOSSES[name].parameters()
    for key in params:
        if key not in known:
            raise ValueError(f"{name} has no parameter {key!r}; it takes {', '.join(known)}")
    for key, needed in known.items():
        if needed and key not in params:
            raise ValueError(f"{name} needs the parameter {key!r}")
    one = torch.ones(1, 1)
    try:
        LOSSES[name](-one, -one, one[0], one, **params)
    except TypeError as error:
        raise ValueError(f"{name} cannot take {params}: {error}") from error


def token_coefficients(grad: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Each token's gradient relative to REINFORCE: c = -n_i (dL / d log pi_{i,t}) / A_i.

    A token is pushed c times as hard as it would be on-policy. For objectives that average over a
    response's own tokens c is 1 at r = 1; where a hard clip cuts off, c is 0.

    Args:
        grad: (B, T) gradient w.r.t. ``logprobs`` of the loss summed over responses, which is B times
            the mean loss.
        advantages: (B,).
        mask: (B, T).

    Returns:
        (B, T) coefficients, which are NaN where the mask or the advantage is 0.
    """
    lengths = mask.sum(dim=1, keepdim=True, dtype=grad.dtype).clamp(min=1.0)
    defined = mask.bool() & (advantages.unsqueeze(1) != 0.0)
    safe = torch.where(defined, advantages.unsqueeze(1), 1.0)
    return torch.where(defined, -grad * lengths / safe, torch.nan)


def k3_divergence(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """GRPO's "k3" estimate of KL(pi || ref) per token, in nats (arXiv 2402.03300).

    It is exp(d) - d - 1 with d = log ref - log pi, which is never negative, and unbiased for tokens
    sampled from pi.
    """
    difference = widen(reference_logprobs) - widen(logprobs)
    difference = difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.expm1(difference) - difference


def _clipped(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """PPO's pessimistic clip (arXiv 1707.06347): min(r A, clip(r, 1 - lo, 1 + hi) A)."""
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return torch.minimum(ratio * advantages, clipped * advantages)


def _gated(
    batch: Batch, gate: str, tau_pos: float, tau_neg: float, pessimistic: bool
) -> tuple[Tensor, Tensor]:
    """log f(r) with each response's tau (B, T), and its value at r = 1 (B, 1)."""
    for key, value in (("tau_pos", tau_pos), ("tau_neg", tau_neg)):
        _require(0.0 < value < math.inf, key, value, "positive and finite")
    _require(isinstance(pessimistic, bool), "pessimistic", pessimistic, "true or false")
    positive = batch.advantages > 0.0
    tau = torch.full_like(batch.advantages, tau_neg).masked_fill(positive, tau_pos)
    if pessimistic:
        return pessimistic_log_gate(gate, batch.log_ratio, tau, positive), torch.zeros_like(tau)
    return log_gate(gate, batch.log_ratio, tau), log_gate(gate, torch.zeros_like(tau), tau)


def _require_clip(clip_low: float, clip_high: float) -> None:
    _require(0.0 < clip_low < 1.0, "clip_low", clip_low, "between 0 and 1")
    _require(clip_high > 0.0, "clip_high", clip_high, "positive")


def _whole(key: str, value: object) -> float:
    number = float(value) if isinstance(value, int | float) else 0.0
    _require(number.is_integer() and number >= 1.0, key, value, "a whole number of at least 1")
    return number


def _require(holds: bool, key: str, value: object, must: str) -> None:
    if not holds:
        raise ValueError(f"{key} = {value} must be {must}")
