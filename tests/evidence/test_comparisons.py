"""Comparisons of two methods: closed forms, brute force, error rates on synthetic data, refusals."""

import itertools

import numpy as np
import pytest
from scipy import stats

from sspo.evidence.comparisons import (
    holm,
    improvement_interval,
    signed_rank_p_value,
    t_p_value,
)

# Probability of improvement


def chance(x, y) -> float:
    return improvement_interval(x, y, np.random.default_rng(0), resamples=1).mean


def test_probability_of_improvement_counts_wins_and_half_of_ties():
    # pairs of (1, 2, 3) and (2, 2, 0): wins 0+0+1, 0+0+1, 3; ties 0, 2, 0
    assert chance([1, 2, 3], [2, 2, 0]) == pytest.approx((5 + 0.5 * 2) / 9)
    assert chance([1, 1], [1, 1, 1]) == 0.5
    assert chance([5], [1, 2]) == 1.0


def test_probability_of_improvement_is_mann_whitneys_u_over_all_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 7), rng.integers(0, 6, 9)
    u = stats.mannwhitneyu(x, y).statistic
    assert chance(x, y) == pytest.approx(u / 63)
    assert chance(x, y) + chance(y, x) == pytest.approx(1.0)


def coverage(runs: int, repeats: int = 600) -> float:
    """Share of intervals that hold the truth, for normal runs one standard deviation apart."""
    rng = np.random.default_rng(0)
    truth = stats.norm.cdf(1.0 / np.sqrt(2.0))
    hits = 0
    for _ in range(repeats):
        x, y = rng.normal(1.0, 1.0, runs), rng.normal(0.0, 1.0, runs)
        interval = improvement_interval(x, y, rng, resamples=400)
        hits += interval.low <= truth <= interval.high
    return hits / repeats


def test_improvement_interval_covers_95_percent_with_many_runs():
    assert coverage(25) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("runs", [3, 5, 8])
def test_improvement_interval_of_few_runs_covers_at_least_92_percent(runs):
    """Few runs are often completely separate, and the bound that takes over then is wide."""
    assert coverage(runs) >= 0.92


def test_complete_separation_keeps_an_interval():
    # 0.025^(1/3) = 0.292402: three separate pairs
    rng = np.random.default_rng(0)
    won = improvement_interval([3, 4, 5], [0, 1, 2, 2], rng)
    lost = improvement_interval([0, 1, 2], [3, 4, 5, 6], rng)
    assert won == pytest.approx((1.0, 0.292402, 1.0), abs=1e-6)
    assert lost == pytest.approx((0.0, 0.0, 1.0 - 0.292402), abs=1e-6)


def test_the_bound_of_complete_separation_holds_for_the_worst_case():
    """y fixed, x above it with probability p: all n above with p^n, the bound itself."""
    n, level = 4, 0.95
    bound = improvement_interval(np.ones(n), np.zeros(9), np.random.default_rng(0), level).low
    assert bound**n == pytest.approx(0.025)


def test_improvement_interval_is_fixed_by_its_generator_and_one_run_each_is_allowed():
    x, y = [0.1, 0.5, 0.6, 0.2], [0.3, 0.4, 0.5]
    first, second = (improvement_interval(x, y, np.random.default_rng(5)) for _ in range(2))
    assert first == second and first.low < first.mean < first.high
    # one pair won rules out only P < 0.025
    one = improvement_interval([1.0], [0.0], np.random.default_rng(0))
    assert one == pytest.approx((1.0, 0.025, 1.0))


def test_improvement_interval_resamples_two_thousand_times_unless_told():
    x, y = np.random.default_rng(1).normal(size=(2, 25))
    told = improvement_interval(x, y, np.random.default_rng(5), resamples=2_000)
    assert improvement_interval(x, y, np.random.default_rng(5)) == told


def test_runs_of_both_methods_are_resampled():
    """A single run of one method has no spread; the interval is that of the other, either way."""
    y = np.linspace(-1.0, 2.0, 10)
    won = improvement_interval([0.0], y, np.random.default_rng(0))
    lost = improvement_interval(y, [0.0], np.random.default_rng(0))
    assert won.high - won.low > 0.3
    mirrored = (1.0 - lost.mean, 1.0 - lost.high, 1.0 - lost.low)
    assert tuple(won) == pytest.approx(mirrored, abs=0.06)


# Tests of a difference


def test_t_p_value_is_the_hand_computed_tail():
    # mean 2.5, standard error 0.645497: t = 3.872983 with 3 degrees of freedom
    assert t_p_value([1.0, 2.0, 3.0, 4.0]) == pytest.approx(stats.t.sf(3.8729833, 3))
    assert t_p_value([1.0, 2.0, 3.0, 4.0], above=2.5) == pytest.approx(0.5)
    # below its bound it is the other tail
    assert t_p_value([-1.0, -2.0, -3.0, -4.0]) == pytest.approx(stats.t.cdf(3.8729833, 3))


