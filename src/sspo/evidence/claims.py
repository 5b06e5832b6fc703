"""The verdicts on what is claimed of SSPO, such as that it learns faster or ends better.

A protocol, written before the runs, says which methods stand for SSPO, which are its baselines, which
measure speaks for which claim, and how large a gain would matter. Everything else is computed.

A comparison takes one claim, measure, regime, SSPO variant and baseline. It looks at the differences over
paired runs, one pair per base model and seed, turned so that positive speaks for SSPO. With the smallest
effect of interest as margin it is

- a gain: the difference is above 0 beyond chance, and at least the margin;
- worse: it is below 0 beyond chance, and by at least the margin;
- no gain: it is above minus the margin and below the margin, both beyond chance. The two are as good as
  equal, and neither a gain nor a harm that would matter is left;
- undecided: none of these holds, or there are fewer than ``minimum_pairs`` pairs.

"Beyond chance" means a one-sided test at (1 - level) / 2. Its p-value is adjusted (Holm) over a family: all
comparisons of a claim's primary measures in the deciding regimes together, and in each other regime by
itself. Secondary measures are adjusted apart from them.

A claim says "than every baseline". For one SSPO variant it is a gain if every primary comparison of the
deciding regimes is, worse if any is, no gain if any is and none is worse, and else undecided. The same is
told for each kind of deciding regime and for every regime, which says how far the answer carries.
For SSPO as a whole a claim is a gain if it is for some variant; worse, or no gain, if no variant is left
that could have one; and else undecided. Secondary measures never decide.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike
from pandas import DataFrame, Series

from sspo.config.reading import JsonDict
from sspo.evidence.comparisons import holm, improvement_interval, signed_rank_p_value, t_p_value
from sspo.evidence.intervals import hierarchical_interval, mean_interval
from sspo.evidence.protocol import CLAIMS, Measure, Protocol

Verdict = Literal["gain", "no gain", "worse", "undecided"]

PAIR = ["base", "seed"]
P_VALUES = ("p_gain", "p_harm", "p_no_gain", "p_no_harm")
TESTS = {"t": t_p_value, "signed_rank": signed_rank_p_value}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One SSPO variant against one baseline; differences are positive where they speak for SSPO.

    Attributes:
        deciding: whether the claim is decided in this regime.
        n: paired runs.
        missing: runs of either method without a partner or without a value.
        effect: mean paired difference; ``low`` and ``high`` are its t interval at the protocol's level,
            ``wide_low`` and ``wide_high`` the one that holds for all comparisons of the family together.
        p_gain: adjusted p-value of the test that the difference is above 0; ``p_harm`` that it is below.
        p_no_gain: adjusted p-value of the test that it is below the smallest effect of interest;
            ``p_no_harm`` that it is above minus that.
        sspo_mean, baseline_mean: means over the paired runs, in the measure's own direction.
        chance: probability that a run of SSPO beats a run of the baseline; ``chance_low`` and
            ``chance_high`` are its interval.
        sspo_censored, baseline_censored: paired runs whose value is only a bound.
        by_base: effect by base model.
        problems: test problems of a final score; ``problems_low`` and ``problems_high`` are the effect's
            interval for new seeds and new problems (two-level bootstrap).
    """

    claim: str
    measure: str
    primary: bool
    regime: str
    deciding: bool
    sspo: str
    baseline: str
    n: int
    missing: int
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    wide_low: float | None = None
    wide_high: float | None = None
    smallest_effect: float
    p_gain: float = 1.0
    p_no_gain: float = 1.0
    p_harm: float = 1.0
    p_no_harm: float = 1.0
    verdict: Verdict = "undecided"
    sspo_mean: float | None = None
    baseline_mean: float | None = None
    chance: float | None = None
    chance_low: float | None = None
    chance_high: float | None = None
    sspo_censored: int = 0
    baseline_censored: int = 0
    by_base: dict[str, float] = field(default_factory=dict)
    problems: int = 0
    problems_low: float | None = None
    problems_high: float | None = None


def compare(
    protocol: Protocol, runs: DataFrame, scores: DataFrame | None = None
) -> list[Comparison]:
    """Every comparison of the protocol, with its verdict.

    Args:
        protocol: what to compare.
        runs: a row per run with method, seed, regime, base and a column per measure, which is NaN
            where a run has no value.
        scores: a row per run and problem of the final evaluation, with method, seed, regime, base, split,
            metric, problem and score.

    Raises:
        ValueError: a column is missing, or a run occurs twice.
    """
    check_runs(protocol, runs)
    found = [
        _compare_one(protocol, measure, runs[runs["regime"] == regime], (variant, baseline), scores)
        for measure in protocol.measures
        for regime in runs["regime"].unique()
        for variant in protocol.sspo
        for baseline in protocol.baselines
    ]
    if protocol.multiplicity == "holm":
        found = _adjusted(protocol, found)
    return [dataclasses.replace(c, verdict=decide(protocol, c)) for c in found]


