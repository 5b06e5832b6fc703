"""Intervals over seeds and over problems.

Which one to use:

- A method trained with 3 to 5 seeds: ``mean_interval`` over the seeds' means (Student t). It speaks of
  new seeds on the same problems. A bootstrap would be wrong here: over 3 seeds it can draw only 10
  different means, and its "95 %" interval covers the truth about three times in four.
- Two methods with paired seeds: ``mean_interval`` of the differences, where the effect that a seed has
  on both cancels.
- A single checkpoint: ``proportion_interval`` over its problems.
- Ten seeds or more, on problems that stand for others: ``hierarchical_interval``.
"""

from __future__ import annotations

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
    """Mean over seeds and its Student t interval, which is not cut to the range of the values.

    The spread of the values is all it knows, so seeds that agree exactly give an interval of no width.

    Args:
        values: (n,), one number per seed.
        level: coverage.

    Returns:
        ``low`` and ``high`` are NaN for a single value, because one seed says nothing about others.

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


def proportion_interval(
    scores: ArrayLike,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2_000,
) -> Interval:
    """Mean score of one checkpoint and its percentile bootstrap interval over problems.

    A bootstrap has no width where all scores are 0, or all 1. The exact binomial bound
    1 - ((1 - level) / 2)^(1/n) takes its place, which holds for any scores in [0, 1].

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

    Every seed answered the same problems, so one draw of problems serves all seeds of a resample. The
    interval is too narrow below about ten seeds, where seeds differ by more than problems explain.

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
    of_seeds = times_drawn(seeds, resamples, generator)
    of_problems = times_drawn(problems, resamples, generator)
    means = ((of_seeds @ scores) * of_problems).sum(axis=1) / scores.size
    return percentile_interval(float(scores.mean()), means, level)


def times_drawn(count: int, resamples: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(resamples, count): how often a bootstrap draws each of ``count`` items."""
    return generator.multinomial(count, np.full(count, 1.0 / count), size=resamples)


def percentile_interval(mean: float, resampled: NDArray[np.float64], level: float) -> Interval:
    """The quantiles of a bootstrap around an estimate."""
    low, high = np.quantile(resampled, [0.5 - level / 2.0, 0.5 + level / 2.0])
    return Interval(mean, float(low), float(high))


def finite_values(values: ArrayLike, dimensions: int) -> NDArray[np.float64]:
    """The values as float64; a missing one is refused and never dropped, since only the caller knows why.

    Raises:
        ValueError: another number of axes, no values, or one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"expected a non-empty array of {dimensions} axes, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("values must be finite; leave out or explain missing ones first")
    return array
