"""What every method makes of one token's ratio, and what a temperature does to SSPO's gates, for figure F1.

Both are measured on the objectives themselves. For the methods one token of a response of 32 tokens (the
default has 25 to 40 in the mean) moves away from the rollout policy, the others stay on-policy.
"""

import argparse
import math
from pathlib import Path

import pandas as pd
import torch

from sspo.config.reading import load_json
from sspo.objectives.losses import LOSSES, token_coefficients
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import run

RATIOS = torch.logspace(-3, 3, 241, base=2.0, dtype=torch.float64)
TOKENS = 32
GATES = ("sigmoid", "log_arctan")
TEMPERATURES = torch.logspace(-1, 3, 33, base=2.0, dtype=torch.float64)
STEP = 1e-4  # nats, for differences at r = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="+", type=Path, required=True, help="a run per method")
    parser.add_argument("--output", type=Path, required=True, help="CSV of the curves to write")
    parser.add_argument("--facts", type=Path, required=True, help="CSV of the gates to write")
    arguments = parser.parse_args()
    rows = []
    for config in map(load_json, arguments.configs):
        for sign, advantage in (("A > 0", 1.0), ("A < 0", -1.0)):
            value, coefficient = curve(config["objective"], advantage)
            columns = zip(RATIOS.tolist(), value.tolist(), coefficient.tolist(), strict=True)
            rows += [(config["method"], sign, *row) for row in columns]
    names = ["method", "sign", "ratio", "value", "coefficient"]
    pd.DataFrame(rows, columns=names).to_csv(arguments.output, index=False)
    gate_facts().to_csv(arguments.facts, index=False)
    write_record(
        arguments.output.with_suffix(".provenance.json"),
        __file__,
        inputs=arguments.configs,
        outputs=[arguments.output, arguments.facts],
    )


def curve(objective: dict, advantage: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and gradient coefficient at every ratio of ``RATIOS``, both 1 on-policy.

    The coefficient is the token's gradient relative to its own on-policy one. The value is its integral
    over log r, the token's contribution to the objective in units of A / n. For GRPO it is the clipped
    ratio, for SAPO the gate up to a constant, for geometric means 1 + log f(r) / f(1).
    """
    rows = len(RATIOS)
    logprobs = torch.zeros(rows, TOKENS, dtype=torch.float64)
    logprobs[:, 0] = RATIOS.log()
    logprobs.requires_grad_()
    advantages = torch.full((rows,), advantage, dtype=torch.float64)
    mask = torch.ones_like(logprobs)
    old = torch.zeros_like(mask)
    objective_function = LOSSES[objective["name"]]
    loss, _ = objective_function(logprobs, old, advantages, mask, **objective["params"])
    (grad,) = torch.autograd.grad(loss * rows, logprobs)
    coefficient = token_coefficients(grad, advantages, mask)[:, 0]
    coefficient = coefficient / coefficient[len(RATIOS) // 2]  # Dr. GRPO's and LUSPO's are not 1
    return _integrate(coefficient), coefficient


def gate_facts() -> pd.DataFrame:
    """What a temperature does to SSPO's gates, measured where a response has a negative advantage.

    Returns:
        A row per gate and tau: ``exponent`` of the normalised sequence weight in s = exp(mean_t l), and
        ``slope``, d log w / d l of a token's weight w, both at r = 1; ``left``, w at l = -1 over w at 0.
    """
    rows = []
    for gate in GATES:
        for tau in TEMPERATURES.tolist():
            up, down, far = (_moved(gate, tau, x) for x in (STEP, -STEP, -1.0))
            exponent, slope = (
                math.log(above / below) / (2.0 * STEP)
                for above, below in zip(up, down, strict=True)
            )
            rows.append((gate, tau, exponent, slope, far[1]))
    return pd.DataFrame(rows, columns=["gate", "tau", "exponent", "slope", "left"])


def _moved(gate: str, tau: float, log_ratio: float) -> tuple[float, float]:
    """(sequence weight of a response that moved as a whole, weight of a token that moved alone).

    The second one is relative to the other token of its response, which cancels the response's own weight.
    """
    rows = [[log_ratio, log_ratio], [log_ratio, 0.0]]
    logprobs = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    mask, advantages = torch.ones_like(logprobs), -torch.ones(2, dtype=torch.float64)
    params = {"gate": gate, "tau_pos": tau, "tau_neg": tau}
    loss, stats = LOSSES["sspo"](logprobs, torch.zeros_like(mask), advantages, mask, **params)
    (grad,) = torch.autograd.grad(loss, logprobs)
    return stats["sequence_weight"][0].item(), (grad[1, 0] / grad[1, 1]).item()


def _integrate(coefficient: torch.Tensor) -> torch.Tensor:
    area = torch.cumulative_trapezoid(coefficient, RATIOS.log())
    area = torch.cat([area.new_zeros(1), area])
    return 1.0 + area - area[len(RATIOS) // 2]


if __name__ == "__main__":
    run(main)
