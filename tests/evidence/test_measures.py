"""Measures of a run on curves whose answers can be read off, and what is refused."""

import numpy as np
import pytest

from sspo.evidence.measures import (
    AccuracyCurve,
    LearningConfig,
    accuracy_curve,
    area_under_curve,
    collapsed,
    cut_at,
    drift_measures,
    final_scores,
    late_rise,
    run_measures,
    sampled_tokens,
    spike_share,
    tokens_to_target,
    worst_drawdown,
)

CONFIG = LearningConfig(
    accuracy="pass@1",
    target=0.5,
    collapse_share=0.5,
    collapse_margin=0.1,
    spike_factor=3.0,
    spike_window=4,
)


def curve(*points: tuple[float, float]) -> AccuracyCurve:
    tokens, accuracy = zip(*points, strict=True)
    return AccuracyCurve(np.array(tokens, dtype=float), np.array(accuracy, dtype=float))


def make_records(accuracy: list[float], every: int = 2, norm: float = 1.0) -> list[dict]:
    """A run validated every second step, 100 tokens a step."""
    records = [{"step": 0, "sampled_tokens": 0, "pass@1": accuracy[0], "greedy": 0.0}]
    for step in range(1, every * (len(accuracy) - 1) + 1):
        record = {"step": step, "sampled_tokens": 100 * step, "grad_norm_max": norm, "reward": 0.1}
        if step % every == 0:
            record |= {"pass@1": accuracy[step // every], "greedy": 0.5}
        records.append(record)
    return records


# Speed


def test_the_curve_holds_the_validated_steps_only():
    found = accuracy_curve(make_records([0.1, 0.3, 0.2]), "pass@1")
    assert found.tokens.tolist() == [0, 200, 400] and found.accuracy.tolist() == [0.1, 0.3, 0.2]
    assert accuracy_curve(make_records([0.1, 0.3]), "greedy").accuracy.tolist() == [0.0, 0.5]


def test_time_to_target_is_linear_between_validations():
    rising = curve((0, 0.2), (100, 0.4), (200, 0.8))
    assert tokens_to_target(rising, 0.5) == pytest.approx(125.0)
    assert tokens_to_target(rising, 0.4) == pytest.approx(100.0)
    assert tokens_to_target(rising, 0.3) == pytest.approx(50.0)


def test_time_to_target_is_the_first_reaching_also_if_it_is_lost_again():
    assert tokens_to_target(curve((0, 0.0), (100, 1.0), (200, 0.0), (300, 1.0)), 0.5) == 50.0


def test_a_run_that_starts_at_the_target_has_no_time_and_one_that_never_gets_there_is_none():
    assert tokens_to_target(curve((0, 0.6), (100, 0.7)), 0.5) == 0.0
    assert tokens_to_target(curve((0, 0.2), (100, 0.49)), 0.5) is None
    assert tokens_to_target(curve((0, 0.2), (100, 0.5)), 0.5) == 100.0


def test_area_is_the_mean_accuracy_over_tokens_not_over_validations():
    assert area_under_curve(curve((0, 0.0), (100, 1.0))) == pytest.approx(0.5)
    assert area_under_curve(curve((0, 0.3), (70, 0.3), (500, 0.3))) == pytest.approx(0.3)
    # 0.5 over the first 100 tokens, 1 over the last 300
    uneven = curve((0, 0.0), (100, 1.0), (400, 1.0))
    assert area_under_curve(uneven) == pytest.approx((50 + 300) / 400)


def test_a_curve_is_cut_at_the_budget_by_interpolation():
    cut = cut_at(curve((0, 0.0), (100, 1.0), (200, 0.0)), 150)
    assert cut.tokens.tolist() == [0, 100, 150] and cut.accuracy.tolist() == [0.0, 1.0, 0.5]
    exact = cut_at(curve((0, 0.0), (100, 1.0), (200, 0.0)), 100)
    assert exact.tokens.tolist() == [0, 100] and exact.accuracy.tolist() == [0.0, 1.0]


def test_tokens_beyond_the_budget_change_no_measure_of_speed():
    short = run_measures(make_records([0.1, 0.3, 0.6, 0.6]), CONFIG, budget=400)
    long = run_measures(make_records([0.1, 0.3, 0.6, 0.9, 0.1]), CONFIG, budget=400)
    for key in ("tokens_to_target", "tokens_to_target_capped", "reached", "area"):
        assert short[key] == long[key]
    assert long["drawdown"] == pytest.approx(0.8)  # stability is judged by the whole run


# Stability


def test_drawdown_is_the_largest_fall_below_the_best_so_far():
    assert worst_drawdown([0.2, 0.7, 0.5, 0.9, 0.6, 0.8]) == pytest.approx(0.3)
    assert worst_drawdown([0.1, 0.2, 0.2, 0.9]) == 0.0
    # the best must come before the fall
    assert worst_drawdown([0.2, 0.4, 0.9]) == 0.0


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        ([0.2, 0.8, 0.41], False),  # above half of its best
        ([0.2, 0.8, 0.39], True),  # below it
        ([0.7, 0.8, 0.59], True),  # above half, but below the base by more than the margin
        ([0.7, 0.8, 0.61], False),
        ([0.3, 0.3, 0.3], False),  # learned nothing, lost nothing
        ([0.3, 0.9, 0.0, 0.9], False),  # recovered: a drawdown, no collapse
        ([0.0, 0.0], False),
    ],
)
def test_a_collapse_ends_below_half_of_the_best_or_below_the_base_by_the_margin(accuracy, expected):
    assert collapsed(accuracy, CONFIG) is expected