def decide(protocol: Protocol, comparison: Comparison) -> Verdict:
    """The verdict on one comparison, by the rule in the module's docstring."""
    error = (1.0 - protocol.level) / 2.0
    if comparison.n < protocol.minimum_pairs or comparison.effect is None:
        return "undecided"
    if comparison.p_gain <= error and comparison.effect >= comparison.smallest_effect:
        return "gain"
    if comparison.p_harm <= error and comparison.effect <= -comparison.smallest_effect:
        return "worse"
    if max(comparison.p_no_gain, comparison.p_no_harm) <= error:
        return "no gain"
    return "undecided"


def overall(protocol: Protocol, comparisons: Sequence[Comparison]) -> JsonDict:
    """Per claim its verdict, those by variant, kind and regime behind it, and counts of comparisons."""
    result = {}
    for claim in CLAIMS:
        chosen = [c for c in comparisons if c.claim == claim and c.primary]
        variants = {v: [c for c in chosen if c.sspo == v] for v in protocol.sspo}
        deciding = {v: [c for c in rows if c.deciding] for v, rows in variants.items()}
        by_variant = {v: every_baseline(c.verdict for c in rows) for v, rows in deciding.items()}
        by_kind = {
            v: {
                kind: every_baseline(c.verdict for c in rows if c.regime in regimes)
                for kind, regimes in protocol.deciding_regimes.items()
            }
            for v, rows in variants.items()
        }
        by_regime = {
            v: {
                regime: every_baseline(c.verdict for c in rows if c.regime == regime)
                for regime in dict.fromkeys(c.regime for c in rows)
            }
            for v, rows in variants.items()
        }
        result[claim] = {
            "verdict": some_variant(by_variant.values()),
            "by_variant": by_variant,
            "by_kind": by_kind,
            "by_regime": by_regime,
            "counts": {v: dict(Counter(c.verdict for c in rows)) for v, rows in deciding.items()},
        }
    return result


