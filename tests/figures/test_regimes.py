"""Figures and tables of several regimes show the frames' own numbers."""

import json

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from sspo.evidence.intervals import mean_interval
from sspo.evidence.protocol import CLAIM_TEXT
from sspo.figures.inputs import regimes_of, short_params
from sspo.figures.regimes import DOSES, EFFECTS, MASSES, SWEPT, gate_grid
from sspo.figures.registry import load
from sspo.figures.verdicts import LOOKS, pair_differences
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


@pytest.mark.parametrize(("name", "columns"), [("f8_attenuation", DOSES), ("f10_staleness", SWEPT)])
def test_a_row_of_a_regime_shows_every_run_of_all_bases_and_their_mean(frames, name, columns):
    figure = load(name)(frames, METHODS)
    regimes, place = regimes_of(frames["runs"]), list(METHODS).index("sspo")
    panels = np.reshape(figure.axes, (len(regimes), -1))
    for line, regime in zip(panels, regimes, strict=True):
        runs = frames["runs"]
        runs = runs[(runs["regime"] == regime) & (runs["method"] == "sspo")]
        for panel, column in zip(line, columns, strict=False):
            (dots,), (mean,) = drawn(panel, "sspo runs"), drawn(panel, "sspo")
            assert list(dots.get_xdata()) == list(runs[column])
            assert mean.get_xdata() == pytest.approx([runs[column].mean()])
            assert set(dots.get_ydata()) == {place}
    assert len(frames["runs"].query("regime == 'main' and method == 'sspo'")["base"].unique()) == 2


def test_what_gates_made_of_the_dose_is_the_mean_over_the_steps_of_a_run(frames):
    figure = load("f8_attenuation")(frames, METHODS)
    panels = np.reshape(figure.axes, (-1, len(DOSES) + len(EFFECTS)))
    rows = frames["metrics"].query("method == 'gmpo'")
    i = regimes_of(frames["runs"]).index("stale16")
    for panel, column in zip(panels[i, len(DOSES) :], EFFECTS, strict=True):
        (dots,) = drawn(panel, "gmpo runs")
        expected = rows.query("regime == 'stale16'").groupby("run")[column].mean()
        assert sorted(dots.get_xdata()) == pytest.approx(sorted(expected))


def test_the_outcomes_tell_the_dose_and_the_number_of_runs_of_each_regime(frames):
    figure = load("f10_staleness")(frames, METHODS)
    panel = figure.axes[2 * regimes_of(frames["runs"]).index("stale16")]
    name, dose = (text.get_text() for text in panel.texts)
    means = frames["runs"].query("regime == 'stale16'")[["drift", "grpo_clip_share"]].mean()
    assert name == "stale16"
    assert dose.startswith(
        f"drift {means.iloc[0]:.2g} nats, GRPO's clip would cut {100 * means.iloc[1]:.2g} %"
    )
    assert panel.get_yticklabels()[0].get_text() == "GRPO (n = 3)"


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
    ends = [s for c in panel.collections if c.get_gid() == "sspo runs" for s in c.get_segments()]
    drawn_ends = sorted((x, low, high) for (x, low), (_, high) in ends)
    assert drawn_ends == sorted(
        map(tuple, trials[["learning_rate", "lowest", "highest"]].to_numpy())
    )
    best = trials[trials["chosen"]]
    circle = panel.lines[-1]
    assert (circle.get_xdata()[0], circle.get_ydata()[0]) == (1e-4, best["score"].iloc[0])


def test_the_surface_has_the_score_of_every_gate_and_temperature_that_was_tried():
    cells = {
        ("sigmoid", 1.0): 0.5,
        ("sigmoid", 2.0): 0.7,
        ("log_tanh", 0.5): 0.2,
        ("log_tanh", 2.0): 0.9,
    }
    sets = [({"gate": g, "tau_pos": t, "tau_neg": t}, score) for (g, t), score in cells.items()]
    sets += [({"gate": "sigmoid", "tau_pos": 1.0, "tau_neg": 2.0}, 0.1)]  # not of the grid
    sets += [({"gate": "log_tanh", "tau_pos": 1.0, "tau_neg": 1.0, "power": 0.5}, 0.1)]
    common = {
        "regime": "stale16",
        "learning_rate": 1e-4,
        "lowest": 0,
        "highest": 1,
        "chosen": False,
    }
    trials = pd.DataFrame(
        [{**common, "method": "sspo", "params": json.dumps(p), "score": s} for p, s in sets]
        + [{**common, "method": "grpo", "params": '{"clip_low": 0.2}', "score": 0.4}]
    )
    assert list(gate_grid(trials)["score"]) == [*cells.values()]
    figure = load("f17_surface")({"trials": trials}, METHODS)
    panel = figure.axes[0]
    (image,) = panel.images
    assert panel.get_title() == "stale16, SSPO"
    taus = [label.get_text() for label in panel.get_xticklabels()]
    gates = [label.get_text() for label in panel.get_yticklabels()]
    assert (taus, gates) == (["0.5", "1", "2"], ["sigmoid", "log-tanh"])
    expected = [[np.nan, 0.5, 0.7], [0.2, np.nan, 0.9]]
    assert np.allclose(np.asarray(image.get_array().filled(np.nan)), expected, equal_nan=True)
    assert sorted(t.get_text() for t in panel.texts) == ["0.20", "0.50", "0.70", "0.90"]
    alone = trials[trials["method"] == "grpo"]
    (empty,) = load("f17_surface")({"trials": alone}, METHODS).axes
    assert empty.texts[0].get_text().split() == ["no", "gates", "by", "temperature"]


