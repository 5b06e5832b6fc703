"""Verdicts on synthetic runs whose truth is known, and the error rates of the whole procedure."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sspo.evidence import claims
from sspo.evidence.claims import (
    compare,
    decide,
    every_baseline,
    overall,
    paired_values,
    some_variant,
)
from sspo.evidence.comparisons import holm, t_p_value
from sspo.evidence.factorial import factorial_effects
from sspo.evidence.intervals import Interval, hierarchical_interval
from sspo.evidence.measures import add_spread
from sspo.evidence.protocol import CLAIMS
from sspo.evidence.report import claims_report
from support.claims import (
    AREA,
    COLUMNS,
    DRAWDOWN,
    FINAL,
    FURTHER,
    PLAN,
    all_claims,
    make_runs,
    measure,
    verdicts,
)

# Known truth


def test_a_clear_gain_over_every_baseline_is_a_gain_in_every_claim_whatever_a_measures_direction():
    assert verdicts(PLAN, make_runs({"sspo": 0.1})) == all_claims("gain")


def test_a_clear_loss_is_worse_in_every_claim():
    assert verdicts(PLAN, make_runs({"sspo": -0.1})) == all_claims("worse")


def test_no_difference_measured_well_is_no_gain_because_both_directions_are_ruled_out():
    runs = make_runs(seeds=8, noise=0.004)
    assert verdicts(PLAN, runs) == all_claims("no gain")
    for c in compare(PLAN, runs):
        assert -0.02 < c.low < c.high < 0.02


def test_a_gain_ruled_out_without_harm_ruled_out_is_undecided():
    """An effect of about -0.02 with an interval from -0.03 to -0.01: equal or worse, nobody knows."""
    runs = make_runs(seeds=6, noise=0.008)
    area = runs.pivot(index="seed", columns="method", values="area")
    shift = -0.018 - (area["sspo"] - area["grpo"]).mean()
    runs.loc[runs["method"].eq("sspo"), "area"] += shift
    c = next(c for c in compare(PLAN, runs) if (c.measure, c.baseline) == ("area", "grpo"))
    assert c.p_no_gain < 0.025 < c.p_no_harm
    assert c.effect > -0.02
    assert c.verdict == "undecided"


def test_no_difference_measured_badly_is_undecided():
    assert verdicts(PLAN, make_runs(noise=0.1)) == all_claims("undecided")


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_real_difference_too_small_to_matter_is_no_gain(sign):
    runs = make_runs({"sspo": sign * 0.008}, seeds=10, noise=0.003)
    assert all(min(sign * c.low, sign * c.high) > 0.0 for c in compare(PLAN, runs))
    assert verdicts(PLAN, runs) == all_claims("no gain")


@pytest.mark.parametrize(("sign", "word"), [(1.0, "gain"), (-1.0, "worse")])
def test_a_difference_of_just_the_smallest_effect_counts_only_from_that_effect_on(sign, word):
    runs = make_runs({"sspo": sign * 0.05}, noise=0.01)
    effect = {c.measure: c.effect for c in compare(PLAN, runs) if c.baseline == "grpo"}["area"]
    effect = abs(effect)
    for smallest, verdict in ((effect * 0.999, word), (effect * 1.001, "undecided")):
        plan = PLAN.changed(
            measures=(AREA.changed(smallest_effect=smallest), DRAWDOWN, FINAL, *FURTHER)
        )
        found = [c for c in compare(plan, runs) if c.measure == "area" and c.baseline == "grpo"]
        assert found[0].verdict == verdict


def test_a_gain_over_one_baseline_and_a_loss_to_another_is_worse_than_some():
    runs = make_runs({"sspo": 0.1, "gspo": 0.2})
    found = overall(PLAN, compare(PLAN, runs))
    assert {c["verdict"] for c in found.values()} == {"worse"}
    assert found["faster"]["counts"] == {"sspo": {"gain": 1, "worse": 1}}


def test_one_undecided_baseline_leaves_the_claim_undecided():
    runs = make_runs({"sspo": 0.1})
    noisy = runs["method"].eq("gspo")
    runs.loc[noisy, list(COLUMNS)] += runs.loc[noisy, ["seed"] * len(COLUMNS)].to_numpy() % 2 - 0.5
    assert verdicts(PLAN, runs) == all_claims("undecided")


def test_a_claim_that_holds_for_one_variant_is_a_gain_and_says_for_which():
    plan = PLAN.changed(sspo=("sspo", "sspo_arctan"))
    found = overall(plan, compare(plan, make_runs({"sspo": 0.1, "sspo_arctan": -0.1})))
    for claim in CLAIMS:
        assert found[claim]["verdict"] == "gain"
        assert found[claim]["by_variant"] == {"sspo": "gain", "sspo_arctan": "worse"}


@pytest.mark.parametrize(
    "deciding, expected",
    [(("fresh",), "gain"), (("stale",), "worse"), (("fresh", "stale"), "worse")],
)
def test_a_claim_must_hold_in_every_deciding_regime_and_the_others_are_told(deciding, expected):
    fresh = make_runs({"sspo": 0.1}, regimes=("fresh",))
    stale = make_runs({"sspo": -0.1}, regimes=("stale",), rng=1)
    plan = PLAN.changed(deciding_regimes={"all": deciding})
    found = overall(plan, compare(plan, pd.concat([fresh, stale], ignore_index=True)))
    for claim in CLAIMS:
        assert found[claim]["verdict"] == expected
        assert sum(found[claim]["counts"]["sspo"].values()) == 2 * len(deciding)
        by_regime = {"fresh": "gain", "stale": "worse"}
        assert found[claim]["by_regime"] == {"sspo": by_regime}


def test_a_further_regime_costs_the_deciding_one_nothing():
    fresh = make_runs({"sspo": 0.01}, regimes=("fresh",), noise=0.02)
    stale = make_runs(regimes=("stale",), rng=1)
    alone = compare(PLAN, fresh)
    both = compare(PLAN, pd.concat([fresh, stale], ignore_index=True))
    p_values = [(c.p_gain, c.p_no_gain, c.wide_low) for c in both if c.regime == "fresh"]
    assert p_values == [(c.p_gain, c.p_no_gain, c.wide_low) for c in alone]


def test_regimes_that_decide_together_are_one_family():
    runs = make_runs({"sspo": 0.01}, regimes=("fresh", "stale"), noise=0.02)
    apart = compare(PLAN.changed(multiplicity="none"), runs)
    plan = PLAN.changed(deciding_regimes={"all": ("fresh", "stale")})
    for claim in CLAIMS:
        family = [c for c in compare(plan, runs) if c.claim == claim]
        assert len(family) == 4  # two regimes times two baselines
        raw = [c.p_gain for c in apart if c.claim == claim]
        assert sorted(c.p_gain for c in family) == pytest.approx(sorted(holm(raw)))


def test_wide_intervals_hold_together_with_the_stated_chance():
    rng, covered, usual = np.random.default_rng(0), 0, 0
    plan = PLAN.changed(baselines=("grpo", "gspo", "gmpo", "sapo"), level=0.8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "improvement_interval", lambda *_: Interval(0.5, 0.0, 1.0))
        for _ in range(120):
            found = [c for c in compare(plan, make_runs(rng=rng)) if c.claim == "faster"]
            covered += all(c.wide_low <= 0.0 <= c.wide_high for c in found)
            usual += all(c.low <= 0.0 <= c.high for c in found)
    assert usual / 120 < 0.72 < covered / 120


def test_a_comparison_alone_in_its_family_has_its_usual_interval():
    plan = PLAN.changed(baselines=("grpo",))
    for c in compare(plan, make_runs()):
        assert (c.wide_low, c.wide_high) == pytest.approx((c.low, c.high))


def test_secondary_measures_never_decide_and_never_weaken_the_primary_ones():
    runs = make_runs({"sspo": 0.1})
    runs["noise"] = np.random.default_rng(0).normal(size=len(runs))
    extra = tuple(measure(f"n{i}", "better", primary=False) for i in range(20))
    runs = runs.assign(**{m.name: -runs["area"] for m in extra})
    plan = PLAN.changed(measures=(*PLAN.measures, *extra))
    assert verdicts(plan, runs) == all_claims("gain")
    without = {c.measure: c.p_gain for c in compare(PLAN, runs)}
    assert {c.measure: c.p_gain for c in compare(plan, runs) if c.primary} == without


# Numbers of a comparison


def test_effect_interval_and_p_values_are_those_of_the_paired_differences():
    runs = make_runs({"sspo": 0.03}, noise=0.02)
    table = runs.pivot(index="seed", columns="method", values="drawdown")
    found = next(c for c in compare(PLAN, runs) if (c.measure, c.baseline) == ("drawdown", "grpo"))
    better = (table["grpo"] - table["sspo"]).to_numpy()
    student = stats.ttest_rel(table["grpo"], table["sspo"]).confidence_interval(0.95)
    expected = (better.mean(), student.low, student.high)
    assert (found.effect, found.low, found.high) == pytest.approx(expected)
    assert found.n == 6 and found.missing == 0
    assert found.sspo_mean == pytest.approx(table["sspo"].mean())
    assert found.baseline_mean == pytest.approx(table["grpo"].mean())
    both = [t_p_value((table[b] - table["sspo"]).to_numpy()) for b in ("grpo", "gspo")]
    assert found.p_gain == pytest.approx(holm(both)[0])
    none = PLAN.changed(multiplicity="none")
    raw = next(c for c in compare(none, runs) if (c.measure, c.baseline) == ("drawdown", "grpo"))
    assert raw.p_gain == pytest.approx(t_p_value(better))
    assert raw.p_no_gain == pytest.approx(t_p_value(0.02 - better))
    assert raw.p_harm == pytest.approx(1.0 - raw.p_gain)
    assert raw.p_no_harm == pytest.approx(t_p_value(better, above=-0.02))
    assert raw.p_gain <= found.p_gain


def test_pairs_are_matched_by_base_and_seed_whatever_the_order_of_the_rows():
    runs = make_runs({"sspo": 0.03}, bases=("b0", "b1"), seeds=3)
    shuffled = runs.sample(frac=1.0, random_state=0).reset_index(drop=True)
    assert compare(PLAN, runs) == compare(PLAN, shuffled)
    one = compare(PLAN, runs)[0]
    assert one.n == 6 and set(one.by_base) == {"b0", "b1"}
    assert np.mean(list(one.by_base.values())) == pytest.approx(one.effect)


def test_missing_seeds_and_missing_values_leave_fewer_pairs_and_are_counted():
    runs = make_runs({"sspo": 0.1})
    runs.loc[runs["run"].eq("sspo-s0"), "area"] = np.nan
    runs = runs[~runs["run"].eq("grpo-s5")]
    found = {(c.measure, c.baseline): c for c in compare(PLAN, runs)}
    assert (found["area", "grpo"].n, found["area", "grpo"].missing) == (4, 3)
    assert (found["area", "gspo"].n, found["area", "gspo"].missing) == (5, 2)
    assert (found["drawdown", "gspo"].n, found["drawdown", "gspo"].missing) == (6, 0)


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_pairs_decide_nothing_however_large_the_difference(seeds):
    runs = make_runs({"sspo": 0.4}, seeds=seeds)
    assert verdicts(PLAN, runs) == all_claims("undecided")
    one = compare(PLAN, runs)[0]
    assert one.n == seeds and (one.low is None) == (seeds == 1)


def test_a_method_that_never_ran_is_undecided_with_no_pairs():
    runs = make_runs({"sspo": 0.4})
    runs = runs[runs["method"] != "gspo"]
    found = [c for c in compare(PLAN, runs) if c.baseline == "gspo"]
    assert {(c.n, c.effect, c.verdict) for c in found} == {(0, None, "undecided")}
    assert verdicts(PLAN, runs) == all_claims("undecided")


def test_seeds_that_agree_exactly_need_six_of_them_to_decide():
    """No spread to judge by: 2^-5 > 0.025 >= 2^-6 where they are as far apart as can be."""
    one = PLAN.changed(baselines=("grpo",))
    for seeds, verdict in ((5, "undecided"), (6, "gain")):
        runs = make_runs({"sspo": 0.1}, seeds=seeds, noise=0.0)
        runs[list(COLUMNS)] = np.where(runs[["method"] * len(COLUMNS)] == "sspo", 0.0, 1.0)
        found = {c.measure: c.verdict for c in compare(one, runs)}
        assert found["drawdown"] == verdict
    runs[list(COLUMNS)] = 0.5
    assert {c.p_gain for c in compare(one, runs)} == {1.0}


def test_censored_times_are_compared_by_rank_and_counted():
    time = measure(
        "time", "faster", higher_is_better=False, smallest_effect=0.0, test="signed_rank",
        censored="reached",
    )  # fmt: skip
    plan = PLAN.changed(measures=(time, DRAWDOWN, FINAL, *FURTHER), baselines=("grpo",))
    runs = make_runs(seeds=7)
    runs["time"] = np.where(runs["method"].eq("sspo"), 100.0 + runs["seed"], 500.0)
    runs["reached"] = np.where(runs["method"].eq("sspo"), 1.0, runs["seed"] % 2)
    found = next(c for c in compare(plan, runs) if c.measure == "time")
    assert (found.sspo_censored, found.baseline_censored) == (0, 4)
    assert found.p_gain == pytest.approx(2.0**-7) and found.verdict == "gain"
    # ranks: one enormous censored value more or less changes nothing
    runs.loc[runs["run"].eq("grpo-s3"), "time"] = 5e9
    assert next(c for c in compare(plan, runs) if c.measure == "time").p_gain == found.p_gain


def make_scores(seeds: int = 5, problems: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"method": m, "regime": "fresh", "base": "b0", "seed": s, "split": "test", "problem": p,
         "metric": "pass@1", "score": float(rng.random() < 0.5 + 0.2 * (m == "sspo"))}
        for m in ("grpo", "sspo")
        for s in range(seeds)
        for p in range(problems)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_scores_by_problem_add_an_interval_for_new_problems():
    scores = make_scores()
    found = compare(PLAN, make_runs(seeds=5), scores)
    final = next(c for c in found if (c.measure, c.baseline) == ("test_pass@1", "grpo"))
    table = scores.pivot(index="seed", columns=["method", "problem"], values="score")
    expected = hierarchical_interval(table["sspo"] - table["grpo"], np.random.default_rng(0))
    assert (final.problems_low, final.problems_high) == pytest.approx((expected.low, expected.high))
    assert final.problems == 40
    others = [c for c in found if (c.measure, c.baseline) != ("test_pass@1", "grpo")]
    assert {(c.problems, c.problems_low) for c in others} == {(0, None)}


def test_scores_of_a_measure_where_lower_is_better_are_turned_around():
    lower = FINAL.changed(higher_is_better=False)
    higher, turned = (
        next(
            c
            for c in compare(
                PLAN.changed(measures=(AREA, DRAWDOWN, m, *FURTHER)), make_runs(), make_scores()
            )
            if (c.measure, c.baseline) == ("test_pass@1", "grpo")
        )
        for m in (FINAL, lower)
    )
    assert turned.problems_low == pytest.approx(-higher.problems_high, abs=0.02)
    assert turned.problems_high < 0.0 < higher.problems_low


# Error rates


ALL_BASELINES = PLAN.changed(
    baselines=("grpo", "gspo", "gmpo", "sapo"),
    measures=tuple(m.changed(smallest_effect=0.0) for m in PLAN.measures),
    level=0.9,
    multiplicity="none",
)


@pytest.fixture(scope="module")
def null_families():
    """Unadjusted comparisons of 4 baselines by claim, from experiments in which nobody is better."""
    rng, families = np.random.default_rng(0), []
    with pytest.MonkeyPatch.context() as patch:  # no verdict looks at the chance, which is slow
        patch.setattr(claims, "improvement_interval", lambda *_: Interval(0.5, 0.0, 1.0))
        for _ in range(150):
            found = compare(ALL_BASELINES, make_runs(seeds=5, noise=0.02, rng=rng))
            families += [[c for c in found if c.claim == claim] for claim in CLAIMS]
    return families


def family_errors(families, verdict: str, adjust: bool, smallest: float = 0.0) -> float:
    """Share of claims in which any comparison gets this verdict."""
    hits = 0
    for family in families:
        family = claims._adjusted(ALL_BASELINES, family) if adjust else family
        family = [replace(c, smallest_effect=smallest) for c in family]
        hits += any(decide(ALL_BASELINES, c) == verdict for c in family)
    return hits / len(families)


@pytest.mark.slow
@pytest.mark.parametrize("verdict", ["gain", "worse"])
def test_false_verdicts_on_the_null_stay_near_the_stated_level_with_holm(null_families, verdict):
    """At level 0.9 and no smallest effect either verdict is an error of at most 5 % per claim."""
    assert 0.02 <= family_errors(null_families, verdict, adjust=True) <= 0.065


@pytest.mark.slow
@pytest.mark.parametrize("verdict", ["gain", "worse"])
def test_without_adjustment_four_baselines_err_more_often(null_families, verdict):
    assert family_errors(null_families, verdict, adjust=False) > 0.08


@pytest.mark.slow
def test_a_smallest_effect_makes_false_gains_rarer_still(null_families):
    few = family_errors(null_families, "gain", adjust=True, smallest=0.02)
    assert few < family_errors(null_families, "gain", adjust=True)


# Rules


@pytest.mark.parametrize(
    ("found", "every", "some"),
    [
        (["gain", "gain"], "gain", "gain"),
        (["gain", "undecided"], "undecided", "gain"),
        (["gain", "no gain"], "no gain", "gain"),
        (["gain", "worse"], "worse", "gain"),
        (["no gain", "undecided"], "no gain", "undecided"),
        (["no gain", "worse"], "worse", "no gain"),
        (["worse", "undecided"], "worse", "undecided"),
        (["worse", "worse"], "worse", "worse"),
        (["undecided"], "undecided", "undecided"),
        ([], "undecided", "undecided"),
    ],
)
def test_verdicts_combine_as_all_and_any(found, every, some):
    assert every_baseline(found) == every
    assert some_variant(found) == some


def test_spread_over_seeds_becomes_a_measure_per_run():
    runs = make_runs(seeds=3, regimes=("fresh", "stale"))
    spread = add_spread(runs, "area")
    part = spread[(spread["method"] == "grpo") & (spread["regime"] == "stale")]
    expected = (part["area"] - part["area"].median()).abs()
    assert part["area_deviation"].tolist() == pytest.approx(expected.tolist())
    assert add_spread(make_runs(seeds=2), "area")["area_deviation"].isna().all()


# Report and plan


def test_the_report_is_json_without_nan_and_the_same_every_time():
    runs = make_runs({"sspo": 0.1}, seeds=1, regimes=("fresh", "stale"))
    runs.loc[0, "area"] = np.nan
    first, second = (claims_report(PLAN, runs, make_scores()) for _ in range(2))
    text = json.dumps(first, allow_nan=False)
    assert text == json.dumps(second, allow_nan=False)
    assert json.loads(text)["overall"]["faster"]["verdict"] == "undecided"
    assert set(first) == {"plan", "overall", "comparisons", "remedies", "factorial", "text"}


def test_sentences_carry_the_numbers_and_the_verdict_and_follow_the_data():
    labels = {"sspo": "SSPO (sigmoid)", "grpo": "GRPO"}
    report = claims_report(PLAN, make_runs({"sspo": 0.1}), labels=labels)
    assert report["text"][0] == (
        "SSPO learns faster: gain. SSPO (sigmoid): gain (2 gain of 2 comparisons)."
    )
    c = report["comparisons"][0]
    sentence = report["text"][len(CLAIMS)]
    for part in (
        "SSPO (sigmoid) against GRPO",
        "6 paired runs",
        f"{c['effect']:+.3g}",
        "gain.",
    ):
        assert part in sentence
    worse = claims_report(PLAN, make_runs({"sspo": -0.1}), labels=labels)["text"]
    assert worse[0].startswith("SSPO learns faster: worse.")
    assert worse[len(CLAIMS)].endswith("worse.")


def test_sentences_tell_of_missing_pairs_and_missing_intervals():
    runs = make_runs(seeds=1)
    text = claims_report(PLAN, runs[runs["method"] != "gspo"])["text"]
    assert any("sspo against gspo: no paired runs; undecided." in line for line in text)
    assert any("no interval, 1 paired runs" in line for line in text)


def test_runs_without_a_planned_column_or_with_a_run_told_twice_are_refused():
    runs = make_runs()
    with pytest.raises(ValueError, match="no column 'drawdown'"):
        compare(PLAN, runs.drop(columns="drawdown"))
    with pytest.raises(ValueError, match="stands twice"):
        factorial_effects(PLAN, pd.concat([runs, runs.iloc[:1]]))
    runs.loc[0, "area"] = np.inf
    with pytest.raises(ValueError, match="finite"):
        compare(PLAN, runs)


def test_paired_values_keeps_the_order_of_the_methods_and_shows_gaps():
    runs = make_runs(seeds=2)
    table = paired_values(runs[~runs["run"].eq("sspo-s1")], "area", ("sspo", "grpo"))
    assert list(table.columns) == ["sspo", "grpo"]
    assert table.isna().to_numpy().tolist() == [[False, False], [True, False]]
