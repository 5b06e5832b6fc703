"""Figure F1: the curves are those of the objectives, and tau does to a gate what the docs say."""

from __future__ import annotations

import itertools
import math

import pandas as pd
import pytest

from sspo.figures.gates import APART, FACTS, draw_gates
from support.gate_curves import RATIOS, curve, gate_facts
from support.loss_cases import CASES

FRAME = gate_facts()


def facts(gate: str, tau: float) -> dict:
    rows = FRAME[(FRAME["gate"] == gate) & (FRAME["tau"] - tau).abs().lt(1e-9)]
    return rows.iloc[0].to_dict()


@pytest.mark.parametrize("tau", (0.5, 1.0, 2.0, 4.0, 8.0))
def test_the_temperature_of_the_sigmoid_gate_is_an_exponent_and_a_slope(tau):
    """Near r = 1 the sequence weight is s^(tau / 2), and a token's weight goes as r^(1 - tau / 2)."""
    found = facts("sigmoid", tau)
    assert found["exponent"] == pytest.approx(tau / 2.0, abs=1e-6)
    assert found["slope"] == pytest.approx(1.0 - tau / 2.0, abs=1e-6)


def test_a_higher_temperature_weakens_the_brake_of_the_sigmoid_gate_and_tightens_the_log_arctans():
    sigmoid, log_arctan = (FRAME[FRAME["gate"] == gate] for gate in ("sigmoid", "log_arctan"))
    assert (sigmoid["left"].diff().dropna() > 0.0).all()
    assert (log_arctan["left"].diff().dropna() < 0.0).all()
    for tau, left in ((1.0, 0.48), (8.0, 0.73)):
        assert facts("sigmoid", tau)["left"] == pytest.approx(left, abs=5e-3)
    r = math.exp(-1.0)
    assert facts("sigmoid", 4.0)["left"] == pytest.approx(
        2.0 * r / (1.0 + math.exp(4.0 * (r - 1.0)))
    )


def test_the_log_arctan_gate_has_half_of_its_weight_left_at_one_over_tau():
    assert facts("log_arctan", 1.0)["left"] == pytest.approx(0.5, rel=1e-12)
    assert facts("log_arctan", 4.0)["left"] == pytest.approx(1.0 / 17.0, rel=1e-12)
    assert facts("log_arctan", 4.0)["exponent"] == pytest.approx(1.0, abs=1e-6)
    assert facts("log_arctan", 4.0)["slope"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_every_curve_is_1_on_policy_for_both_signs(case):
    name, params = CASES[case]
    for advantage in (1.0, -1.0):
        value, coefficient = curve({"name": name, "params": params}, advantage)
        middle = len(RATIOS) // 2
        assert RATIOS[middle] == 1.0 and coefficient[middle] == 1.0
        assert value[middle].item() == pytest.approx(1.0, rel=1e-12)


def test_every_gate_and_fact_is_drawn_with_the_frames_own_numbers():
    gates = pd.DataFrame(
        {
            "method": "sspo",
            "sign": ["A > 0", "A < 0"],
            "ratio": [1.0, 2.0],
            "coefficient": 1.0,
        }
    )
    looks = {"sspo": {"label": "SSPO", "color": "#d55e00"}}
    figure = draw_gates({"gates": gates, "gate_facts": FRAME}, looks)
    lower = figure.subfigs[1]
    assert [text.get_text() for text in lower.legends[0].get_texts()] == ["sigmoid", "log-arctan"]
    for panel, (fact, (label, _)) in zip(lower.axes, FACTS.items(), strict=True):
        assert panel.get_ylabel() == label
        for gate in ("sigmoid", "log_arctan"):
            (line,) = [drawn for drawn in panel.lines if drawn.get_gid() == gate]
            rows = FRAME[FRAME["gate"] == gate]
            assert line.get_xdata().tolist() == rows["tau"].tolist()
            assert line.get_ydata().tolist() == rows[fact].tolist()


def test_the_curves_stand_over_the_log_ratio_and_their_names_at_their_ends():
    rows = [
        {"method": name, "sign": sign, "ratio": math.exp(x), "coefficient": weight}
        for name, weight in (("grpo", 0.0), ("gspo", 0.0), ("sspo", 0.5))
        for sign in ("A > 0", "A < 0")
        for x in (-2.0, 0.0, 2.0)
    ]
    looks = {m: {"label": m.upper(), "color": "#d55e00"} for m in ("sspo", "grpo", "gspo")}
    figure = draw_gates({"gates": pd.DataFrame(rows), "gate_facts": FRAME}, looks)
    assert not figure.subfigs[0].legends
    for panel in figure.subfigs[0].axes:
        (line,) = [drawn for drawn in panel.lines if drawn.get_gid() == "sspo"]
        assert line.get_xdata().tolist() == pytest.approx([-2.0, 0.0, 2.0])
        places = {text.get_text(): text.get_position()[1] for text in panel.texts}
        assert places.keys() == {"SSPO", "GRPO", "GSPO"}
        assert sorted(places, key=lambda name: places[name])[-1] == "SSPO"
        heights = sorted(places.values())
        assert min(b - a for a, b in itertools.pairwise(heights)) >= APART - 1e-9