def every_baseline(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on "than every baseline": a gain if all are, else the worst that is known of any."""
    found = set(verdicts)
    if found == {"gain"}:
        return "gain"
    known: list[Verdict] = ["worse", "no gain"]
    return next((verdict for verdict in known if verdict in found), "undecided")


def some_variant(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on "for some variant": a gain if any is, and none only if none is undecided."""
    found = set(verdicts)
    best: list[Verdict] = ["gain", "undecided", "no gain", "worse"]
    return next((verdict for verdict in best if verdict in found), "undecided")


def paired_values(runs: DataFrame, column: str, methods: Sequence[str]) -> DataFrame:
    """One measure by base and seed, a column per method; NaN where a run or its value is missing."""
    chosen = runs[runs["method"].isin(methods)]
    return chosen.pivot(index=PAIR, columns="method", values=column).reindex(columns=list(methods))


def check_runs(protocol: Protocol, runs: DataFrame) -> None:
    """Refuse a frame that lacks a column or holds a run twice.

    Raises:
        ValueError: the message names the column or the run.
    """
    censored = [m.censored for m in protocol.measures if m.censored]
    for column in ("method", "regime", *PAIR, *(m.name for m in protocol.measures), *censored):
        if column not in runs:
            raise ValueError(
                f"runs have no column {column!r}; measure it or take it out of the protocol"
            )
    key = ["method", "regime", *PAIR]
    if runs.duplicated(key).any():
        twice = runs.loc[runs.duplicated(key), key].iloc[0].to_dict()
        raise ValueError(f"run {twice} stands twice; remove one")


def effect_interval(differences: ArrayLike, level: float) -> dict[str, float | None]:
    """The mean of paired differences and its t interval, for JSON.

    Returns:
        ``effect``, ``low`` and ``high``; None for what too few pairs cannot tell.
    """
    size = np.size(differences)
    found = mean_interval(differences, level) if size else (math.nan,) * 3
    return dict(zip(("effect", "low", "high"), map(_number, found), strict=True))


def _compare_one(
    protocol: Protocol,
    measure: Measure,
    runs: DataFrame,
    methods: tuple[str, str],
    scores: DataFrame | None,
) -> Comparison:
    """The evidence in the runs of one regime, not adjusted and without its verdict."""
    chosen = runs[runs["method"].isin(methods)]
    pairs = paired_values(runs, measure.name, methods).dropna()
    regime = runs["regime"].iloc[0]
    return Comparison(
        claim=measure.claim,
        measure=measure.name,
        primary=measure.primary,
        regime=str(regime),
        deciding=regime in protocol.deciding,
        sspo=methods[0],
        baseline=methods[1],
        n=len(pairs),
        missing=len(chosen) - 2 * len(pairs),
        smallest_effect=measure.smallest_effect,
        **_difference(protocol, measure, pairs),
        **_censored(measure, chosen, methods, pairs),
        **_over_problems(protocol, measure, scores, regime, methods),
    )


def _difference(protocol: Protocol, measure: Measure, pairs: DataFrame) -> JsonDict:
    """Effect, interval, tests and chance from paired values, a column per method."""
    if pairs.empty:
        return {}
    ours, theirs = (measure.sign * pairs.to_numpy(dtype=float)).T
    differences, test = ours - theirs, TESTS[measure.test]
    chance = improvement_interval(ours, theirs, np.random.default_rng(0), protocol.level)
    by_base = Series(differences, index=pairs.index).groupby(level="base").mean()
    return {
        **effect_interval(differences, protocol.level),
        "sspo_mean": _number(measure.sign * ours.mean()),
        "baseline_mean": _number(measure.sign * theirs.mean()),
        "chance": chance.mean,
        "chance_low": chance.low,
        "chance_high": chance.high,
        "p_gain": test(differences),
        "p_harm": test(-differences),
        "p_no_gain": test(-differences, above=-measure.smallest_effect),
        "p_no_harm": test(differences, above=-measure.smallest_effect),
        "by_base": {str(base): float(effect) for base, effect in by_base.items()},
    }


def _censored(
    measure: Measure, runs: DataFrame, methods: tuple[str, str], pairs: DataFrame
) -> JsonDict:
    """How many of the paired values are only bounds."""
    if measure.censored is None:
        return {}
    known = paired_values(runs, measure.censored, methods).loc[pairs.index]
    ours, theirs = ((known[method] == 0).sum() for method in methods)
    return {"sspo_censored": int(ours), "baseline_censored": int(theirs)}


def _over_problems(
    protocol: Protocol,
    measure: Measure,
    scores: DataFrame | None,
    regime: object,
    methods: tuple[str, str],
) -> JsonDict:
    """The effect's interval for new seeds and new problems, where problems were scored one by one."""
    if scores is None:
        return {}
    name = scores["split"] + "_" + scores["metric"]
    chosen = scores[(name == measure.name) & (scores["regime"] == regime)]
    table = chosen.pivot(index=PAIR, columns=["method", "problem"], values="score")
    if not set(methods) <= set(table.columns.get_level_values("method")):
        return {}
    differences = measure.sign * (table[methods[0]] - table[methods[1]]).dropna()
    if len(differences) < 2:
        return {}
    found = hierarchical_interval(differences, np.random.default_rng(0), protocol.level)
    problems = differences.shape[1]
    return {"problems": problems, "problems_low": found.low, "problems_high": found.high}


def _adjusted(protocol: Protocol, comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Holm's adjustment within each family, and intervals that hold for the whole family (Bonferroni)."""
    families: dict[tuple[object, ...], list[Comparison]] = defaultdict(list)
    for c in comparisons:
        regime = "" if c.deciding else c.regime
        families[c.claim, c.primary, regime].append(c)
    adjusted: dict[int, Comparison] = {}
    for family in families.values():
        columns = {name: holm([getattr(c, name) for c in family]) for name in P_VALUES}
        for i, c in enumerate(family):
            changes: JsonDict = {name: float(values[i]) for name, values in columns.items()}
            adjusted[id(c)] = dataclasses.replace(
                c, **changes, **_widened(c, protocol, len(family))
            )
    return [adjusted[id(c)] for c in comparisons]


def _widened(c: Comparison, protocol: Protocol, comparisons: int) -> JsonDict:
    """The t interval at the level that all of so many intervals hold together."""
    if c.effect is None or c.low is None:
        return {}
    usual, wide = (
        float(scipy.stats.t.ppf(0.5 + (1.0 - (1.0 - protocol.level) / count) / 2.0, c.n - 1))
        for count in (1, comparisons)
    )
    half = (c.effect - c.low) * wide / usual
    return {"wide_low": c.effect - half, "wide_high": c.effect + half}


def _number(value: float) -> float | None:
    """A number for JSON, which has no NaN: None stands for what a single run cannot tell."""
    # Adding 0.0 takes the sign off a zero.
    return float(value) + 0.0 if math.isfinite(value) else None
