"""Figures of the exact study show the frames' own means, each method in its colour."""

import numpy as np
import pandas as pd
import pytest

from sspo.figures.exact import DIRECTIONS, GRADIENT_PANELS
from sspo.figures.registry import load
from sspo.figures.style import save
from support.study_frames import study_frames

METHODS = {
    "grpo": {"label": "GRPO", "color": "#0072b2"},
    "sspo": {"label": "SSPO", "color": "#d55e00"},
    "dapo": {"label": "never studied", "color": "#999999"},
}


@pytest.fixture
def frames() -> dict[str, pd.DataFrame]:
    return study_frames()


def line(panel, name):
    found = [drawn for drawn in panel.lines if drawn.get_gid() == name]
    assert len(found) == 1
    return found[0]


def test_gradient_panels_show_means_over_draws_of_variable_lengths(frames):
    figure = load("f13_exact")(frames, METHODS)
    rows = frames["gradients"].query("lengths == 'variable'")
    panels = np.reshape(figure.axes, (len(GRADIENT_PANELS), 2))
    for i, quantity in enumerate(GRADIENT_PANELS):
        for j, direction in enumerate(DIRECTIONS):
            for name in ("grpo", "sspo"):
                part = rows[(rows["direction"] == direction) & (rows["method"] == name)]
                expected = part.groupby("drift")[quantity].mean().dropna()
                drawn = line(panels[i, j], name)
                assert list(drawn.get_xdata()) == list(expected.index)
                assert list(drawn.get_ydata()) == pytest.approx(list(expected))


def test_staleness_shows_the_pushes_and_the_last_reward_by_learning_rate(frames):
    figure = load("f14_staleness")(frames, METHODS)
    first, *others = figure.axes
    assert list(line(first, "sspo").get_ydata()) == pytest.approx([-0.1 * p for p in range(30)])
    for panel, rate in zip(others, (0.1, 0.5), strict=True):
        rows = frames["training"]
        part = rows[rows["learning_rate"].eq(rate) & rows["update"].eq(16)]
        part = part[part["method"] == "grpo"]
        expected = part.groupby("updates_per_rollout")["reward"].mean()
        drawn = line(panel, "grpo")
        assert list(drawn.get_xdata()) == [1, 8]
        assert list(drawn.get_ydata()) == pytest.approx(list(expected))


@pytest.mark.parametrize("name", ["f13_exact", "f14_staleness"])
def test_every_method_has_its_own_colour_and_only_those_studied_are_shown(name, frames, tmp_path):
    figure = load(name)(frames, METHODS)
    for panel in figure.axes:
        assert line(panel, "grpo").get_color() == "#0072b2"
        assert line(panel, "sspo").get_color() == "#d55e00"
        assert not [drawn for drawn in panel.lines if drawn.get_gid() == "dapo"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["GRPO", "SSPO"]
    save(figure, tmp_path / name)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
