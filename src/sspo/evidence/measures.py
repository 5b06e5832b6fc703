"""What one run says about speed, stability and quality, from its ``metrics.jsonl`` records.

Speed. Validation accuracy is read against sampled tokens, the cost that all methods share, up to a
``budget`` that every compared run has spent. ``area`` is the area under this curve, which is the mean
accuracy over the budget. ``tokens_to_target`` interpolates between validations. A run that never reaches
the target is censored: its time is None, ``reached`` is 0, and ``tokens_to_target_capped`` is the
budget, which understates how slow it was. Capped times must therefore be compared by rank.

Stability. ``drawdown`` is the largest fall of accuracy below its running best. A run has ``collapsed``
if it ends below half of its own best, which validation noise cannot cause, or below the base model by
more than a margin, which means that training did harm. ``spike_share`` is the share of steps whose largest
gradient norm exceeds k times the median of the steps before. The spread over seeds is measured by
``sspo.evidence.claims.add_spread``.

Saturation. ``late_rise`` says how much the second half of training still added.

Quality. ``final_accuracy`` is the last validation; ``final_scores`` are those of the final evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sspo.config.reading import JsonDict, Section, setting
from sspo.evidence.intervals import finite_values

if TYPE_CHECKING:  # Snakemake comes through here, and pandas takes its time
    from pandas import DataFrame

Measures = dict[str, float | None]


class LearningConfig(Section):
    """How runs are measured."""

    accuracy: str = setting("key of the validation accuracy, such as pass@1")
    target: float = setting("accuracy that a run has to reach; the tokens until then are measured")
    collapse_share: float = setting(
        "a final accuracy below this share of the run's best is a collapse"
    )
    collapse_margin: float = setting(
        "a final accuracy below the base model's by more than this is a collapse, too"
    )
    spike_factor: float = setting(
        "a gradient norm above this many times the median before it is a spike"
    )
    spike_window: int = setting("how many steps before a step that median runs over")


@dataclass(frozen=True)
class AccuracyCurve:
    """A run's validations in order: sampled tokens and accuracy, (validations,) each."""

    tokens: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def accuracy_curve(records: Sequence[JsonDict], key: str) -> AccuracyCurve:
    """The validations of a run: the records that have ``key``.

    Raises:
        ValueError: fewer than two validations, a number that is not finite, or tokens that do not grow.
    """
    validated = [record for record in records if record.get(key) is not None]
    if len(validated) < 2:
        raise ValueError(f"{len(validated)} records with {key!r}; a curve needs two validations")
    tokens = finite_values([record["sampled_tokens"] for record in validated], dimensions=1)
    accuracy = finite_values([record[key] for record in validated], dimensions=1)
    if (np.diff(tokens) <= 0.0).any():
        raise ValueError("sampled_tokens must grow from one validation to the next")
    return AccuracyCurve(tokens, accuracy)


def cut_at(curve: AccuracyCurve, budget: float) -> AccuracyCurve:
    """The curve up to ``budget`` sampled tokens, its end interpolated between two validations.

    Raises:
        ValueError: the budget lies outside what the run has spent.
    """
    first, last = curve.tokens[0], curve.tokens[-1]
    if not first < budget <= last:
        raise ValueError(
            f"budget = {budget:g} must lie above {first:g} and within the {last:g} tokens that the run "
            "sampled; take the smallest total of the compared runs"
        )
    before = curve.tokens < budget
    end = np.interp(budget, curve.tokens, curve.accuracy)
    tokens, accuracy = curve.tokens[before], curve.accuracy[before]
    return AccuracyCurve(np.append(tokens, budget), np.append(accuracy, end))


def tokens_to_target(curve: AccuracyCurve, target: float) -> float | None:
    """Sampled tokens when the accuracy first reaches ``target``; None if it never does."""
    reached = np.flatnonzero(curve.accuracy >= target)
    if not reached.size:
        return None
    i = int(reached[0])
    if i == 0:
        return float(curve.tokens[0])
    low, high = curve.accuracy[i - 1], curve.accuracy[i]
    share = (target - low) / (high - low)
    return float(curve.tokens[i - 1] + share * (curve.tokens[i] - curve.tokens[i - 1]))


def area_under_curve(curve: AccuracyCurve) -> float:
    """Mean accuracy over the sampled tokens of the curve, by trapezoids."""
    spent = curve.tokens[-1] - curve.tokens[0]
    return float(np.trapezoid(curve.accuracy, curve.tokens) / spent)


def worst_drawdown(accuracy: ArrayLike) -> float:
    """The largest fall below the best so far, as a share of problems; 0 for a curve that only rises."""
    accuracy = finite_values(accuracy, dimensions=1)
    return float((np.maximum.accumulate(accuracy) - accuracy).max())


def collapsed(accuracy: ArrayLike, config: LearningConfig) -> bool:
    """Whether training ended in a collapse (see the module); the first accuracy is the base model's."""
    accuracy = finite_values(accuracy, dimensions=1)
    base, best, final = accuracy[0], accuracy.max(), accuracy[-1]
    return bool(final < config.collapse_share * best or final < base - config.collapse_margin)


