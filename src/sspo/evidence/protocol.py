"""What ``sspo.evidence.claims`` compares and what counts as evidence, fixed before the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from sspo.config.errors import ConfigError
from sspo.config.reading import from_dict
from sspo.evidence.measures import LearningConfig

CLAIM_TEXT = {
    "faster": "SSPO learns faster",
    "stabler": "SSPO trains more stably",
    "better": "SSPO ends better",
}
CLAIMS = tuple(CLAIM_TEXT)


@dataclass(frozen=True)
class Measure:
    """A column of the runs and what it speaks for.

    Attributes:
        name: the column; ``{split}_{metric}`` for a final score.
        claim: what it speaks for.
        primary: whether it decides the claim.
        higher_is_better: its direction.
        smallest_effect: the smallest gain that would matter, in the measure's units.
        test: "t" for means, "signed_rank" where only the order counts (censored times).
        censored: a column of 0 and 1 that is 0 where the value is only a bound, or None.
    """

    name: str
    claim: Literal["faster", "stabler", "better"]
    primary: bool
    higher_is_better: bool
    smallest_effect: float
    test: Literal["t", "signed_rank"]
    censored: str | None


@dataclass(frozen=True)
class Factorial:
    """The 2 x 2 that the paper's argument is about; SSPO's variants fill the sequence-soft cell."""

    token_hard: tuple[str, ...]
    token_soft: tuple[str, ...]
    sequence_hard: tuple[str, ...]


@dataclass(frozen=True)
class ClaimsPlan:
    """What is compared, and what counts as evidence.

    Attributes:
        sspo: methods that stand for SSPO.
        baselines: methods it is said to beat.
        remedies: methods of ours, compared with both without a say in the claims; may be none.
        measures: what is looked at.
        learning: how a run's measures are taken from its records.
        factorial: the cells of the 2 x 2.
        deciding_regimes: settings in which a claim is decided; verdicts in others are told beside it.
        level: of two-sided intervals; a verdict's error is (1 - level) / 2.
        multiplicity: "holm", or "none" for no adjustment.
        minimum_pairs: with fewer paired runs nothing is decided.
    """

    sspo: tuple[str, ...]
    baselines: tuple[str, ...]
    remedies: tuple[str, ...]
    measures: tuple[Measure, ...]
    learning: LearningConfig
    factorial: Factorial
    deciding_regimes: tuple[str, ...]
    level: float
    multiplicity: Literal["holm", "none"]
    minimum_pairs: int

    def __post_init__(self) -> None:
        names = [measure.name for measure in self.measures]
        both = sorted(set(self.sspo) & set(self.baselines))
        undecidable = [
            c for c in CLAIMS if not any(m.primary and m.claim == c for m in self.measures)
        ]
        negative = [m.name for m in self.measures if not 0.0 <= m.smallest_effect < math.inf]
        problems = {
            "sspo and baselines: name at least one method each": not (self.sspo and self.baselines),
            f"{', '.join(both)}: cannot be SSPO and its baseline; remove one": bool(both),
            "measures: a name stands twice; remove one": len(set(names)) < len(names),
            f"measures: {', '.join(undecidable)} without a primary measure; add one": bool(
                undecidable
            ),
            f"smallest_effect of {', '.join(negative)}: must be 0 or above": bool(negative),
            f"level = {self.level}: must lie between 0 and 1": not 0.0 < self.level < 1.0,
            f"minimum_pairs = {self.minimum_pairs}: must be at least 2": self.minimum_pairs < 2,
        }
        for problem, holds in problems.items():
            if holds:
                raise ConfigError(problem)


def check_scores(plan: ClaimsPlan, evaluation: Mapping[str, object], source: str) -> None:
    """Refuse an evaluation that lacks a final score that the plan looks at.

    Raises:
        ConfigError: names the file, the score and the keys to change.
    """
    metrics = [
        "greedy",
        *(f"{kind}@{k}" for k in evaluation["pass_at"] for kind in ("pass", "maj")),
    ]
    splits = [*evaluation["splits"], *evaluation.get("pools", {})]
    for measure in plan.measures:
        name = measure.name.removesuffix("_deviation")
        split, _, metric = name.partition("_")
        if metric.startswith(("pass@", "maj@", "greedy")) and not (
            split in splits and metric in metrics
        ):
            raise ConfigError(
                f"{source}: the claims need {name}; evaluation.splits or evaluation.pools must have "
                f"{split!r}, and evaluation.pass_at the number of {metric}"
            )


def load_plan(path: str | Path) -> ClaimsPlan:
    """Read a plan from YAML or JSON.

    Raises:
        ConfigError: not a plan; the message names file, key and fix.
    """
    try:
        return from_dict(ClaimsPlan, yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (ConfigError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
