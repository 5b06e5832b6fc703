"""Independent references for the loss tests: plain Python floats, one loop per sum, no tensors.

Nothing here imports ``sspo``: the formulas are written from the papers, term by term.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

CDF_GATES = ("sigmoid", "erf", "arctan", "softsign")
SMOOTH_LOG_GATES = ("log_arctan", "log_tanh", "log_erf", "log_softsign")
SMOOTH_GATES = CDF_GATES + SMOOTH_LOG_GATES
ALL_GATES = (*SMOOTH_GATES, "log_identity", "log_clip")
TOKEN_MEANS = ("dapo", "cispo", "vespo", "maspo", "dgpo")


def gate_value(name: str, ratio: float, tau: float) -> float:
    """f(r), by the textbook formula."""
    u, x = tau * (ratio - 1.0), tau * math.log(ratio)
    match name:
        case "sigmoid":
            return 4.0 / tau / (1.0 + math.exp(-u))
        case "erf":
            return math.sqrt(2.0 * math.pi) / tau * 0.5 * math.erfc(-u / math.sqrt(2.0))
        case "arctan":
            return (math.pi / 2.0 + math.atan(u)) / tau
        case "softsign":
            return (1.0 + u / (1.0 + abs(u))) / tau
        case "log_arctan":
            return math.exp(math.atan(x) / tau)
        case "log_tanh":
            return math.exp(math.tanh(x) / tau)
        case "log_erf":
            return math.exp(math.sqrt(math.pi) / 2.0 * math.erf(x) / tau)
        case "log_softsign":
            return math.exp(x / (1.0 + abs(x)) / tau)
        case "log_identity":
            return ratio
        case "log_clip":
            return math.exp(max(-1.0, min(1.0, x)) / tau)
    raise AssertionError(name)


def gate_weight(name: str, ratio: float, tau: float) -> float:
    """w(r) = d log f / d log r, differentiated by hand."""
    u, x = tau * (ratio - 1.0), tau * math.log(ratio)
    match name:
        case "sigmoid":
            return ratio * tau / (1.0 + math.exp(u))
        case "erf":
            return ratio * math.exp(-u * u / 2.0) / gate_value(name, ratio, tau)
        case "arctan":
            return ratio / (1.0 + u * u) / gate_value(name, ratio, tau)
        case "softsign":
            return ratio / (1.0 + abs(u)) ** 2 / gate_value(name, ratio, tau)
        case "log_arctan":
            return 1.0 / (1.0 + x * x)
        case "log_tanh":
            return 1.0 - math.tanh(x) ** 2
        case "log_erf":
            return math.exp(-x * x)
        case "log_softsign":
            return 1.0 / (1.0 + abs(x)) ** 2
        case "log_identity":
            return 1.0
        case "log_clip":
            return 1.0 if abs(x) < 1.0 else 0.0
    raise AssertionError(name)


def pessimistic_value(name: str, ratio: float, tau: float, positive: bool) -> float:
    """f_p(r): the ratio itself where A was not followed yet, a power of the gate where it was."""
    followed = ratio if positive else 1.0 / ratio
    if followed <= 1.0:
        return ratio
    at_1 = gate_value(name, 1.0, tau)
    closing = (gate_value(name, followed, tau) / at_1) ** at_1
    return closing if positive else 1.0 / closing


def token_gate(params: dict, ratio: float, positive: bool) -> float:
    """The gate that an objective's parameters name, at one token."""
    gate, tau = params.get("gate", "sigmoid"), params["tau_pos" if positive else "tau_neg"]
    if params.get("pessimistic"):
        return pessimistic_value(gate, ratio, tau, positive)
    return gate_value(gate, ratio, tau)


@dataclass(frozen=True)
class Inputs:
    """The four tensors of a loss; ``logprobs`` carries the gradient."""

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    mask: Tensor

    def __iter__(self):
        return iter((self.logprobs, self.old_logprobs, self.advantages, self.mask))

    @property
    def on_policy(self) -> Inputs:
        """The same batch before the policy has moved."""
        return replace(self, old_logprobs=self.logprobs.clone())

    @property
    def lengths(self) -> Tensor:
        return self.mask.sum(dim=1, keepdim=True)

    def to(self, dtype: torch.dtype) -> Inputs:
        return Inputs(*(t.to(dtype) for t in self))

    def rows(self, index: Tensor | list[int]) -> Inputs:
        return Inputs(*(t[index] for t in self))