def test_a_spike_is_judged_by_the_median_of_the_steps_before_it():
    norms = [1.0, 1.0, 1.0, 1.0, 2.9, 3.1, 1.0, 1.0]
    # judged: 2.9, 3.1, 1, 1; the median before each is 1 (or the mean of 1 and 2.9 at most)
    assert spike_share(norms, 3.0, 4) == pytest.approx(1 / 4)
    assert spike_share(norms, 2.5, 4) == pytest.approx(2 / 4)


def test_a_single_huge_norm_is_one_spike_and_does_not_hide_the_next():
    norms = [1.0] * 10 + [100.0] + [1.0] * 5 + [10.0] + [1.0] * 4
    assert spike_share(norms, 3.0, 5) == pytest.approx(2 / 16)


def test_a_slow_rise_and_a_constant_have_no_spikes():
    assert spike_share(np.linspace(1.0, 20.0, 100), 3.0, 10) == 0.0
    assert spike_share(np.full(30, 7.0), 3.0, 10) == 0.0
    assert spike_share(np.zeros(30), 3.0, 10) == 0.0


# Together


def test_measures_of_a_run_read_off_by_hand():
    records = make_records([0.1, 0.3, 0.7, 0.6], norm=2.0)
    records[-1]["grad_norm_max"] = 7.0
    measures = run_measures(records, CONFIG, budget=600)
    assert measures == pytest.approx(
        {
            "tokens_to_target": 300.0,
            "tokens_to_target_capped": 300.0,
            "late_rise": 0.6 - 0.3,  # a quarter of four is one: the last, and the second
            "reached": 1.0,
            "area": (0.2 + 0.5 + 0.65) / 3,
            "drawdown": 0.1,
            "collapsed": 0.0,
            "spike_share": 1 / 2,
            "best_accuracy": 0.7,
            "final_accuracy": 0.6,
        }
    )


def test_a_run_that_never_reaches_the_target_is_censored_at_the_budget_and_counted():
    measures = run_measures(make_records([0.1, 0.2, 0.4, 0.9]), CONFIG, budget=430)
    assert measures["tokens_to_target"] is None
    assert measures["reached"] == 0.0 and measures["tokens_to_target_capped"] == 430


def test_the_common_budget_is_what_the_shortest_run_has_sampled():
    runs = [make_records([0.1] * 4), make_records([0.1] * 3)]
    assert min(sampled_tokens(records) for records in runs) == 400


def test_final_scores_name_split_and_metric():
    rows = [
        {"split": "test", "metric": "pass@1", "value": 0.5},
        {"split": "hard", "metric": "pass@8", "value": "0.25"},
    ]
    assert final_scores(rows) == {"test_pass@1": 0.5, "hard_pass@8": 0.25}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy_curve(make_records([0.1]), "pass@1"), "needs two validations"),
        (lambda: accuracy_curve(make_records([0.1, 0.2]), "pass@2"), "0 records with 'pass@2'"),
        (lambda: accuracy_curve(make_records([0.1, np.nan]), "pass@1"), "finite"),
        (lambda: accuracy_curve(make_records([0.1, 0.2]) * 2, "pass@1"), "must grow"),
        (lambda: cut_at(curve((0, 0.1), (100, 0.2)), 101), "smallest total"),
        (lambda: cut_at(curve((0, 0.1), (100, 0.2)), 0), "must lie above"),
        (lambda: spike_share([1.0] * 4, 3.0, 4), "needs more"),
        (lambda: spike_share([1.0, np.nan, 1.0], 3.0, 2), "finite"),
        (lambda: worst_drawdown([np.nan]), "finite"),
        (
            lambda: final_scores([{"split": "a", "metric": "b", "value": 1}] * 2),
            "a_b is told twice",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_run_shorter_than_the_window_has_no_spike_share_and_all_other_measures():
    records = [{"sampled_tokens": 0, "pass@1": 0.2}]
    records += [
        {"sampled_tokens": 10 * i, "pass@1": 0.2 + 0.1 * i, "grad_norm_max": 1.0} for i in (1, 2)
    ]
    config = LearningConfig(
        accuracy="pass@1",
        target=0.3,
        collapse_share=0.5,
        collapse_margin=0.1,
        spike_factor=3.0,
        spike_window=2,
    )
    measures = run_measures(records, config, budget=20.0)
    assert measures["spike_share"] is None
    assert measures["final_accuracy"] == pytest.approx(0.4)
    assert measures["reached"] == 1.0


def test_drift_is_the_root_mean_square_over_steps_and_ends_are_the_last_measured():
    records = [
        {"step": 0},
        {"log_ratio_rms": 3.0, "sequence_weight_var": 1.0, "kl": 0.5, "entropy": 2.0,
         "grpo_clip_share": 0.2, "sequence_weight_distance": 0.3},
        {"log_ratio_rms": 4.0, "sequence_weight_var": 3.0, "kl": None, "entropy": 1.0,
         "grpo_clip_share": None, "sequence_weight_distance": 0.5},
    ]  # fmt: skip
    measures = drift_measures(records)
    assert measures["drift"] == pytest.approx(12.5**0.5)
    assert measures["sequence_weight_var"] == 2.0
    assert measures["grpo_clip_share"] == 0.2  # a step in which no response teaches has none
    assert measures["sequence_weight_distance"] == pytest.approx(0.4)
    assert (measures["final_kl"], measures["final_entropy"]) == (0.5, 1.0)
    assert set(drift_measures([{"step": 0}]).values()) == {None}


def test_the_late_rise_compares_the_last_quarter_with_the_one_around_the_middle():
    assert late_rise([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]) == pytest.approx(0.65 - 0.35)
    assert late_rise([0.0] * 6 + [0.5] * 10) == 0.0  # all was learnt before
    assert late_rise([0.2, 0.7, 0.3]) == pytest.approx(0.3 - 0.7)
