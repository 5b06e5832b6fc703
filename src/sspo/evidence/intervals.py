"""Intervals over seeds and over problems.

Which one to use:

- a method trained with 3 to 5 seeds: ``mean_interval`` over the seeds' means, Student t. It speaks
  of new seeds on these same problems, not of new problems. A bootstrap over 3 seeds can draw only
  10 different means and takes their spread for known: its "95 %" interval covers the truth about
  three times in four (``tests/test_statistics.py`` measures it);
- two methods with paired seeds: ``paired_difference``, where what a seed does to both cancels;
- a single checkpoint: ``proportion_interval`` over its problems;
- ten seeds or more, on problems that stand for others: ``hierarchical_interval``, or
  ``stratified_interval`` over several splits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean over seeds and its Student t interval; not cut to the range of the values.

    It knows the spread of the values only: seeds that agree exactly get no width.

    Args:
        values: (n,), one number per seed.
        level: coverage.

    Returns:
        ``low`` and ``high`` are NaN for a single value: one seed says nothing about others.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    values = finite_values(values, dimensions=1)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, np.nan, np.nan)
    error = values.std(ddof=1) / np.sqrt(len(values))
    half = float(scipy.stats.t.ppf(0.5 + level / 2.0, len(values) - 1) * error)
    return Interval(mean, mean - half, mean + half)


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of a - b over paired seeds and its Student t interval.

    Args:
        a: (n,), one number per seed.
        b: (n,), the same seeds in the same order.
        level: coverage.

    Raises:
        ValueError: different lengths, no values, or one that is not finite.
    """
    a, b = finite_values(a, dimensions=1), finite_values(b, dimensions=1)
    if a.shape != b.shape:
        raise ValueError(f"paired values need the same seeds, got {len(a)} and {len(b)} values")
    return mean_interval(a - b, level)


def proportion_interval(
    scores: ArrayLike,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2_000,
) -> Interval:
    """Mean score of one checkpoint and its percentile bootstrap interval over problems.

    Where all scores are 0 (or all 1) a bootstrap has no width; the exact binomial bound
    1 - ((1 - level) / 2)^(1/n) takes its place, valid for any scores in [0, 1].

    Args:
        scores: (problems,), each in [0, 1]: 0 or 1, or a share of correct samples.
        generator: source of the resamples.
        level: coverage.
        resamples: bootstrap resamples.

    Raises:
        ValueError: no scores, or one outside [0, 1].
    """
    scores = finite_values(scores, dimensions=1)
    if scores.min() < 0.0 or scores.max() > 1.0:
        raise ValueError(f"scores must lie in [0, 1], got {scores.min()} to {scores.max()}")
    mean, tail = float(scores.mean()), (1.0 - level) / 2.0
    bound = 1.0 - tail ** (1.0 / len(scores))
    if mean == 0.0:
        return Interval(mean, 0.0, bound)
    if mean == 1.0:
        return Interval(mean, 1.0 - bound, mean)
    drawn = generator.integers(len(scores), size=(resamples, len(scores)))
    return percentile_interval(mean, scores[drawn].mean(axis=1), level)


def hierarchical_interval(
    scores: ArrayLike,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2_000,
) -> Interval:
    """Mean score over new seeds and new problems: a two-level percentile bootstrap.

    Seeds are resampled first, then problems; every seed answered the same problems, so one draw of
    problems serves all seeds of a resample. Where seeds differ more than problems explain, it is
    too narrow below about ten seeds (see the module).

    Args:
        scores: (seeds, problems).
        generator: source of the resamples.
        level: coverage.
        resamples: bootstrap resamples.

    Raises:
        ValueError: fewer than two seeds, no problems, or a score that is not finite.
    """
    scores = finite_values(scores, dimensions=2)
    seeds, problems = scores.shape
    if seeds < 2:
        raise ValueError("one seed has no spread between seeds; use proportion_interval")
    # How often each seed and each problem was drawn: (resamples, seeds), (resamples, problems).
    of_seeds = generator.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=resamples)
    of_problems = generator.multinomial(problems, np.full(problems, 1.0 / problems), size=resamples)
    means = ((of_seeds @ scores) * of_problems).sum(axis=1) / scores.size
    return percentile_interval(float(scores.mean()), means, level)


def interquartile_mean(values: ArrayLike, axis: int = -1) -> NDArray[np.float64]:
    """Mean of the middle half along an axis: a quarter, rounded down, is cut off at either end.

    Less moved by one collapsed run than the mean, less noisy than the median (arXiv 2108.13264).

    Args:
        values: any shape.
        axis: the axis that is reduced.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    return scipy.stats.trim_mean(finite_values(values, np.ndim(values)), 0.25, axis=axis)


def stratified_interval(
    strata: Sequence[ArrayLike],
    generator: np.random.Generator,
    statistic: Callable[..., NDArray[np.float64]] = interquartile_mean,
    level: float = 0.95,
    resamples: int = 2_000,
) -> Interval:
    """A statistic of one method over seeds and splits: a stratified percentile bootstrap.

    Every resample draws seeds, one draw for all splits because one model answered them all, and
    within every split as many problems as it has. The statistic is that of the seeds x splits
    accuracies. Too narrow below about ten seeds, like ``hierarchical_interval``.

    Args:
        strata: per split (seeds, problems), the same seeds in the same order.
        generator: source of the resamples.
        statistic: reduces the axis ``axis``, as ``interquartile_mean`` or ``numpy.mean`` do.
        level: coverage.
        resamples: bootstrap resamples.

    Returns:
        ``mean`` is the statistic of the scores as they are.

    Raises:
        ValueError: no splits, fewer than two seeds, splits of other seeds, or scores not finite.
    """
    splits = [finite_values(scores, dimensions=2) for scores in strata]
    counts = {len(scores) for scores in splits}
    if len(counts) != 1:
        raise ValueError(f"every split needs the same seeds, got {sorted(counts)} of them")
    seeds = counts.pop()
    if seeds < 2:
        raise ValueError("one seed has no spread between seeds; use proportion_interval")
    drawn = generator.integers(seeds, size=(resamples, seeds))
    accuracies = []
    for scores in splits:
        problems = scores.shape[1]
        often = generator.multinomial(problems, np.full(problems, 1.0 / problems), size=resamples)
        accuracies.append(np.take_along_axis(often @ scores.T / problems, drawn, axis=1))
    point = statistic(np.concatenate([scores.mean(axis=1) for scores in splits]), axis=-1)
    resampled = statistic(np.concatenate(accuracies, axis=1), axis=1)
    return percentile_interval(float(point), resampled, level)


def percentile_interval(mean: float, resampled: NDArray[np.float64], level: float) -> Interval:
    """The quantiles of a bootstrap around an estimate."""
    low, high = np.quantile(resampled, [0.5 - level / 2.0, 0.5 + level / 2.0])
    return Interval(mean, float(low), float(high))


def finite_values(values: ArrayLike, dimensions: int) -> NDArray[np.float64]:
    """The values as floats; a missing seed is the caller's to handle, never dropped here."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"expected a non-empty array of {dimensions} axes, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite; leave out or explain missing ones first")
    return array