def ragged_batch(seed: int = 0, spread: float = 0.5) -> Inputs:
    """Six responses of 1 to 7 tokens padded to 8, advantages of both signs and one 0, float64."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([4, 1, 7, 3, 5, 2])
    mask = (torch.arange(8) < lengths.unsqueeze(1)).double()
    noise = torch.randn(2, 6, 8, generator=generator, dtype=torch.float64)
    logprobs = -noise[0].abs() - 0.05
    advantages = torch.tensor([1.3, -0.7, -1.1, 0.0, 0.4, -0.2], dtype=torch.float64)
    return Inputs(logprobs, logprobs - spread * noise[1], advantages, mask)


def token_rows(log_ratios: list[list[float]], advantages: list[float]) -> Inputs:
    """Full rows with the given log-ratios, old log-probability -1 everywhere, float64."""
    ratio = torch.tensor(log_ratios, dtype=torch.float64)
    old = torch.full_like(ratio, -1.0)
    signs = torch.tensor(advantages, dtype=torch.float64)
    return Inputs(old + ratio, old, signs, torch.ones_like(ratio))


def loop_loss(name: str, inputs: Inputs, frozen: Tensor | None = None, **params) -> float:
    """The loss of objective ``name``, token by token.

    ``frozen`` holds the log-probabilities behind a stop-gradient (the weights of CISPO, VESPO, MASPO and
    DGPO); by default the current ones. Passing them lets finite differences see the gradient that
    autograd takes.
    """
    logprobs, old, advantages, mask = (t.tolist() for t in inputs)
    held = logprobs if frozen is None else frozen.tolist()
    sequences, token_sum, token_count = [], 0.0, 0
    for i, advantage in enumerate(advantages):
        places = [t for t in range(len(mask[i])) if mask[i][t]]
        terms, log_ratios = [], []
        for t in places:
            log_ratio = logprobs[i][t] - old[i][t]
            ratio, held_ratio = math.exp(log_ratio), math.exp(held[i][t] - old[i][t])
            if name in ("grpo", "dr_grpo", "dapo"):
                terms.append(_ppo(ratio, advantage, **params))
            elif name == "cispo":
                terms.append(
                    min(held_ratio, 1.0 + params["clip_high"]) * advantage * logprobs[i][t]
                )
            elif name == "vespo":
                moved = [held[i][u] - old[i][u] for u in places]
                terms.append(_vespo(moved, advantage, **params) * advantage * logprobs[i][t])
            elif name == "maspo":
                gate = _maspo(held_ratio, math.exp(old[i][t]), advantage, **params)
                terms.append(advantage * ratio * gate)
            elif name == "dgpo":
                terms.append(advantage * ratio * _dgpo(held_ratio, advantage, **params))
            elif name == "gmpo":
                c = params["clip"]
                log_ratios.append(min(log_ratio, c) if advantage > 0 else max(log_ratio, -c))
            elif name in ("gspo", "luspo"):
                log_ratios.append(log_ratio)
            elif name in ("sapo", "sspo"):
                terms.append(token_gate(params, ratio, advantage > 0))
        n = len(places)
        if name == "dr_grpo":
            sequences.append(sum(terms) / params["max_response_tokens"])
        elif name == "grpo":
            sequences.append(sum(terms) / n)
        elif name == "gspo":
            sequences.append(_ppo(math.exp(sum(log_ratios) / n), advantage, **params))
        elif name == "luspo":
            sequences.append(_ppo(math.exp(sum(log_ratios) / n), advantage, **params) * n)
        elif name == "gmpo":
            # The geometric mean as a root of a product, not as the exponential of a mean.
            sequences.append(advantage * math.prod(map(math.exp, log_ratios)) ** (1.0 / n))
        elif name in ("sapo", "sspo"):
            sequences.append(advantage * _gate_mean(name, terms, params))
        token_sum += sum(terms)
        token_count += n
    if name in TOKEN_MEANS:
        return -token_sum / token_count
    return -sum(sequences) / len(sequences)


def _gate_mean(name: str, values: list[float], params: dict) -> float:
    """SAPO's arithmetic mean of gates, SSPO's geometric one, or the power mean between and beyond them."""
    power = 1.0 if name == "sapo" else params.get("power", 0.0)
    if power == 0.0:
        return math.prod(values) ** (1.0 / len(values))
    return (sum(v**power for v in values) / len(values)) ** (1.0 / power)


def _vespo(log_ratios: list[float], advantage: float, **params: float) -> float:
    """phi(W), with the bounds that TRL has on every l and on log W."""
    side = "neg" if advantage < 0 else "pos"
    k, decay = params[f"k_{side}"], params[f"lambda_{side}"]
    log_w = sum(max(-20.0, min(20.0, x)) for x in log_ratios)
    w = math.exp(max(math.log(1e-8), min(20.0, log_w)))
    return math.exp(decay) * w**k * math.exp(-decay * w)


def _maspo(ratio: float, old_probability: float, advantage: float, **params: float) -> float:
    """The gate of one token: 1 unless it has moved as its advantage asks."""
    if (ratio - 1.0) * advantage <= 0.0:
        return 1.0
    width = params["sigma"] / old_probability ** params["alpha"]
    width = max(params["sigma"], min(params["sigma_high"], width))
    factor = (
        1.0 + params["beta"] * advantage
        if advantage > 0.0
        else 1.0 / (1.0 - params["beta"] * advantage)
    )
    width *= max(params["advantage_low"], min(params["advantage_high"], factor))
    return math.exp(-((ratio - 1.0) ** 2) / (2.0 * width**2))


def _dgpo(ratio: float, advantage: float, **params: float) -> float:
    """The decay of one token: 1 inside the bounds and where PPO's min does not cut."""
    low, high = 1.0 - params["clip_low"], 1.0 + params["clip_high"]
    if advantage < 0.0 and ratio < low:
        return ratio ** params["n"] / low ** params["n"]
    if advantage > 0.0 and ratio > high:
        return ratio ** (-1.0 / params["m"]) * high ** (1.0 / params["m"])
    return 1.0


