"""Two methods against each other over seeds: how sure a difference is, and many differences at once.

- Paired seeds: ``t_p_value`` tests the mean of the differences. ``signed_rank_p_value`` tests their
  ranks, for values of which only the order means something, such as times cut off at a budget. With n
  seeds it cannot fall below 2^-n: 5 seeds give 0.031, never 0.025.
- Unpaired runs: ``improvement_interval`` says how often a run of one method beats a run of the other.
- Many comparisons: ``holm`` adjusts their p-values.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from sspo.evidence.intervals import Interval, finite_values, percentile_interval, times_drawn


def improvement_interval(
    x: ArrayLike,
    y: ArrayLike,
    generator: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2_000,
) -> Interval:
    """P(X > Y) + P(X = Y) / 2 (arXiv 2108.13264), with a bootstrap interval over both methods' runs.

    A bootstrap has no width where every x beats every y, or none does. A bound takes its place: the runs
    form min(n, m) separate pairs, so a method that wins a pair with probability P wins all of them with
    probability P^min(n, m) at most, which rules out P below ((1 - level) / 2)^(1 / min(n, m)). For runs
    one standard deviation apart the interval covers 99, 96, 93 and 95 % with 3, 5, 8 and 25 runs a method.

    Args:
        x: (n,), one number per run.
        y: (m,).
        generator: source of the resamples.
        level: coverage.
        resamples: bootstrap resamples.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    x, y = finite_values(x, dimensions=1), finite_values(y, dimensions=1)
    wins = _wins(x, y)
    chance, bound = float(wins.mean()), ((1.0 - level) / 2.0) ** (1.0 / min(wins.shape))
    if chance == 1.0:
        return Interval(chance, bound, 1.0)
    if chance == 0.0:
        return Interval(chance, 0.0, 1.0 - bound)
    of_x = times_drawn(len(x), resamples, generator)
    of_y = times_drawn(len(y), resamples, generator)
    resampled = ((of_x @ wins) * of_y).sum(axis=1) / wins.size
    return percentile_interval(chance, resampled, level)


def t_p_value(values: ArrayLike, above: float = 0.0) -> float:
    """p-value of Student's one-sided t test that the mean over seeds is above ``above``.

    Seeds that agree exactly on a value v have no spread, so a t test does not apply. They are
    taken for differences of shares, within [-1, 1]. If the mean is at most ``above``, such values
    equal v with probability (1 + above) / (1 + v) at most, namely when all others are -1. The p-value is
    therefore ((1 + above) / (1 + v))^n, which is 2^-n for v = 1 against 0. Ten pairs without a collapse
    (v = 0) thus do not rule out that collapses are rarer by 0.1. A single seed gives 1.

    Args:
        values: (n,), one number per seed, such as paired differences.
        above: bound of the null hypothesis mean <= above.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    values = finite_values(values, dimensions=1)
    if len(values) < 2:
        return 1.0
    if np.ptp(values) == 0.0:
        apart = -1.0 <= above < values[0] <= 1.0
        return float(((1.0 + above) / (1.0 + values[0])) ** len(values)) if apart else 1.0
    return float(scipy.stats.ttest_1samp(values, above, alternative="greater").pvalue)


def signed_rank_p_value(values: ArrayLike, above: float = 0.0) -> float:
    """Exact p-value of Wilcoxon's one-sided signed-rank test that values lie above ``above``.

    Values equal to the bound are dropped, tied distances share their mean rank, and the null
    distribution is that of all 2^n signs. A single seed gives 0.5 at best.

    Args:
        values: (n,), one number per seed, such as paired differences.
        above: bound of the null hypothesis, under which values are symmetric around it or lower.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    distances = finite_values(values, dimensions=1) - above
    distances = distances[distances != 0.0]
    # Not scipy.stats.wilcoxon, whose exact distribution knows no ties. Mean ranks of ties are halves, so
    # ranks are doubled: sums of whole numbers can index the array of their probabilities.
    ranks = np.rint(2.0 * scipy.stats.rankdata(np.abs(distances))).astype(int)
    chance = np.ones(1)
    for rank in ranks:
        chance = 0.5 * (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0)))
    return float(chance[ranks[distances > 0.0].sum() :].sum())


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment, which keeps the chance of any false rejection among all at the level.

    The k-th smallest of m p-values is multiplied by m - k + 1, and raised to the ones before it if it
    falls below them. This is valid however the tests depend on each other.

    Args:
        p_values: (m,) in [0, 1].

    Returns:
        (m,) adjusted p-values in the given order, at most 1.

    Raises:
        ValueError: a value outside [0, 1], or not finite.
    """
    if np.size(p_values) == 0:
        return np.empty(0)
    p = finite_values(p_values, dimensions=1)
    if p.min() < 0.0 or p.max() > 1.0:
        raise ValueError(f"p-values must lie in [0, 1], got {p.min()} to {p.max()}")
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _wins(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m): 1 where the run of x is higher, 1/2 where they tie."""
    return (np.sign(x[:, None] - y[None, :]) + 1.0) / 2.0
