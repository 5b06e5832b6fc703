"""Figures and tables of several regimes show the frames' own numbers."""

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from sspo.evidence.intervals import mean_interval
from sspo.figures.regimes import OUTCOMES, QUADRANTS, VERDICTS, short_params
from sspo.figures.registry import FIGURES
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
    figure = FIGURES["f10_staleness"](frames, METHODS)
    panels = np.reshape(figure.axes, (len(OUTCOMES), 2))
    runs = frames["runs"].query("base == 'base' and method == 'sspo'")
    swept = runs[runs["tuned"] != "params"]
    for i, outcome in enumerate(OUTCOMES):
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
    runs.loc[runs["method"] == list(METHODS)[-1], list(OUTCOMES)] -= 5.0
    for panel in FIGURES["f10_staleness"]({"runs": runs}, METHODS).axes:
        low, high = panel.get_ylim()
        for line in panel.lines:
            assert low <= min(line.get_ydata()) <= max(line.get_ydata()) <= high


def test_intervals_of_the_sweep_are_t_intervals_over_runs(frames):
    panel = FIGURES["f10_staleness"](frames, METHODS).axes[0]
    part = frames["runs"].query("base == 'base' and method == 'grpo' and regime == 'stale16'")
    interval = mean_interval(part["test_pass@1"])
    ends = [s[:, 1] for c in panel.collections for s in c.get_segments()]
    assert any(np.allclose(end, [interval.low, interval.high]) for end in ends)


def test_weights_are_drawn_for_every_step_that_drifted(frames):
    figure = FIGURES["f11_weights"](frames, METHODS)
    rows = frames["metrics"].query("method == 'gmpo' and log_ratio_rms > 0")
    (points,) = [line for panel in figure.axes for line in drawn(panel, "gmpo")]
    assert list(points.get_xdata()) == list(rows["log_ratio_rms"])
    assert list(points.get_ydata()) == list(rows["sequence_weight_var"])


def test_tuning_lines_rise_with_the_learning_rate_and_the_choice_is_circled(frames):
    figure = FIGURES["f12_tuning"](frames, METHODS)
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
    figure = FIGURES["f15_gradient_mass"](frames, METHODS)
    assert [panel.get_title() for panel in figure.axes[:2]] == ["main", "stale16"]
    panels = np.reshape(figure.axes, (len(QUADRANTS), 2))
    rows = frames["metrics"].query("regime == 'stale16' and method == 'sapo' and step > 0")
    for i, column in enumerate(QUADRANTS):
        (mean,) = drawn(panels[i, 1], "sapo")
        assert list(mean.get_ydata()) == pytest.approx(list(rows.groupby("step")[column].mean()))
        assert mean.get_xdata()[-1] == 1.0


def test_verdicts_show_every_deciding_comparison_of_the_main_regime(frames):
    figure = FIGURES["f16_verdicts"](frames, METHODS)
    rows = frames["comparisons"].query("primary and regime == 'main'").dropna(subset="effect")
    for panel, claim in zip(figure.axes, ("faster", "stabler", "better"), strict=True):
        part = rows[rows["claim"] == claim]
        points = [line for line in panel.lines if line.get_marker() == "o"]
        assert [line.get_xdata()[0] for line in points] == pytest.approx(list(part["effect"]))
        colors = [matplotlib.colors.to_hex(line.get_color()) for line in points]
        assert colors == [matplotlib.colors.to_hex(VERDICTS[v]) for v in part["verdict"]]
        bars = [s[:, 0] for c in panel.collections for s in c.get_segments()]
        assert np.allclose(bars, part[["low", "high"]].to_numpy(dtype=float))


def test_the_factorial_table_holds_the_effects_of_the_main_regime(frames):
    figure = FIGURES["t2_factorial"](frames, METHODS)
    texts = [text.get_text().replace("\N{NO-BREAK SPACE}", " ") for text in figure.axes[0].texts]
    rows = frames["factorial"].query("regime == 'main' and sspo == 'sspo' and measure == 'area'")
    assert len(rows) == 9  # three contrasts for each filling of the sequence-hard cell
    for row in rows.itertuples():
        points = [100.0 * value for value in (row.effect, row.low, row.high)]
        assert "{:+.1f} [{:+.1f}, {:+.1f}]".format(*points) in texts


def test_the_outcome_table_has_means_over_all_runs_of_a_regime(frames):
    figure = FIGURES["t5_outcomes"](frames, METHODS)
    texts = [text.get_text() for text in figure.axes[0].texts]
    rows = frames["runs"].query("regime == 'main' and method == 'grpo'")
    assert str(len(rows)) in texts
    for column in ("area", "final_kl", "drift"):
        assert f"{rows[column].mean():.3f}" in texts


def test_the_tuning_table_sets_the_choice_in_bold(frames):
    figure = FIGURES["t3_tuning"](frames, METHODS)
    bold = {t.get_text() for t in figure.axes[0].texts if t.get_weight() == "bold"}
    for row in frames["trials"].itertuples():
        if row.chosen:
            assert f"{100.0 * row.score:.1f}" in bold


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
    ],
)  # fmt: skip
def test_parameters_are_written_short_and_without_loss(params, text):
    assert short_params(params) == text
