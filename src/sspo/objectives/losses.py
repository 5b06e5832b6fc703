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

import math

import torch
from torch import Tensor

from sspo.objectives.batch import MAX_LOG_RATIO, Batch, widen
from sspo.objectives.gates import log_gate, pessimistic_log_gate
from sspo.objectives.objective import Objective, TermsAndWeight, require

# VESPO's bounds on a token's log-ratio, and on the log-ratio of a whole response (TRL 1.16).
VESPO_TOKEN, VESPO_RESPONSE = 20.0, (math.log(1e-8), 20.0)


def clipped_tokens(batch: Batch, *, clip_low: float, clip_high: float) -> TermsAndWeight:
    """PPO's clip of every token (arXiv 1707.06347): min(r A, clip(r, 1 - lo, 1 + hi) A), (B, T)."""
    _require_clip(clip_low, clip_high)
    ratio = batch.log_ratio.exp()
    return _clipped(ratio, batch.advantages, clip_low, clip_high), batch.sequence_mean(ratio)


def cispo(batch: Batch, *, clip_high: float) -> TermsAndWeight:
    """CISPO (arXiv 2506.13585): sg(min(r, 1 + hi)) A log pi, (B, T).

    Only the weight is capped, so every token keeps contributing to the gradient.
    """
    require(clip_high > 0.0, "clip_high", clip_high, "positive")
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
    require(clip > 0.0, "clip", clip, "positive")
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
    batch: Batch,
    *,
    gate: str,
    tau_pos: float,
    tau_neg: float,
    pessimistic: bool = False,
    power: float = 0.0,
) -> TermsAndWeight:
    """SSPO (arXiv 2602.19327): A exp(mean_t log f(r)), a geometric mean of soft gates, (B, 1).

    The coefficient of grad log pi_{i,t} is (A_i / n_i) s_i w(r_{i,t}) with s_i = exp(mean_t log f)
    and w = d log f / d log r. tau is ``tau_pos`` for A > 0 and ``tau_neg`` otherwise; ``gate`` is a
    key of ``GATES``. ``pessimistic`` (ours) uses ``pessimistic_log_gate``, which defines d and w(d): the
    weight is then 1 for d <= 0, as in GMPO, and w(d) / w(0) for d > 0.

    ``power`` (ours, after the power mean of arXiv 2605.04066) makes the level a number: the mean over
    tokens is (mean_t f^p)^(1/p). 0 is the geometric mean of the published method, and 1 is SAPO. The
    weight w of a token is then multiplied by f^p / mean_t f^p.
    """
    _require_power(power)
    log_f, log_f_at_1 = _gated(batch, gate, tau_pos, tau_neg, pessimistic)
    log_weight = batch.log_power_mean(log_f, power) if power else batch.sequence_mean(log_f)
    return batch.advantages * log_weight.exp(), (log_weight - log_f_at_1).exp()


def vespo(
    batch: Batch, *, k_pos: float, lambda_pos: float, k_neg: float, lambda_neg: float
) -> TermsAndWeight:
    """VESPO (arXiv 2602.10693): sg(phi(W)) A log pi with phi(W) = W^k exp(lambda (1 - W)), (B, T).

    W = exp(sum_t l) is the ratio of the whole response, without a root of its length, and phi(1) = 1.
    k and lambda are ``k_pos`` and ``lambda_pos`` for A >= 0, and the others for A < 0. The bounds on l
    and on log W are those of TRL 1.16.
    """
    _require_not_negative(k_pos=k_pos, k_neg=k_neg)
    _require_positive(lambda_pos=lambda_pos, lambda_neg=lambda_neg)
    log_ratio = batch.log_ratio.detach().clamp(-VESPO_TOKEN, VESPO_TOKEN) * batch.mask
    log_w = log_ratio.sum(dim=1, keepdim=True).clamp(*VESPO_RESPONSE)
    negative = batch.advantages < 0.0
    k = torch.full_like(log_w, k_pos).masked_fill(negative, k_neg)
    decay = torch.full_like(log_w, lambda_pos).masked_fill(negative, lambda_neg)
    phi = (k * log_w - decay * torch.expm1(log_w)).exp()
    return phi * batch.advantages * batch.logprobs, phi


def luspo(batch: Batch, *, clip_low: float, clip_high: float) -> TermsAndWeight:
    """LUSPO (arXiv 2602.05261): GSPO's clipped objective times the number of tokens n, (B, 1)."""
    terms, weight = gspo(batch, clip_low=clip_low, clip_high=clip_high)
    return terms * batch.lengths, weight


