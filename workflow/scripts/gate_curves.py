"""What every method makes of one token's ratio, for figure F1.

Measured on the objectives themselves: one token of a response of 32 tokens (the default has 25 to 40 in the
mean) moves away from the rollout policy, the others stay on-policy.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

from sspo.config.reading import load_json
from sspo.objectives.losses import LOSSES, token_coefficients
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import run

RATIOS = torch.logspace(-3, 3, 241, base=2.0, dtype=torch.float64)
TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="+", type=Path, required=True, help="a run per method")
    parser.add_argument("--output", type=Path, required=True, help="CSV to write")
    arguments = parser.parse_args()
    rows = []
    for config in map(load_json, arguments.configs):
        for sign, advantage in (("A > 0", 1.0), ("A < 0", -1.0)):
            value, coefficient = curve(config["objective"], advantage)
            columns = zip(RATIOS.tolist(), value.tolist(), coefficient.tolist(), strict=True)
            rows += [(config["method"], sign, *row) for row in columns]
    names = ["method", "sign", "ratio", "value", "coefficient"]
    pd.DataFrame(rows, columns=names).to_csv(arguments.output, index=False)
    write_record(
        arguments.output.with_suffix(".provenance.json"),
        __file__,
        inputs=arguments.configs,
        outputs=[arguments.output],
    )


def curve(objective: dict, advantage: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and gradient coefficient at every ratio of ``RATIOS``, both 1 on-policy.

    The coefficient is the token's gradient relative to on-policy; the value is its integral over
    log r, the token's contribution to the objective in units of A / n. For GRPO it is the clipped
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
    return _integrate(coefficient), coefficient


def _integrate(coefficient: torch.Tensor) -> torch.Tensor:
    area = torch.cumulative_trapezoid(coefficient, RATIOS.log())
    area = torch.cat([area.new_zeros(1), area])
    return 1.0 + area - area[len(RATIOS) // 2]


if __name__ == "__main__":
    run(main)
