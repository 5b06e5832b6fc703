"""Intervals: hand-computed numbers, coverage on synthetic data, and refusals."""

import numpy as np
import pytest

from sspo.evidence.intervals import (
    finite_values,
    hierarchical_interval,
    mean_interval,
    proportion_interval,
)


def coverage(draw_interval, truth: float, repeats: int) -> float:
    """Share of intervals that hold the truth."""
    intervals = [draw_interval() for _ in range(repeats)]
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


def test_mean_interval_matches_a_hand_computed_t_interval():
    # mean 2.5, s = sqrt(5/3), standard error 0.645497, t(0.975, 3) = 3.182446
    interval = mean_interval([1.0, 2.0, 3.0, 4.0])
    assert interval == pytest.approx((2.5, 2.5 - 2.054260, 2.5 + 2.054260), abs=1e-6)


def test_mean_interval_of_other_level_matches_a_hand_computed_t_interval():
    # two values: standard error is half their distance, t(0.95, 1) = 6.313752
    assert mean_interval([0.0, 2.0], level=0.9) == pytest.approx((1.0, -5.313752, 7.313752))


def test_one_seed_has_no_interval():
    mean, low, high = mean_interval([0.4])
    assert mean == 0.4
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("seeds", [3, 5])
def test_t_interval_over_few_seeds_covers_95_percent(seeds):
    rng = np.random.default_rng(0)
    covered = coverage(lambda: mean_interval(rng.normal(0.7, 0.02, seeds)), 0.7, repeats=2_000)
    assert covered == pytest.approx(0.95, abs=0.015)


def test_problem_bootstrap_covers_95_percent():
    rng = np.random.default_rng(0)

    def one():
        return proportion_interval(rng.random(300) < 0.7, rng, resamples=500)

    assert coverage(one, 0.7, repeats=400) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_collapsed_or_perfect_checkpoint_keeps_an_interval(score):
    # 30 problems: 1 - 0.025^(1/30) = 0.115703, the exact (Clopper-Pearson) bound
    mean, low, high = proportion_interval(np.full(30, score), np.random.default_rng(0))
    assert mean == score
    exact = (0.0, 0.115703) if score == 0.0 else (0.884297, 1.0)
    assert (low, high) == pytest.approx(exact, abs=1e-6)


def test_problem_bootstrap_is_fixed_by_its_generator():
    scores = np.random.default_rng(1).random(50)
    first, second = (proportion_interval(scores, np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert first.low < first.mean < first.high


def seeds_by_problems(rng: np.random.Generator, seeds: int, difficulty: float) -> np.ndarray:
    """Scores (seeds, 200) around 0.5: what seeds, problems and single answers add to it."""
    by_seed, by_problem = rng.normal(0, 0.05, (seeds, 1)), rng.normal(0, difficulty, (1, 200))
    return 0.5 + by_seed + by_problem + rng.normal(0, 0.1, (seeds, 200))


@pytest.mark.slow
def test_two_level_bootstrap_covers_new_seeds_and_problems_with_many_seeds():
    rng = np.random.default_rng(0)

    def one():
        return hierarchical_interval(seeds_by_problems(rng, 20, 0.2), rng, resamples=300)

    assert 0.91 <= coverage(one, 0.5, repeats=400) <= 0.98


def test_two_level_bootstrap_is_too_narrow_with_three_seeds_where_t_is_not():
    rng = np.random.default_rng(0)
    data = [seeds_by_problems(rng, 3, difficulty=0.0) for _ in range(400)]
    narrow, wide = iter(data), iter(data)
    by_bootstrap = coverage(
        lambda: hierarchical_interval(next(narrow), rng, resamples=300), 0.5, len(data)
    )
    by_t = coverage(lambda: mean_interval(next(wide).mean(axis=1)), 0.5, len(data))
    assert by_bootstrap < 0.85
    assert by_t == pytest.approx(0.95, abs=0.03)


def test_two_level_bootstrap_of_equal_seeds_is_the_spread_over_problems():
    problems = np.random.default_rng(3).random(100)
    both = hierarchical_interval(np.tile(problems, (5, 1)), np.random.default_rng(0))
    one = proportion_interval(problems, np.random.default_rng(0))
    assert both.mean == pytest.approx(one.mean)
    assert both.high - both.low == pytest.approx(one.high - one.low, rel=0.1)


@pytest.mark.parametrize(
    ("interval", "shape"),
    [
        (proportion_interval, 50),
        (hierarchical_interval, (5, 10)),
    ],
)
def test_a_bootstrap_resamples_two_thousand_times_unless_told(interval, shape):
    scores = np.random.default_rng(1).random(shape)
    told = interval(scores, np.random.default_rng(7), resamples=2_000)
    assert interval(scores, np.random.default_rng(7)) == told


def test_two_seeds_are_enough_for_a_two_level_bootstrap():
    """One pair in four draws the worse seed twice, one in four the better: the ends are theirs."""
    scores, rng = np.array([[0.2, 0.2], [0.6, 0.6]]), np.random.default_rng(0)
    assert hierarchical_interval(scores, rng) == pytest.approx((0.4, 0.2, 0.6))


@pytest.mark.parametrize("values", [[1, 0], [True, False], np.array([0.1, 0.7], np.float32)])
def test_values_of_any_kind_are_computed_with_in_double_precision(values):
    assert finite_values(values, dimensions=1).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: mean_interval([]), "non-empty"),
        (
            lambda rng: mean_interval([0.5, np.nan]),
            "^values must be finite; leave out or explain missing ones first$",
        ),
        (lambda rng: proportion_interval([0.5, 1.5], rng), r"\[0, 1\]"),
        (
            lambda rng: hierarchical_interval([[0.5, 0.1]], rng),
            "^one seed has no spread between seeds; use proportion_interval$",
        ),
        (lambda rng: hierarchical_interval([0.5, 0.1], rng), "2 axes"),
    ],
)
def test_what_cannot_be_summarised_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