def maspo(
    batch: Batch,
    *,
    sigma: float,
    alpha: float,
    beta: float,
    sigma_high: float,
    advantage_low: float,
    advantage_high: float,
) -> TermsAndWeight:
    """MASPO (arXiv 2602.17550): A r sg(exp(-(r - 1)^2 / (2 width^2))) or A r, (B, T).

    The gate acts on the sides on which PPO cuts off, A > 0 at r > 1 and A < 0 at r < 1. Its width is
    sigma / pi_old^alpha, so a rare token has a wider one, between ``sigma`` and ``sigma_high``. A factor
    multiplies it, 1 + beta A for A > 0 and 1 / (1 - beta A) for A < 0, between ``advantage_low`` and
    ``advantage_high``. The width depends on A, so this objective alone is not proportional to A.
    """
    _require_positive(sigma=sigma, advantage_low=advantage_low)
    _require_positive(sigma_high=sigma_high, advantage_high=advantage_high)
    _require_not_negative(alpha=alpha, beta=beta)
    require(sigma <= sigma_high, "sigma_high", sigma_high, "at least sigma")
    ordered = advantage_low <= advantage_high
    require(ordered, "advantage_high", advantage_high, "at least advantage_low")
    log_ratio, advantages = batch.log_ratio, batch.advantages
    by_mass = (math.log(sigma) - alpha * batch.old_logprobs).exp().clamp(sigma, sigma_high)
    size = 1.0 + beta * advantages.abs()
    by_advantage = torch.where(advantages > 0.0, size, 1.0 / size)
    width = by_mass * by_advantage.clamp(advantage_low, advantage_high)
    closing = -0.5 * (torch.expm1(log_ratio.detach()) / width).square()
    followed = advantages * log_ratio > 0.0  # the token has moved as its advantage asks
    weighted = (log_ratio + torch.where(followed, closing, 0.0)).exp()
    return weighted * advantages, batch.sequence_mean(weighted)


def dgpo(batch: Batch, *, clip_low: float, clip_high: float, n: float, m: float) -> TermsAndWeight:
    """DGPO (arXiv 2603.14389): A r sg(decay) with a decay where PPO would cut, and 1 elsewhere, (B, T).

    The decay is (r / (1 - lo))^n for A < 0 at r < 1 - lo, and ((1 + hi) / r)^(1/m) for A > 0 at
    r > 1 + hi. Both are 1 at the bound.
    """
    _require_clip(clip_low, clip_high)
    _require_positive(n=n, m=m)
    log_ratio = batch.log_ratio.detach()
    below = (log_ratio - math.log1p(-clip_low)).clamp(max=0.0)
    above = (log_ratio - math.log1p(clip_high)).clamp(min=0.0)
    log_decay = torch.where(batch.advantages > 0.0, -above / m, n * below)
    weighted = (batch.log_ratio + log_decay).exp()
    return weighted * batch.advantages, batch.sequence_mean(weighted)


LOSSES: dict[str, Objective] = {
    "grpo": Objective(clipped_tokens, "token"),  # arXiv 2402.03300
    "dr_grpo": Objective(clipped_tokens, "token", over="length"),  # arXiv 2503.20783
    "dapo": Objective(clipped_tokens, "token", over="tokens"),  # arXiv 2503.14476
    "cispo": Objective(cispo, "token", over="tokens"),
    "gspo": Objective(gspo, "response"),
    "gmpo": Objective(gmpo, "response"),
    "sapo": Objective(sapo, "response"),
    "sspo": Objective(sspo, "response"),
    "vespo": Objective(vespo, "token", over="tokens"),
    "luspo": Objective(luspo, "response"),
    "maspo": Objective(maspo, "token", over="tokens"),
    "dgpo": Objective(dgpo, "token", over="tokens"),
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
    _require_positive(tau_pos=tau_pos, tau_neg=tau_neg)
    require(isinstance(pessimistic, bool), "pessimistic", pessimistic, "true or false")
    positive = batch.advantages > 0.0
    tau = torch.full_like(batch.advantages, tau_neg).masked_fill(positive, tau_pos)
    if pessimistic:
        return pessimistic_log_gate(gate, batch.log_ratio, tau, positive), torch.zeros_like(tau)
    return log_gate(gate, batch.log_ratio, tau), log_gate(gate, torch.zeros_like(tau), tau)


def _require_power(power: float) -> None:
    """Between 0 and 1e-6 float32 has no digits for the difference from the geometric mean."""
    holds = power == 0.0 or 1e-6 <= abs(power) <= 1e6
    require(holds, "power", power, "0, or between 1e-6 and 1e6 in size")


def _require_positive(**values: float) -> None:
    for key, value in values.items():
        require(0.0 < value < math.inf, key, value, "positive and finite")


def _require_not_negative(**values: float) -> None:
    for key, value in values.items():
        require(0.0 <= value < math.inf, key, value, "0 or positive, and finite")


def _require_clip(clip_low: float, clip_high: float) -> None:
    require(0.0 < clip_low < 1.0, "clip_low", clip_low, "between 0 and 1")
    require(clip_high > 0.0, "clip_high", clip_high, "positive")