def test_p_values_agree_with_the_interval_of_the_same_level():
    from sspo.evidence.intervals import mean_interval

    rng = np.random.default_rng(1)
    for _ in range(50):
        values = rng.normal(0.5, 0.6, 4)
        assert (t_p_value(values) < 0.025) == (mean_interval(values, 0.95).low > 0.0)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_seeds_that_agree_exactly_are_judged_by_the_likeliest_mean_within_the_bound(count):
    for value, above in ((1.0, 0.0), (0.3, 0.0), (0.0, -0.1)):
        # Values v with chance q, else -1, have the mean ``above``; a larger q has a larger mean.
        q = next(q for q in np.linspace(0, 1, 10**5 + 1) if q * value - (1 - q) >= above)
        expected = q**count if count > 1 else 1.0
        assert t_p_value(np.full(count, value), above=above) == pytest.approx(expected, rel=1e-3)
    assert t_p_value(np.full(count, 0.3), above=0.3) == 1.0
    assert t_p_value(np.full(count, -0.3)) == 1.0


def all_signs_p_value(values: list[float]) -> float:
    """Wilcoxon's signed-rank test by writing out every assignment of signs."""
    sizes = [abs(v) for v in values if v != 0.0]
    ranks = [
        sum(other < size for other in sizes) + (sum(other == size for other in sizes) + 1) / 2
        for size in sizes
    ]
    positive = [v > 0 for v in values if v != 0.0]
    observed = sum(rank for rank, up in zip(ranks, positive, strict=True) if up)
    sums = [
        sum(rank for rank, up in zip(ranks, signs, strict=True) if up)
        for signs in itertools.product((False, True), repeat=len(ranks))
    ]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


@pytest.mark.parametrize("seed", range(12))
def test_signed_rank_p_value_equals_the_enumeration_of_all_signs_with_ties_and_zeros(seed):
    values = np.random.default_rng(seed).integers(-4, 7, size=2 + seed % 8).astype(float)
    assert signed_rank_p_value(values) == pytest.approx(all_signs_p_value(values.tolist()))


def test_signed_rank_p_value_equals_scipys_exact_test_without_ties():
    values = np.random.default_rng(2).normal(0.4, 1.0, 12)
    exact = stats.wilcoxon(values, alternative="greater", method="exact").pvalue
    assert signed_rank_p_value(values) == pytest.approx(exact)
    shifted = stats.wilcoxon(values - 0.3, alternative="greater", method="exact").pvalue
    assert signed_rank_p_value(values, above=0.3) == pytest.approx(shifted)


@pytest.mark.parametrize("count", [1, 3, 5, 6])
def test_signed_rank_p_value_of_wins_only_is_two_to_the_minus_n(count):
    assert signed_rank_p_value(np.arange(1.0, count + 1)) == pytest.approx(0.5**count)
    assert signed_rank_p_value(-np.arange(1.0, count + 1)) == pytest.approx(1.0)
    assert signed_rank_p_value(np.zeros(count)) == 1.0


@pytest.mark.parametrize("test", [t_p_value, signed_rank_p_value])
def test_a_true_null_is_rejected_at_the_level(test):
    rng = np.random.default_rng(0)
    rejected = [test(rng.normal(0.0, 1.0, 8)) <= 0.05 for _ in range(2_000)]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.015)


# Many at once


def test_holm_matches_a_hand_computed_example_in_the_given_order():
    # sorted 0.01, 0.02, 0.03, 0.30: times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.30
    assert holm([0.03, 0.01, 0.30, 0.02]) == pytest.approx([0.06, 0.04, 0.30, 0.06])


def test_holm_never_decreases_a_p_value_never_reorders_and_stops_at_one():
    p = np.random.default_rng(0).random(20)
    adjusted = holm(p)
    assert (adjusted >= p).all() and adjusted.max() <= 1.0
    assert (np.diff(adjusted[np.argsort(p)]) >= 0.0).all()
    assert holm([0.7, 0.9]).tolist() == pytest.approx([1.0, 1.0])
    assert holm([0.04]).tolist() == [0.04] and holm([]).size == 0
    assert holm([1.0, 0.0]).tolist() == [1.0, 0.0]


def test_holm_rejects_what_testing_one_by_one_against_shrinking_levels_rejects():
    rng = np.random.default_rng(3)
    for _ in range(100):
        p = rng.beta(0.3, 2.0, 6)
        rejected = set()
        for k, i in enumerate(np.argsort(p)):
            if p[i] > 0.05 / (6 - k):
                break
            rejected.add(int(i))
        assert set(np.flatnonzero(holm(p) <= 0.05)) == rejected


def test_holm_keeps_the_chance_of_any_false_rejection_at_the_level():
    rng = np.random.default_rng(0)
    any_rejected = [(holm(rng.random(6)) <= 0.05).any() for _ in range(3_000)]
    assert np.mean(any_rejected) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chance([], [1.0]), "non-empty"),
        (lambda: chance([1.0], [np.nan]), "finite"),
        (lambda: chance([np.inf], [1.0]), "finite"),
        (lambda: t_p_value([]), "non-empty"),
        (lambda: t_p_value([0.1, np.nan]), "finite"),
        (lambda: signed_rank_p_value([np.nan]), "finite"),
        (lambda: holm([0.5, 1.5]), r"\[0, 1\]"),
        (lambda: holm([0.5, np.nan]), "finite"),
        (lambda: holm([[0.5]]), "1 axes"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
