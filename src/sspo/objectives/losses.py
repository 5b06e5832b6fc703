"""The objectives: SSPO and its baselines, one short pure function each, in the table ``LOSSES``.

Every entry is called alike, ``LOSSES[name](logprobs, old_logprobs, advantages, mask, **params)``, and
returns ``(loss, stats)``:

- ``logprobs`` (B, T): log pi_theta of the sampled response tokens, in nats, with gradient;
- ``old_logprobs`` (B, T): the same under the policy at rollout time;
- ``advantages`` (B,): one A_i per response;
- ``mask`` (B, T): 1 on response tokens (the end token included), 0 on padding;
- ``loss``: scalar, the negative objective, averaged over what the table says;
- ``stats``: detached tensors with leading dimension B, so that micro-batches concatenate exactly:
  ``log_ratio`` (B, T) and ``sequence_weight`` (B,), the response's importance weight divided by its
  on-policy value, so that it is 1 for every objective at r = 1.

A function of the table takes the prepared ``Batch`` and its own parameters. It returns what is maximised,
per token (B, T) or per response (B, 1), and the importance weight (B, 1) for ``stats``. In formulas r is a
token's ratio, l = log r, s a response's weight, A its advantage and n its number of tokens.

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
TermsAndWeight = tuple[Tensor, Tensor]

LENGTH = "max_response_tokens"  # the parameter of objectives that divide by a constant length


def clipped_tokens(batch: Batch, *, clip_low: float, clip_high: float) -> TermsAndWeight:
    """PPO's clip of every token (arXiv 1707.06347): min(r A, clip(r, 1 - lo, 1 + hi) A), (B, T)."""
    _require_clip(clip_low, clip_high)
    ratio = batch.log_ratio.exp()
    return _clipped(ratio, batch.advantages, clip_low, clip_high), batch.sequence_mean(ratio)


def cispo(batch: Batch, *, clip_high: float) -> TermsAndWeight:
    """CISPO (arXiv 2506.13585): sg(min(r, 1 + hi)) A log pi, (B, T).

    The weight is capped, never the gradient's path: every token keeps contributing.
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
    """GMPO (arXiv 2507.20673): A exp(mean_t l~), the log-ratio clipped on one side only, (B, 1).

    l~ = min(l, c) for A > 0 and max(l, -c) for A < 0, c in nats: as in PPO, a token is cut off only
    on the side towards which its advantage would push it.
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

    tau is ``tau_pos`` for A > 0 and ``tau_neg`` otherwise. The published method has the sigmoid gate;
    any other gate here is ours, to separate the gate from the level at which it acts.
    ``pessimistic`` (ours) makes it ``pessimistic_log_gate``: the coefficient of
    grad log pi_{i,t} is then (A_i / n_i) r where A has not been followed yet, as in PPO, and
    (A_i / n_i) f_p(r) w(d) / w(0) where it has.
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
    key of ``GATES``. ``pessimistic`` (ours) makes it ``pessimistic_log_gate``: w is then 1 where A
    has not been followed yet, as in GMPO, and w(d) / w(0) where it has.
    """
    log_f, log_f_at_1 = _gated(batch, gate, tau_pos, tau_neg, pessimistic)
    log_weight = batch.sequence_mean(log_f)
    return batch.advantages * log_weight.exp(), (log_weight - log_f_at_1).exp()


@dataclass(frozen=True)
class Objective:
    """An entry of ``LOSSES``.

    Attributes:
        function: (batch, **params) -> what is maximised, and the importance weight.
        terms: what the function returns: "token" terms (B, T) or "response" terms (B, 1).
        over: the mean that makes a loss of them: over "responses", of their own means where the terms
            are tokens; over all "tokens" of the batch; or over responses of their sum divided by a
            constant "length", the parameter ``max_response_tokens``.
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
        """The loss and its statistics, see the module.

        Raises:
            ValueError: shapes that do not fit together, or a parameter out of its range.
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
        """Names of its parameters, and whether each has to be given."""
        found = inspect.signature(self.function).parameters.values()
        own = {p.name: p.default is p.empty for p in found if p.kind is p.KEYWORD_ONLY}
        return own | ({LENGTH: True} if self.over == "length" else {})

    def units(self, mask: Tensor) -> float:
        """How many tokens or responses, whichever its mean is over, a batch with this (B, T) mask has.

        The trainer weighs micro-batches by it, so that no gradient depends on how they are split.
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

    The loss itself is the judge: it is called once on a one-token batch, so its own checks apply.

    Raises:
        ValueError: unknown objective, missing, unknown or impossible parameter; the message names it.
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


def _gated(
    batch: Batch, gate: str, tau_pos: float, tau_neg: float, pessimistic: bool
) -> tuple[Tensor, Tensor]:
    """(B, T) log f(r) with each response's tau, and (B, 1) its value at r = 1."""
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