def _ppo(ratio: float, advantage: float, *, clip_low: float, clip_high: float, **_) -> float:
    low, high = 1.0 - clip_low, 1.0 + clip_high
    return min(ratio * advantage, max(low, min(high, ratio)) * advantage)


def loop_gradient(name: str, inputs: Inputs, step: float = 1e-6, **params) -> Tensor:
    """Central differences of ``loop_loss`` with respect to every log-probability."""
    grad = torch.zeros_like(inputs.logprobs)
    for i, t in inputs.mask.nonzero().tolist():
        sides = []
        for sign in (1.0, -1.0):
            moved = inputs.logprobs.clone()
            moved[i, t] += sign * step
            shifted = replace(inputs, logprobs=moved)
            sides.append(loop_loss(name, shifted, frozen=inputs.logprobs, **params))
        grad[i, t] = (sides[0] - sides[1]) / (2.0 * step)
    return grad


def loop_sequence_weight(name: str, inputs: Inputs, **params) -> list[float]:
    """A response's importance weight divided by its on-policy value."""
    logprobs, old, advantages, mask = (t.tolist() for t in inputs)
    weights = []
    for i, advantage in enumerate(advantages):
        places = [t for t in range(len(mask[i])) if mask[i][t]]
        log_ratios = [logprobs[i][t] - old[i][t] for t in places]
        ratios, n = [math.exp(x) for x in log_ratios], len(places)
        if name in ("grpo", "dr_grpo", "dapo"):
            weights.append(sum(ratios) / n)
        elif name == "cispo":
            weights.append(sum(min(r, 1.0 + params["clip_high"]) for r in ratios) / n)
        elif name == "vespo":
            weights.append(_vespo(log_ratios, advantage, **params))
        elif name == "maspo":
            masses = [math.exp(old[i][t]) for t in places]
            gates = [_maspo(r, p, advantage, **params) for r, p in zip(ratios, masses, strict=True)]
            weights.append(sum(r * g for r, g in zip(ratios, gates, strict=True)) / n)
        elif name == "dgpo":
            weights.append(sum(r * _dgpo(r, advantage, **params) for r in ratios) / n)
        elif name in ("gspo", "luspo"):
            weights.append(math.prod(ratios) ** (1.0 / n))
        elif name == "gmpo":
            c = params["clip"]
            one_sided = [min(x, c) if advantage > 0 else max(x, -c) for x in log_ratios]
            weights.append(math.exp(sum(one_sided) / n))
        else:
            at_1 = token_gate(params, 1.0, advantage > 0)
            values = [token_gate(params, r, advantage > 0) / at_1 for r in ratios]
            weights.append(_gate_mean(name, values, params))
    return weights
