"""Pushing one stale response, and training from stale ones."""

import json
import math
import runpy
import sys

import pandas as pd
import pytest

from sspo.config.reading import plain
from sspo.evidence.exact import staleness
from sspo.evidence.exact.gradients import exact_study
from sspo.evidence.exact.staleness import push_down, stale_training
from support.exact_methods import CONFIG, METHODS, method
from support.paths import SCRIPTS

SCRIPT = SCRIPTS / "exact_study.py"

GATE = {"tau_pos": 2.2, "tau_neg": 2.2}
PUSHED = CONFIG.changed(
    pushes=1_000,
    methods={
        **METHODS,
        "no_clip": method("sspo", gate="log_identity", **GATE),
        "sspo_log_tanh": method("sspo", gate="log_tanh", **GATE),
    },
)


@pytest.fixture(scope="module")
def reached():
    """Log-ratio after 1, 100 and 1,000 pushes of 0.1 nats, by method."""
    frame = push_down(PUSHED)
    return {
        name: {push: part.set_index("push").loc[push, "log_ratio"] for push in (1, 100, 1_000)}
        for name, part in frame.groupby("method")
    }


def test_the_first_push_is_the_same_for_every_method(reached):
    assert {round(log_ratio[1], 12) for log_ratio in reached.values()} == {-0.1}


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("grpo", math.log(0.8)),
        ("dr_grpo", math.log(0.8)),
        ("dapo", math.log(0.8)),
        ("gspo", math.log(0.9)),
        ("gmpo", -0.4),
    ],
)
def test_a_hard_clip_stops_at_most_one_push_behind_its_bound(reached, name, bound):
    assert bound - 0.1 <= reached[name][1_000] <= bound
    assert reached[name][100] == reached[name][1_000]


@pytest.mark.parametrize("name", ["sapo", "sspo", "sspo_arctan", "cispo", "no_clip"])
def test_soft_gates_push_down_without_a_limit(reached, name):
    """Ten times the pushes go on and on: by about log 10 in ratio space, by 10^(1/3) for arctan."""
    assert reached[name][1_000] < reached[name][100] - 1.0
    assert reached[name][1_000] < -2.9


def test_an_ungated_response_falls_as_the_logarithm_of_the_pushes(reached):
    """d l / d k = -h exp(l) has the solution l = -log(1 + h k)."""
    assert reached["no_clip"][1_000] == pytest.approx(-math.log(1 + 0.1 * 1_000), abs=0.05)


def test_the_pessimistic_gate_brakes_harder_than_a_published_one_and_never_quite_stops(reached):
    assert reached["sspo_arctan"][1_000] < reached["sspo_pessimistic"][1_000] < -1.0
    # For A < 0 at r < 1 a log gate is the same with and without the option, at the same tau.
    tau = METHODS["sspo_pessimistic"]["params"]
    plain = method("sspo", gate="log_tanh", tau_pos=tau["tau_pos"], tau_neg=tau["tau_neg"])
    frame = push_down(PUSHED.changed(methods={"plain": plain}, pushes=100))
    assert frame["log_ratio"].iloc[-1] == pytest.approx(reached["sspo_pessimistic"][100])


def test_without_staleness_all_methods_that_agree_on_policy_train_alike():
    names = ("grpo", "gspo", "gmpo", "sapo", "sspo", "sspo_arctan", "sspo_pessimistic")
    config = CONFIG.changed(updates_per_rollout=(1,), methods={n: METHODS[n] for n in names})
    frame = stale_training(config)
    spread = frame.groupby(["draw", "update"])["reward"].agg(lambda r: r.max() - r.min())
    assert spread.max() < 1e-9
    assert (frame["log_ratio"] == 0.0).all()


def test_staleness_separates_the_methods_and_shows_in_the_log_ratio():
    frame = stale_training(CONFIG)
    last = frame[(frame["update"] == 8) & (frame["updates_per_rollout"] == 4)]
    assert (last["log_ratio"] > 0.01).all()
    rewards = last.pivot(index="draw", columns="method", values="reward")
    assert (rewards["grpo"] - rewards["sspo"]).abs().min() > 1e-6


def test_every_update_of_a_rollout_has_its_own_responses(monkeypatch):
    drawn, update = [], staleness._update
    monkeypatch.setattr(
        staleness, "_update", lambda *inputs: drawn.append(inputs[4].tolist()) or update(*inputs)
    )
    one = CONFIG.changed(draws=1, updates_per_rollout=(8,), methods={"sspo": METHODS["sspo"]})
    stale_training(one)
    assert len(drawn) == 8 and len({str(groups) for groups in drawn}) == 8
    assert {len(group) for groups in drawn for group in groups} == {CONFIG.group_size}


def test_training_raises_the_exact_reward_from_one_start_for_all_methods():
    frame = stale_training(CONFIG.changed(updates=64, updates_per_rollout=(1,)))
    start = frame[frame["update"] == 0].pivot(index="draw", columns="method", values="reward")
    assert (start["grpo"] == start["sspo"]).all() and start["grpo"].nunique() == 2
    end = frame[frame["update"] == 64].pivot(index="draw", columns="method", values="reward")
    assert (end.to_numpy() > start.to_numpy() + 0.1).all()


def test_records_stand_at_the_end_of_every_rollout_and_repeat_exactly():
    frame = stale_training(CONFIG)
    counts = frame.groupby("updates_per_rollout")["update"].unique()
    assert counts[1].tolist() == list(range(9)) and counts[4].tolist() == [0, 4, 8]
    assert frame.equals(stale_training(CONFIG))


def test_updates_that_do_not_divide_into_rollouts_are_refused():
    with pytest.raises(
        ValueError, match=r"updates = 8 is not divisible by updates_per_rollout = 3"
    ):
        stale_training(CONFIG.changed(updates_per_rollout=(3,)))


def test_the_script_writes_the_three_studies(tmp_path, monkeypatch):
    config, output = tmp_path / "config.json", tmp_path / "study"
    config.write_text(json.dumps(plain(CONFIG)))
    monkeypatch.setattr(
        sys, "argv", [str(SCRIPT), "--config", str(config), "--output", str(output)]
    )
    runpy.run_path(str(SCRIPT), run_name="__main__")
    studies = {"gradients": exact_study, "pushes": push_down, "training": stale_training}
    for name, study in studies.items():
        pd.testing.assert_frame_equal(pd.read_csv(output / f"{name}.csv"), study(CONFIG))
