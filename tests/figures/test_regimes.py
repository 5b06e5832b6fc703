"""Figures and tables of several regimes show the frames' own numbers."""

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from sspo.evidence.intervals import mean_interval
from sspo.figures.inputs import short_params
from sspo.figures.regimes import MASSES, SWEPT
from sspo.figures.registry import load
from sspo.figures.verdicts import LOOKS
from support.evidence_frames import evidence_frames, make_steps
from support.paths import CLAIMS_PLAN

METHODS = {
    "grpo": {"label": "GRPO", "color": "#0072b2"},
    "gspo": {"label": "GSPO", "color": "#56b4e9"},
    "gmpo": {"label": "GMPO", "color": "#009e73"},
    "sapo": {"label": "SAPO", "color": "#e69f00"},
    "sspo": {"label": "SSPO", "color": "#d55e00"},
}


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    return {**evidence_frames(METHODS, CLAIMS_PLAN), "metrics": make_steps(METHODS)}


def drawn(panel, name):
    return [line for line in panel.lines if line.get_gid() == name]


def test_the_sweep_shows_means_by_age_and_by_drift_and_given_rates_hollow(frames):
    figure = load("f10_staleness")(frames, METHODS)
    panels = np.reshape(figure.axes, (len(SWEPT), 2))
    runs = frames["runs"].query("base == 'base' and method == 'sspo'")
    swept = runs[runs["tuned"] != "params"]
    for i, outcome in enumerate(SWEPT):
        mean, hollow = drawn(panels[i, 1], "sspo")
        expected = swept.groupby("regime")[["drift", outcome]].mean().sort_values("drift")
        assert list(mean.get_xdata()) == pytest.approx(list(expected["drift"]))
        assert list(mean.get_ydata()) == pytest.approx(list(expected[outcome]))
        by_age, _ = drawn(panels[i, 0], "sspo")
        by_age_expected = swept.groupby("updates_per_rollout")[outcome].mean()
        assert list(by_age.get_ydata()) == pytest.approx(list(by_age_expected))
        assert hollow.get_markerfacecolor() == "white"
        fast = runs[runs["tuned"] == "params"]
        assert list(hollow.get_ydata()) == pytest.approx([fast[outcome].mean()])


def test_axes_of_the_sweep_hold_the_runs_of_every_method(frames):
    runs = frames["runs"].copy()
    runs.loc[runs["method"] == list(METHODS)[-1], list(SWEPT)] -= 5.0
    for panel in load("f10_staleness")({"runs": runs}, METHODS).axes:
        low, high = panel.get_ylim()
        for line in panel.lines:
            assert low <= min(line.get_ydata()) <= max(line.get_ydata()) <= high


def test_intervals_of_the_sweep_are_t_intervals_over_runs(frames):
    panel = load("f10_staleness")(frames, METHODS).axes[0]
    part = frames["runs"].query("base == 'base' and method == 'grpo' and regime == 'stale16'")
    interval = mean_interval(part["test_pass@1"])
    ends = [s[:, 1] for c in panel.collections for s in c.get_segments()]
    assert any(np.allclose(end, [interval.low, interval.high]) for end in ends)


def test_weights_are_drawn_for_every_step_that_drifted(frames):
    figure = load("f11_weights")(frames, METHODS)
    rows = frames["metrics"].query("method == 'gmpo' and log_ratio_rms > 0")
    (points,) = [line for panel in figure.axes for line in drawn(panel, "gmpo")]
    assert list(points.get_xdata()) == list(rows["log_ratio_rms"])
    assert list(points.get_ydata()) == list(rows["sequence_weight_var"])


def test_tuning_lines_rise_with_the_learning_rate_and_the_choice_is_circled(frames):
    figure = load("f12_tuning")(frames, METHODS)
    trials = frames["trials"].query("method == 'sspo'")
    panel = figure.axes[list(METHODS).index("sspo")]
    for line, (_, part) in zip(drawn(panel, "sspo"), trials.groupby("params"), strict=True):
        part = part.sort_values("learning_rate")
        assert list(line.get_xdata()) == list(part["learning_rate"])
        assert list(line.get_ydata()) == list(part["score"])
    best = trials[trials["chosen"]]
    circle = panel.lines[-1]
    assert (circle.get_xdata()[0], circle.get_ydata()[0]) == (1e-4, best["score"].iloc[0])


def test_gradient_mass_has_a_column_per_regime_in_which_responses_grow_stale(frames):
    figure = load("f15_gradient_mass")(frames, METHODS)
    assert [panel.get_title() for panel in figure.axes[:2]] == ["main", "stale16"]
    panels = np.reshape(figure.axes, (len(MASSES), 2))
    rows = frames["metrics"].query("regime == 'stale16' and method == 'sapo' and step > 0")
    for i, column in enumerate(MASSES):
        (mean,) = drawn(panels[i, 1], "sapo")
        assert list(mean.get_ydata()) == pytest.approx(list(rows.groupby("step")[column].mean()))
        assert mean.get_xdata()[-1] == 1.0


def test_verdicts_show_every_deciding_comparison_of_the_main_regime(frames):
    figure = load("f16_verdicts")(frames, METHODS)
    rows = frames["comparisons"].query("primary and regime == 'main'").dropna(subset="effect")
    for panel, claim in zip(figure.axes, ("faster", "stabler", "better"), strict=True):
        part = rows[rows["claim"] == claim]
        points = [line for line in panel.lines if line.get_marker() in "osv^"]
        assert [line.get_xdata()[0] for line in points] == pytest.approx(list(part["effect"]))
        for line, verdict in zip(points, part["verdict"], strict=True):
            color, marker = LOOKS[verdict]
            assert line.get_marker() == marker
            assert matplotlib.colors.same_color(line.get_color(), color)
        bars = np.array([s[:, 0] for c in panel.collections for s in c.get_segments()])
        assert np.allclose(bars[::2], part[["wide_low", "wide_high"]].to_numpy(dtype=float))
        assert np.allclose(bars[1::2], part[["low", "high"]].to_numpy(dtype=float))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ('{"clip": 0.4}', "clip 0.4"),
        ('{"clip_low": 0.0003, "clip_high": 0.0004}', "clip 0.0003 / 0.0004"),
        ('{"clip_low": 0.2, "clip_high": 0.2}', "clip 0.2"),
        ('{"clip_high": 0.28}', "clip high 0.28"),
        ('{"tau_pos": 1.0, "tau_neg": 1.05}', "tau 1 / 1.05"),
        ('{"gate": "sigmoid", "tau_pos": 3.0, "tau_neg": 3.0}', "tau 3"),
        ('{"gate": "g", "tau_pos": 2.2, "tau_neg": 2.2, "pessimistic": true}', "tau 2.2"),
        ('{"gate": "g", "tau_pos": 2.2, "tau_neg": 1.1, "pessimistic": true}',
         "tau 2.2 / 1.1"),
        ('{"clip_low": 0.2, "clip_high": 0.28, "n": 1.0, "m": 2.0}', "clip 0.2 / 0.28, n 1, m 2"),
        ('{"gate": "g", "tau_pos": 1.0, "tau_neg": 1.0, "power": 0.5}', "tau 1, power 0.5"),
    ],
)  # fmt: skip
def test_parameters_are_written_short_and_without_loss(params, text):
    assert short_params(params) == text
