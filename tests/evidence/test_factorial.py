"""The 2 x 2 of gate and denominator: hand-checked contrasts, effects that were put in."""

import pandas as pd
import pytest
from scipy import stats

from sspo.evidence.factorial import CELLS, contrasts, factorial_effects
from support.claims import COLUMNS, PLAN, make_runs

# The 2 x 2


def test_contrasts_of_a_hand_checked_table():
    cells = pd.DataFrame([[1.0, 2.0, 4.0, 9.0]], columns=CELLS)
    found = contrasts(cells).iloc[0].to_dict()
    # level (4 + 9 - 1 - 2) / 2, gate (2 + 9 - 1 - 4) / 2, interaction (9 - 4) - (2 - 1)
    assert found == {"level": 5.0, "gate": 3.0, "interaction": 4.0}


def effect_of(rows, contrast: str, hard: str = "gspo+gmpo", name: str = "area") -> dict:
    chosen = [
        r
        for r in rows
        if (r["contrast"], r["sequence_hard"], r["measure"]) == (contrast, hard, name)
    ]
    assert len(chosen) == 1
    return chosen[0]


@pytest.mark.parametrize("name", COLUMNS)
def test_factorial_finds_the_effects_that_were_put_in(name):
    level, gate, extra = 0.05, -0.03, 0.08
    gain = {"sapo": gate, "gspo": level, "gmpo": level, "sspo": level + gate + extra}
    rows = factorial_effects(PLAN, make_runs(gain, seeds=8, noise=1e-6))
    assert effect_of(rows, "level", name=name)["effect"] == pytest.approx(
        level + extra / 2, abs=1e-5
    )
    assert effect_of(rows, "gate", name=name)["effect"] == pytest.approx(gate + extra / 2, abs=1e-5)
    assert effect_of(rows, "interaction", name=name)["effect"] == pytest.approx(extra, abs=1e-5)


def test_factorial_averages_gspo_and_gmpo_and_reports_each_alone():
    rows = factorial_effects(PLAN, make_runs({"gspo": 0.1, "gmpo": -0.1}, noise=0.0))
    effects = {
        hard: effect_of(rows, "level", hard)["effect"] for hard in ("gspo+gmpo", "gspo", "gmpo")
    }
    assert effects == pytest.approx({"gspo+gmpo": 0.0, "gspo": 0.05, "gmpo": -0.05})


def test_factorial_interval_is_that_of_the_paired_contrast():
    runs = make_runs(noise=0.05)
    table = runs.pivot(index="seed", columns="method", values="area")
    by_hand = (table["sspo"] - table["gspo"]) - (table["sapo"] - table["grpo"])
    row = effect_of(factorial_effects(PLAN, runs), "interaction", "gspo")
    student = stats.ttest_1samp(by_hand, 0.0).confidence_interval(0.95)
    expected = (by_hand.mean(), student.low, student.high)
    assert (row["effect"], row["low"], row["high"]) == pytest.approx(expected)
    assert row["n"] == 6


def test_factorial_with_a_missing_cell_or_one_seed_has_no_interval():
    runs = make_runs()
    without = factorial_effects(PLAN, runs[runs["method"] != "sapo"])
    assert {(r["n"], r["effect"], r["low"]) for r in without} == {(0, None, None)}
    single = factorial_effects(PLAN, make_runs(seeds=1))
    assert all(r["n"] == 1 and r["effect"] is not None and r["low"] is None for r in single)
