"""Equal tuning: what is chosen, on synthetic records whose best trial is known."""

import pytest

from sspo.config.reading import parse
from sspo.config.study import TuningConfig
from sspo.experiment.tuning import apply_choice, choose

TRIALS = {
    "grpo": [
        {"learning_rate": 1e-4, "params": {"clip_low": 0.2}, "runs": ["a0", "a1"]},
        {"learning_rate": 2e-4, "params": {"clip_low": 0.2}, "runs": ["b0", "b1"]},
    ],
    "sspo": [
        {"learning_rate": 1e-4, "params": {"gate": "sigmoid"}, "runs": ["c0", "c1"]},
        {"learning_rate": 2e-4, "params": {"gate": "sigmoid"}, "runs": ["d0", "d1"]},
    ],
}
CONFIG = parse(TuningConfig, {"accuracy": "pass@1", "validations": 2, "trials": TRIALS})


def records(*accuracies, between=3):
    """Validations with steps that were not validated between them."""
    rows = []
    for accuracy in accuracies:
        rows += [{"reward": 1.0, "pass@1": None}] * between + [{"pass@1": accuracy, "greedy": 0.0}]
    return rows


RECORDS = {
    "a0": records(0.9, 0.1, 0.2),
    "a1": records(0.9, 0.3, 0.4),
    "b0": records(0.0, 0.3, 0.3),
    "b1": records(0.0, 0.3, 0.3),
    "c0": records(0.0, 0.5, 0.5),
    "c1": records(0.0, 0.5, 0.5),
    "d0": records(0.0, 0.5, 0.5),
    "d1": records(0.0, 0.5, 0.5),
}


def test_the_score_is_the_mean_over_runs_and_their_last_validations():
    first = choose(CONFIG, RECORDS)[0]
    found = [first[key] for key in ("score", "lowest", "highest")]
    assert found == pytest.approx([0.25, 0.15, 0.35])


def test_the_best_trial_of_each_method_is_chosen_and_the_first_of_equals():
    rows = choose(CONFIG, RECORDS)
    chosen = {row["method"]: row["learning_rate"] for row in rows if row["chosen"]}
    assert chosen == {"grpo": 2e-4, "sspo": 1e-4}
    assert [row["trial"] for row in rows] == [0, 1, 0, 1]


def test_a_run_with_too_few_validations_is_refused_with_the_key():
    with pytest.raises(ValueError, match=r"tuning.validations = 2 exceeds the 1 validations"):
        choose(CONFIG, {**RECORDS, "b1": records(0.3)})


@pytest.mark.parametrize("tuned, rate", [("everything", 2e-4), ("params", 5e-5)])
def test_a_learning_rate_that_the_regime_states_is_kept(tuned, rate):
    run = {
        "method": "grpo",
        "tuned": tuned,
        "objective": {"name": "grpo", "params": {"clip_low": 0.1}},
        "train": {"learning_rate": 5e-5, "steps": 3},
    }
    before = repr(run)
    choices = {"grpo": {"trial": 1, "learning_rate": 2e-4, "params": {"clip_low": 0.3}}}
    after = apply_choice(run, choices)
    assert after["train"] == {"learning_rate": rate, "steps": 3}
    assert after["objective"] == {"name": "grpo", "params": {"clip_low": 0.3}}
    assert repr(run) == before
