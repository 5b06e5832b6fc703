"""The gates: smooth replacements of the clip, each returned as log f(r).

A gate f is admissible if it is C1 and positive, and if its slope is 1 at r = 1, where it is steepest, and
falls monotonically to 0 on both sides (arXiv 2602.19345). There are two families:

- ratio space: f(r) = CDF(u) / (tau pdf(0)), u = tau (r - 1), so that df/dr = pdf(u) / pdf(0);
- log space: log f(r) = g(tau l) / tau with l = log r, g odd and g'(0) = 1.

``sigmoid`` is SAPO's gate (arXiv 2511.20347). Writing the four gates in ratio space as one family of CDFs
is ours. Every gate takes l and computes log f directly, because the logarithm of an f that has underflowed
would be -inf.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Gate = Callable[[Tensor, Tensor], Tensor]


def sigmoid(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """SAPO's gate, the logistic CDF: f(r) = (4 / tau) sigmoid(tau (r - 1)), with an exponential tail."""
    return logsigmoid(_scaled_offset(log_ratio, tau)) + math.log(4.0) - tau.log()


def erf(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """The normal CDF: f(r) = sqrt(2 pi) Phi(tau (r - 1)) / tau, with a Gaussian tail."""
    cdf = torch.special.log_ndtr(_scaled_offset(log_ratio, tau))
    return cdf + 0.5 * math.log(2.0 * math.pi) - tau.log()


def arctan(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """The Cauchy CDF: f(r) = (pi / 2 + arctan(tau (r - 1))) / tau, with a quadratic tail."""
    u = _scaled_offset(log_ratio, tau)
    # pi/2 + arctan(u) would cancel at u << 0. The angle of (-u, 1) is the same without cancellation.
    return torch.atan2(torch.ones_like(u), -u).log() - tau.log()


def softsign(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """The softsign CDF: f(r) = (1 + u / (1 + |u|)) / tau, u = tau (r - 1), with a quadratic tail."""
    u = _scaled_offset(log_ratio, tau)
    # Two branches instead of |u|, whose derivative at u = 0 counts as 0 in autograd, which would make the
    # on-policy slope twice too steep. Neither branch cancels digits.
    right = (2.0 - 1.0 / (1.0 + u.clamp(min=0.0))).log()
    left = -torch.log1p(-u.clamp(max=0.0))
    return torch.where(u >= 0.0, right, left) - tau.log()


def log_identity(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """No gate: f(r) = r, and tau has no effect."""
    return log_ratio


def log_arctan(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """log f(r) = arctan(tau l) / tau; second-hand reports call it SSPO's later default ("inferred")."""
    return torch.atan(tau * log_ratio) / tau


def log_tanh(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """log f(r) = tanh(tau l) / tau."""
    return torch.tanh(tau * log_ratio) / tau


def log_erf(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """log f(r) = (sqrt(pi) / 2) erf(tau l) / tau."""
    return 0.5 * math.sqrt(math.pi) * torch.erf(tau * log_ratio) / tau


def log_softsign(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """log f(r) = l / (1 + tau |l|)."""
    return log_ratio / (1.0 + tau * log_ratio.abs())


def log_clip(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """The hard clip of the log-ratio at +-1 / tau on both sides, a gate whose slope is 0 outside."""
    return torch.minimum(torch.maximum(log_ratio, -1.0 / tau), 1.0 / tau)


def _scaled_offset(log_ratio: Tensor, tau: Tensor) -> Tensor:
    """u = tau (r - 1), computed by expm1 so that small log-ratios keep their digits."""
    return tau * torch.expm1(log_ratio)


GATES: dict[str, Gate] = {
    "sigmoid": sigmoid,
    "erf": erf,
    "arctan": arctan,
    "softsign": softsign,
    "log_identity": log_identity,
    "log_arctan": log_arctan,
    "log_tanh": log_tanh,
    "log_erf": log_erf,
    "log_softsign": log_softsign,
    "log_clip": log_clip,
}


def log_gate(name: str, log_ratio: Tensor, tau: Tensor) -> Tensor:
    """log f(r) of the gate called ``name``.

    Args:
        name: a key of ``GATES``.
        log_ratio: l = log r in nats, any shape.
        tau: positive temperature, broadcastable to ``log_ratio``; larger closes the gate earlier.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in GATES:
        raise ValueError(f"unknown gate {name!r}; choose one of {', '.join(GATES)}")
    return GATES[name](log_ratio, tau)


def pessimistic_log_gate(name: str, log_ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
    """A gate that closes only where PPO's min cuts off, and alike for both signs of A (ours).

    Let a = sign(A). Then d = a l says how far a token has already moved in the direction in which its
    advantage pushes it. With L = log f of the gate called ``name`` and w(d) = dL/dl:

        log f_p = l                          d <= 0: open, weight 1, as in PPO and GMPO
        log f_p = a (L(d) - L(0)) / w(0)     d > 0:  closing, weight w(d) / w(0)

    Both weights are 1 at d = 0, so f_p is C1 with f_p(1) = f_p'(1) = 1. A published gate depends on r
    alone. It therefore also closes for tokens that moved against their advantage, and in ratio space it
    hardly closes for A < 0, because r - 1 cannot fall below -1. Here A < 0 at r weighs as much as A > 0
    at 1 / r. With ``log_clip`` this is GMPO's clip at c = 1 / tau. Use it with gates in log space: in ratio
    space at small tau, w(d) rises before it falls (the sigmoid's to 1.13 w(0) at tau = 1).

    Args:
        name: a key of ``GATES``.
        log_ratio: l = log r in nats, any shape.
        tau: positive temperature, broadcastable to ``log_ratio``.
        positive: whether A > 0, broadcastable to ``log_ratio``.

    Raises:
        ValueError: the name is unknown.
    """
    sign = torch.where(positive, 1.0, -1.0).to(log_ratio.dtype)
    gone = sign * log_ratio
    at_1 = log_gate(name, torch.zeros_like(tau), tau)
    # f'(1) = 1 in every gate, so w(0) = 1 / f(1).
    closing = sign * (log_gate(name, gone, tau) - at_1) * at_1.exp()
    return torch.where(gone > 0.0, closing, log_ratio)