def test_gradient_mass_has_bars_with_intervals_in_regimes_in_which_responses_grow_stale(frames):
    figure = load("f15_gradient_mass")(frames, METHODS)
    panels = np.reshape(figure.axes, (2, len(MASSES)))
    assert [line[0].texts[0].get_text() for line in panels] == ["main", "stale16"]
    rows = frames["metrics"].query("regime == 'stale16' and method == 'sapo'")
    place = list(METHODS).index("sapo")
    for panel, column in zip(panels[1], MASSES, strict=True):
        mean, low, high = mean_interval(rows.groupby("run")[column].mean())
        bar = panel.patches[place]
        assert bar.get_width() == pytest.approx(mean)
        assert matplotlib.colors.same_color(bar.get_facecolor()[:3], METHODS["sapo"]["color"])
        (ends,) = panel.collections[place].get_segments()
        assert list(ends[:, 0]) == pytest.approx([max(low, 0.0), high])


def marks(panel, name):
    return [line for line in panel.lines if line.get_gid() == name]


def bars(panel, name):
    found = [c.get_segments() for c in panel.collections if c.get_gid() == name]
    return np.array([segments[0][:, 0] for segments in found])


@pytest.mark.parametrize(
    ("figure", "in_units"), [("f0_differences", False), ("f16_verdicts", True)]
)
def test_verdicts_of_a_deciding_regime_have_the_numbers_of_the_claims(frames, figure, in_units):
    rows = frames["comparisons"].query("primary and regime == 'main' and sspo == 'sspo'")
    panels = load(figure)(frames, METHODS).axes
    for panel, claim in zip(panels, CLAIM_TEXT, strict=False):
        part = rows[rows["claim"] == claim].dropna(subset="effect")
        unit = part["smallest_effect"].to_numpy(float) if in_units else np.ones(len(part))
        points = marks(panel, "mean")
        assert [p.get_xdata()[0] for p in points] == pytest.approx(list(part["effect"] / unit))
        for point, verdict in zip(points, part["verdict"], strict=True):
            color, marker = LOOKS[verdict]
            assert point.get_marker() == marker
            assert matplotlib.colors.same_color(point.get_color(), color)
        ends = part[["low", "high"]].to_numpy(float) / unit[:, None]
        assert np.allclose(bars(panel, "interval"), ends)
        wide = part[["wide_low", "wide_high"]].to_numpy(float) / unit[:, None]
        left, right = panel.get_xlim()
        assert np.allclose(bars(panel, "wide"), wide.clip(left, right))
        cut = [line for line in panel.lines if line.get_marker() in "<>"]
        assert len(cut) == (wide[:, 0] < left).sum() + (wide[:, 1] > right).sum()


def test_dots_are_the_differences_of_pairs_turned_as_the_claims_are(frames):
    comparisons = (
        frames["comparisons"].query("primary and regime == 'main'").dropna(subset="effect")
    )
    runs = frames["runs"].query("regime == 'main'")
    for row in comparisons.to_dict("records"):
        differences = pair_differences(runs, row)
        assert len(differences) == row["n"]
        assert differences.mean() == pytest.approx(row["effect"])


def test_only_regimes_that_decide_stand_in_the_first_figure_and_first_in_the_last(frames):
    deciding = frames["comparisons"].assign(deciding=frames["comparisons"]["regime"] != "main")
    changed = {**frames, "comparisons": deciding}
    names = {
        figure: [
            panel.texts[0].get_text()
            for panel in load(figure)(changed, METHODS).axes
            if panel.texts
        ]
        for figure in ("f0_differences", "f16_verdicts")
    }
    assert names["f0_differences"] == regimes_of(frames["runs"])[1:]
    assert names["f16_verdicts"] == [*names["f0_differences"], "main"]


def test_a_regime_whose_dose_is_not_known_is_told_by_its_pairs_alone(frames):
    runs = frames["runs"].assign(
        drift=np.nan, grpo_clip_share=np.nan, sequence_weight_distance=np.nan
    )
    texts = [
        text.get_text()
        for panel in load("f0_differences")({**frames, "runs": runs}, METHODS).axes
        for text in panel.texts
    ]
    assert any(text.endswith("pairs") for text in texts)
    assert not any(";" in text for text in texts)


def test_comparisons_with_methods_of_ours_stand_below_all_others(frames):
    changed = frames["comparisons"].copy()
    ours = changed.query("regime == 'main' and sspo == 'sspo'")
    ours = pd.concat([ours.assign(sspo="ours"), ours.assign(sspo="ours", baseline="sspo")])
    changed = pd.concat([changed, ours], ignore_index=True)
    texts = {
        figure: [text.get_text() for p in load(figure)({**frames, "comparisons": changed}, METHODS).axes
                 for text in p.texts]
        for figure in ("f0_differences", "f16_verdicts")
    }  # fmt: skip
    assert not any("ablation" in text for text in texts["f0_differences"])
    assert texts["f16_verdicts"][-2] == "main" and "ablation" in texts["f16_verdicts"][-1]


def test_orange_stands_for_harm_alone():
    assert [verdict for verdict, (color, _) in LOOKS.items() if color == "#D55E00"] == ["worse"]


def test_a_study_without_pairs_says_that_there_is_nothing_to_compare(frames):
    empty = frames["comparisons"].assign(effect=None)
    for figure in ("f0_differences", "f16_verdicts"):
        (panel,) = load(figure)({**frames, "comparisons": empty}, METHODS).axes
        assert [text.get_text() for text in panel.texts] == ["nothing\nto\ncompare"]


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
