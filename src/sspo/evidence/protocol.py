"""What ``sspo.evidence.claims`` compares and what counts as evidence, fixed before the runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from sspo.config.errors import ConfigError
from sspo.config.names import DECIDING
from sspo.config.reading import Section, parse, refuse, setting
from sspo.config.yaml_files import read_yaml
from sspo.evidence.measures import LearningConfig

CLAIM_TEXT = {
    "faster": "SSPO learns faster",
    "stabler": "SSPO trains more stably",
    "better": "SSPO ends better",
    "explores": "SSPO keeps more ways to the answer",
    "calmer": "SSPO's importance weights vary less",
}
CLAIMS = tuple(CLAIM_TEXT)
Claim = Literal["faster", "stabler", "better", "explores", "calmer"]


class Measure(Section):
    """A column of the runs, and the claim that it speaks for."""

    name: str = setting("the column; {split}_{metric} for a final score")
    claim: Claim = setting("the claim that it speaks for")
    primary: bool = setting("whether it decides the claim")
    higher_is_better: bool = setting("whether a higher value is better")
    smallest_effect: float = setting(
        "the smallest gain that would matter, in the measure's units", ge=0
    )
    test: Literal["t", "signed_rank"] = setting(
        "t for means, signed_rank where only the order counts (censored times)"
    )
    censored: str | None = setting(
        "a column of 0 and 1 that is 0 where the value is only a bound", default=None
    )

    @property
    def sign(self) -> float:
        """What turns a value so that higher is better: 1 or -1."""
        return 1.0 if self.higher_is_better else -1.0


class Factorial(Section):
    """The 2 x 2 that the paper's argument is about; SSPO's variants fill the sequence-soft cell."""

    token_hard: tuple[str, ...]
    token_soft: tuple[str, ...]
    sequence_hard: tuple[str, ...]


class Protocol(Section):
    """What is compared, and what counts as evidence."""

    sspo: tuple[str, ...] = setting("methods that stand for SSPO", min_length=1)
    baselines: tuple[str, ...] = setting("methods it is said to beat", min_length=1)
    remedies: tuple[str, ...] = setting(
        "methods of ours, compared with both but without a say in the claims; may be empty"
    )
    measures: tuple[Measure, ...] = setting("the measures that are compared")
    learning: LearningConfig
    factorial: Factorial
    deciding_regimes: dict[str, tuple[str, ...]] = setting(
        "regimes in which claims are decided, under a heading for each kind; the others get verdicts of "
        "their own",
        default=DECIDING,
    )
    level: float = setting(
        "coverage of two-sided intervals; a verdict errs with probability (1 - level) / 2",
        gt=0,
        lt=1,
    )
    multiplicity: Literal["holm", "none"] = setting("how p-values are adjusted for their number")
    minimum_pairs: int = setting("with fewer paired runs than this nothing is decided", ge=2)

    @property
    def deciding(self) -> list[str]:
        """The regimes in which claims are decided, of all kinds."""
        return [regime for regimes in self.deciding_regimes.values() for regime in regimes]

    @model_validator(mode="after")
    def _methods_and_measures_have_one_role(self) -> Self:
        if both := sorted({*self.sspo} & {*self.baselines}):
            raise refuse(f"{', '.join(both)}: cannot be SSPO and its baseline; remove one")
        names = [measure.name for measure in self.measures]
        if len({*names}) < len(names):
            raise refuse("measures: a name stands twice; remove one")
        decided = {measure.claim for measure in self.measures if measure.primary}
        if undecidable := [claim for claim in CLAIMS if claim not in decided]:
            raise refuse(f"measures: {', '.join(undecidable)} without a primary measure; add one")
        return self


def check_scores(protocol: Protocol, evaluation: Mapping[str, Any], source: str) -> None:
    """Refuse an evaluation that lacks a final score that the protocol looks at.

    Raises:
        ConfigError: a score is missing; the message names the file, the score and the keys to change.
    """
    metrics = [
        "greedy",
        *(f"{kind}@{k}" for k in evaluation["pass_at"] for kind in ("pass", "maj")),
    ]
    splits = [*evaluation["splits"], *evaluation.get("pools", {})]
    for measure in protocol.measures:
        name = measure.name.removesuffix("_deviation")
        split, _, metric = name.partition("_")
        if metric.startswith(("pass@", "maj@", "greedy")) and not (
            split in splits and metric in metrics
        ):
            raise ConfigError(
                f"{source}: the claims need {name}; evaluation.splits or evaluation.pools must have "
                f"{split!r}, and evaluation.pass_at the number of {metric}"
            )


def load_protocol(path: str | Path) -> Protocol:
    """Read a protocol from YAML or JSON.

    Raises:
        ConfigError: it is no valid protocol; the message names the file, the key and the fix.
    """
    return parse(Protocol, read_yaml(path), f"{path}: ")
