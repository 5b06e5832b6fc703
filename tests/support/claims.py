"""A small plan of claims and runs whose true differences are known."""

import numpy as np
import pandas as pd

from sspo.evidence.claims import compare, overall
from sspo.evidence.protocol import CLAIMS, Factorial, Measure, load_protocol
from support.paths import CLAIMS_PLAN


def measure(name: str, claim: str, **changes) -> Measure:
    found = Measure(
        name=name,
        claim=claim,
        primary=True,
        higher_is_better=True,
        smallest_effect=0.02,
        test="t",
        censored=None,
    )
    return found.changed(**changes)


AREA = measure("area", "faster")


DRAWDOWN = measure("drawdown", "stabler", higher_is_better=False)


FINAL = measure("test_pass@1", "better")


PASS_AT_8 = measure("test_pass@8", "explores")


DECADES = measure("weight_decades", "calmer", higher_is_better=False)


FURTHER = (PASS_AT_8, DECADES)  # of the claims that few tests are about


PLAN = load_protocol(CLAIMS_PLAN).changed(
    sspo=("sspo",),
    baselines=("grpo", "gspo"),
    measures=(AREA, DRAWDOWN, FINAL, *FURTHER),
    factorial=Factorial(token_hard=("grpo",), token_soft=("sapo",), sequence_hard=("gspo", "gmpo")),
    deciding_regimes={"the experiment": ("fresh",)},
)


METHODS = ("grpo", "gspo", "gmpo", "sapo", "sspo", "sspo_arctan")


COLUMNS = ("area", "drawdown", "test_pass@1", "test_pass@8", "weight_decades")


def make_runs(
    gain: dict[str, float] | None = None,
    seeds: int = 6,
    noise: float = 0.01,
    rng: int | np.random.Generator = 0,
    regimes: tuple[str, ...] = ("fresh",),
    bases: tuple[str, ...] = ("b0",),
) -> pd.DataFrame:
    """Runs around 0.5 in every measure; ``gain`` is how much better (not higher) a method is."""
    rng = np.random.default_rng(rng)
    rows = []
    for regime in regimes:
        for base in bases:
            for seed in range(seeds):
                shared = rng.normal(0.0, 0.2, len(COLUMNS))
                for method in METHODS:
                    good = (gain or {}).get(method, 0.0) + rng.normal(0.0, noise, len(COLUMNS))
                    row = dict(zip(COLUMNS, 0.5 + shared + good * [1, -1, 1, 1, -1], strict=True))
                    row |= {"method": method, "regime": regime, "base": base, "seed": seed}
                    rows.append({"run": f"{method}-s{seed}", **row})
    return pd.DataFrame(rows)


def verdicts(plan, runs) -> dict[str, str]:
    return {claim: found["verdict"] for claim, found in overall(plan, compare(plan, runs)).items()}


def all_claims(verdict: str) -> dict[str, str]:
    return dict.fromkeys(CLAIMS, verdict)