def late_rise(accuracy: ArrayLike) -> float:
    """Accuracy in the last quarter of the validations minus that in the quarter around the middle."""
    accuracy = finite_values(accuracy, dimensions=1)
    count = len(accuracy)
    quarter = max(1, count // 4)
    middle = (count - quarter) // 2
    return float(accuracy[-quarter:].mean() - accuracy[middle : middle + quarter].mean())


def spike_share(norms: ArrayLike, factor: float, window: int) -> float:
    """Share of steps whose gradient norm exceeds ``factor`` times the median of those before.

    The median runs over the ``window`` steps before a step, without the step itself, so that a spike
    does not raise its own measure. The first ``window`` steps are not judged.

    Args:
        norms: (steps,), such as ``grad_norm_max``.
        factor: k.
        window: steps of the median.

    Raises:
        ValueError: not more steps than the window has, or a norm that is not finite.
    """
    norms = finite_values(norms, dimensions=1)
    if len(norms) <= window:
        raise ValueError(f"{len(norms)} gradient norms; a window of {window} steps needs more")
    before = np.lib.stride_tricks.sliding_window_view(norms[:-1], window)
    return float((norms[window:] > factor * np.median(before, axis=1)).mean())


def final_scores(rows: Sequence[JsonDict]) -> Measures:
    """``{split}_{metric}`` -> value, from a run's rows of ``evaluations.csv``.

    Raises:
        ValueError: a score occurs twice.
    """
    names = [f"{row['split']}_{row['metric']}" for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} is told twice; the rows belong to more than one run")
    return {name: float(row["value"]) for name, row in zip(names, rows, strict=True)}


def sampled_tokens(records: Sequence[JsonDict]) -> float:
    """Tokens that a run has sampled in all; the smallest number among compared runs is their budget."""
    return float(max(record["sampled_tokens"] for record in records))


def run_measures(records: Sequence[JsonDict], config: LearningConfig, budget: float) -> Measures:
    """Every measure of speed and stability of one run, and its last validation.

    Args:
        records: the run's ``metrics.jsonl``, with a validation before the first step.
        config: what to measure.
        budget: sampled tokens that every compared run has spent.

    Returns:
        ``tokens_to_target`` (None if not reached), ``tokens_to_target_capped``, ``reached`` (0 or 1),
        ``area``, ``drawdown``, ``collapsed`` (0 or 1), ``late_rise``, ``spike_share`` (None where a run
        has no more steps than the window), ``best_accuracy`` and ``final_accuracy``.

    Raises:
        ValueError: too few records, a number that is not finite, or a budget that the run has not spent.
    """
    whole = accuracy_curve(records, config.accuracy)
    spent = cut_at(whole, budget)
    tokens = tokens_to_target(spent, config.target)
    norms = _measured(records, "grad_norm_max")
    return {
        "tokens_to_target": tokens,
        "tokens_to_target_capped": budget if tokens is None else tokens,
        "reached": float(tokens is not None),
        "area": area_under_curve(spent),
        "drawdown": worst_drawdown(whole.accuracy),
        "collapsed": float(collapsed(whole.accuracy, config)),
        "late_rise": late_rise(whole.accuracy),
        "spike_share": (
            spike_share(norms, config.spike_factor, config.spike_window)
            if len(norms) > config.spike_window
            else None
        ),
        "best_accuracy": float(whole.accuracy.max()),
        "final_accuracy": float(whole.accuracy[-1]),
    }


def drift_measures(records: Sequence[JsonDict]) -> Measures:
    """How far a run's updates went from its rollouts (the dose), and where its policy ended.

    Args:
        records: the run's ``metrics.jsonl``.

    Returns:
        ``drift`` (root mean square log-ratio over all steps, nats), the means over steps of
        ``grpo_clip_share``, ``sequence_weight_distance``, ``sequence_weight_var`` and
        ``engine_logprob_gap_mean`` (``sspo.training.metrics``), ``weight_decades`` (the decimal logarithm
        of that variance), ``final_kl`` and ``final_entropy`` (nats per token, where last measured). None
        where never measured.
    """
    rms = np.array(_measured(records, "log_ratio_rms"))
    means = ("grpo_clip_share", "sequence_weight_distance", "sequence_weight_var",
             "engine_logprob_gap_mean")  # fmt: skip
    averages = {key: _average(records, key) for key in means}
    variance = averages["sequence_weight_var"]
    return {
        "drift": float(np.sqrt(np.mean(rms**2))) if rms.size else None,
        **averages,
        "weight_decades": math.log10(variance) if variance else None,
        "final_kl": _last(records, "kl"),
        "final_entropy": _last(records, "entropy"),
    }


def _average(records: Sequence[JsonDict], key: str) -> float | None:
    measured = _measured(records, key)
    return float(np.mean(measured)) if measured else None


def _last(records: Sequence[JsonDict], key: str) -> float | None:
    measured = _measured(records, key)
    return float(measured[-1]) if measured else None


def _measured(records: Sequence[JsonDict], key: str) -> list[float]:
    """The values of a key, without the steps at which it was not measured."""
    return [record[key] for record in records if record.get(key) is not None]


def add_spread(runs: DataFrame, column: str) -> DataFrame:
    """The runs with ``{column}_deviation``, each run's distance from its method's median over seeds.

    Its mean over seeds is a method's spread (Brown and Forsythe), so that spread compares like any
    other measure; NaN where a method has fewer than three seeds of a base and regime.
    """
    groups = runs.groupby(["method", "regime", "base"])[column]
    deviation = (runs[column] - groups.transform("median")).abs()
    return runs.assign(**{f"{column}_deviation": deviation.where(groups.transform("count") >= 3)})
