"""Figures show the frames' own numbers, look the same everywhere, and are the same bytes."""

import json
import runpy
import subprocess
import sys
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sspo.config.errors import ConfigError
from sspo.evidence.intervals import mean_interval
from sspo.figures.inputs import regimes_of
from sspo.figures.regimes import EFFECTS, MASSES
from sspo.figures.registry import FIGURES, load
from sspo.figures.style import save
from sspo.figures.training import LOG_RATIOS
from support.evidence_frames import evidence_frames
from support.gate_curves import gate_facts
from support.paths import ROOT
from support.study_frames import study_frames

METHODS = {
    "grpo": {"label": "GRPO", "color": "#0072b2"},
    "gspo": {"label": "GSPO", "color": "#56b4e9"},
    "sspo": {"label": "SSPO (sigmoid)", "color": "#d55e00"},
    "sspo_arctan": {"label": "SSPO (arctan, inferred)", "color": "#cc79a7"},
    "dapo": {"label": "never run", "color": "#999999"},
}
RUN = list(METHODS)[:4]
STEPS = 12
DRAWN = {  # quantities whose runs are drawn one by one
    "f2_reward": ["reward"],
    "f3_accuracy": ["pass@1"],
    "f4_entropy": ["entropy"],
    "f5_kl": ["kl"],
    "f7_grad_norm": ["grad_norm", "grad_norm_max"],
    "f9_length": ["response_tokens", "truncated"],
}
COMPARED = {"f2_reward": "reward", "f3_accuracy": "greedy", "f4_entropy": "entropy", "f5_kl": "kl"}
MORE = ["kl", "log_ratio_rms", "sequence_weight_var", *EFFECTS, *MASSES]
COLUMNS = sorted({c for cs in DRAWN.values() for c in cs} - {"kl"} | {"greedy", *LOG_RATIOS})


def make_metrics(seeds: int, missing: bool = False) -> pd.DataFrame:
    """Noise of many scales per method and column, a collapsed seed, validation every 4 steps."""
    rng = np.random.default_rng(0)
    rows = []
    for i, method in enumerate(RUN):
        for seed in range(seeds):
            steps = pd.DataFrame({"step": range(STEPS + 1)})
            steps = steps.assign(run=f"{method}-s{seed}", method=method, seed=seed)
            steps = steps.assign(regime="main", base="base")
            steps["sampled_tokens"] = steps["step"] * 8_000 + seed
            for column in [*COLUMNS, *MORE]:
                steps[column] = 0.5 + 0.1 * i + 0.05 * rng.normal(size=STEPS + 1)
            steps["log_ratio_min"] *= -7.0
            steps["log_ratio_p01"] *= -0.02
            steps.loc[steps["step"] % 4 > 0, ["kl", "greedy", "pass@1"]] = np.nan
            steps.loc[0, [c for c in steps if c in {*COLUMNS, "kl"} - {"greedy", "pass@1"}]] = (
                np.nan
            )
            if method == "sspo" and seed == seeds - 1:
                late = steps["step"] > 6
                steps.loc[late, ["reward", "greedy", "pass@1", "grad_norm"]] *= 0.0
            rows.append(steps)
    for seed in range(seeds):
        control = pd.DataFrame({"step": [0, 4, 8, 12], "greedy": 0.4, "pass@1": 0.3, "loss": 1.0})
        control = control.assign(run=f"supervised-s{seed}", method="supervised", seed=seed)
        rows.append(control.assign(regime="main", base="base"))
    metrics = pd.concat(rows, ignore_index=True)
    if missing:
        metrics["kl"] = None
        metrics.loc[metrics["step"].eq(5) & metrics["seed"].eq(0), COLUMNS] = np.nan
        metrics.loc[metrics["method"].eq("gspo"), "truncated"] = np.nan
        stopped = metrics["run"].eq("grpo-s0") & metrics["step"].gt(9)
        metrics = metrics[~stopped].reset_index(drop=True)
    return metrics


def make_frames(seeds: int = 3, missing: bool = False) -> dict[str, pd.DataFrame]:
    """What every figure is drawn from: copies, free to be changed."""
    return {name: frame.copy() for name, frame in _frames(seeds, missing).items()}


@cache
def drawn(name: str, seeds: int = 3, missing: bool = False) -> Figure:
    """A figure of these frames, one for all tests that only look at it."""
    return load(name)(make_frames(seeds, missing), METHODS)


@cache
def _frames(seeds: int, missing: bool) -> dict[str, pd.DataFrame]:
    ratio = np.logspace(-1, 1, 21)
    gates = [
        pd.DataFrame({"ratio": ratio, "value": ratio**0.5 - 1, "coefficient": ratio**-0.5}).assign(
            method=method, sign=sign
        )
        for method in RUN
        for sign in ("A > 0", "A < 0")
    ]
    return {
        "metrics": make_metrics(seeds, missing),
        "gates": pd.concat(gates, ignore_index=True),
        "gate_facts": gate_facts(),
        **study_frames(RUN),
        **evidence_frames(RUN, ROOT / "workflow" / "claims.yaml", seeds),
    }


def lines(figure, gid: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(x, y) of every drawn line with this id."""
    found = [line for panel in all_axes(figure) for line in panel.lines if line.get_gid() == gid]
    return [(np.asarray(line.get_xdata(), float), line.get_ydata()) for line in found]


def all_axes(figure) -> list:
    return [
        *figure.axes,
        *(a for part in figure.subfigs for a in part.axes if a not in figure.axes),
    ]


def texts(figure) -> list[str]:
    return [text.get_text() for panel in figure.axes for text in panel.texts]


def holds(curves, x, y) -> bool:
    return any(np.array_equal(dx, x) and np.array_equal(dy, y) for dx, dy in curves)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "missing"),
    [(1, False), (3, False), (3, True)],
    ids=["one seed", "three seeds", "missing values"],
)
@pytest.mark.parametrize("name", FIGURES)
def test_figures_hold_their_text_and_legends_beside_the_data(name, seeds, missing):
    figure = drawn(name, seeds, missing)
    assert figure.get_figwidth() == 6.5
    FigureCanvasAgg(figure).draw()
    panels = [panel.get_tightbbox() for panel in all_axes(figure)]
    for part in (figure, *figure.subfigs):
        for legend in part.legends:
            box = legend.get_window_extent()
            assert figure.bbox.containsx(box.x0)
            assert figure.bbox.containsx(box.x1)
            assert not any(box.overlaps(panel) for panel in panels)
    for panel in all_axes(figure):
        if panel.axison:
            box = panel.get_tightbbox(for_layout_only=False)
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.width + 1
        boxes = [t.get_window_extent() for t in panel.texts if t.get_text()]
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
        assert all(figure.bbox.containsx(b.x0) and figure.bbox.containsx(b.x1) for b in boxes)


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing values"])
@pytest.mark.parametrize("name", DRAWN)
def test_drawn_lines_are_the_measured_values(name, missing):
    frames, figure = make_frames(missing=missing), drawn(name, missing=missing)
    for column in DRAWN[name]:
        for method in RUN:
            rows = frames["metrics"].query("method == @method").dropna(subset=column)
            for run, part in rows.groupby("run"):
                assert holds(lines(figure, f"{method} {run}"), part["step"], part[column])


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing values"])
@pytest.mark.parametrize("name", FIGURES)
def test_axis_limits_cut_no_line(name, missing):
    for panel in all_axes(drawn(name, missing=missing)):
        for line in (line for line in panel.lines if line.get_gid()):
            for values, limits in (
                (line.get_xdata(), panel.get_xlim()),
                (line.get_ydata(), panel.get_ylim()),
            ):
                low, high = sorted(limits)  # names stand from the top down
                assert all(low <= value <= high for value in np.asarray(values, float))


def test_mean_is_drawn_only_where_every_seed_was_measured():
    frames, figure = make_frames(missing=True), drawn("f2_reward", missing=True)
    wide = (
        frames["metrics"]
        .query("method == 'grpo'")
        .pivot(index="step", columns="run", values="reward")
    )
    complete = wide.dropna()
    assert list(complete.index) == [1, 2, 3, 4, 6, 7, 8, 9]
    [(x, y)] = lines(figure, "grpo")
    assert list(x) == list(complete.index)
    assert y == pytest.approx(complete.mean(axis=1))


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing values"])
@pytest.mark.parametrize(("name", "column"), COMPARED.items())
def test_differences_are_paired_by_seed_and_have_a_t_interval(name, column, missing):
    """METHODS has no GMPO, so that they are differences from its first method."""
    rows = make_frames(missing=missing)["metrics"].dropna(subset=column)
    panel = drawn(name, missing=missing).axes[-1]
    if missing and column == "kl":
        assert rows.empty and [t.get_text() for t in panel.texts] == ["no\npairs"]
        return
    wide = rows.pivot(index="step", columns=["method", "seed"], values=column)
    differences = (wide["sspo"] - wide["grpo"]).dropna()
    (line,) = [drawn for drawn in panel.lines if drawn.get_gid() == "sspo"]
    assert list(line.get_xdata()) == list(differences.index)
    assert list(line.get_ydata()) == pytest.approx(list(differences.mean(axis="columns")))
    (band,) = [c for c in panel.collections if c.get_gid() == "sspo"]
    edges = {round(y, 9) for y in band.get_paths()[0].vertices[:, 1]}
    for values in differences.to_numpy():
        assert {round(end, 9) for end in mean_interval(values)[1:]} <= edges


def test_one_method_that_varies_does_not_flatten_the_differences_of_the_others():
    frames = make_frames()
    calm = load("f2_reward")(frames, METHODS).axes[-1].get_ylim()
    metrics = frames["metrics"]
    wild = metrics["method"].eq("sspo") & metrics["seed"].eq(metrics["seed"].min())
    assert wild.any()
    sign = np.where(metrics["step"] % 2 == 0, 1.0, -1.0)
    frames["metrics"] = metrics.assign(reward=metrics["reward"] + wild * sign * 3.0)
    panel = load("f2_reward")(frames, METHODS).axes[-1]
    low, high = panel.get_ylim()
    bands = {c.get_gid(): c.get_paths()[0].vertices[:, 1] for c in panel.collections}
    assert bands["sspo"].max() > high and bands["sspo"].min() < low
    assert high - low < calm[1] - calm[0] + 4.0 < bands["sspo"].max() - bands["sspo"].min()


def test_pairs_share_the_base_model_and_a_method_without_pairs_has_no_difference():
    first = make_metrics(seeds=2)
    second = first.assign(
        base="second", run="second-" + first["run"], entropy=first["entropy"] + 5.0
    )
    alone = first[first["method"] == "gspo"].assign(seed=7, method="dapo", run="alone")
    alone = alone.drop_duplicates("step")
    figure = load("f4_entropy")({"metrics": pd.concat([first, second, alone])}, METHODS)
    level, difference = figure.axes
    (line,) = [x for x in difference.lines if x.get_gid() == "sspo"]
    rows = first.dropna(subset="entropy").pivot(
        index="step", columns=["method", "seed"], values="entropy"
    )
    paired = (rows["sspo"] - rows["grpo"]).mean(axis="columns")
    assert list(line.get_ydata()) == pytest.approx(list(paired))
    assert [x for x in level.lines if x.get_gid() == "dapo"]
    assert not [x for x in difference.lines if x.get_gid() == "dapo"]


def test_a_single_pair_has_a_difference_and_no_interval():
    panel = load("f2_reward")(make_frames(seeds=1), METHODS).axes[-1]
    assert [line for line in panel.lines if line.get_gid() == "sspo"]
    (band,) = [c for c in panel.collections if c.get_gid() == "sspo"]
    vertices = [path.vertices for path in band.get_paths()]
    assert not any(np.isfinite(v).all(axis=1).any() for v in vertices if len(v))


def test_ribbons_lie_between_the_mean_quantiles_of_the_log_ratio():
    rows = make_frames()["metrics"].query("method == 'sspo' and step > 0")
    panel = drawn("f6_log_ratio").axes[RUN.index("sspo")]
    (median,) = [line for line in panel.lines if line.get_gid() == "sspo"]
    means = rows.groupby("step")[LOG_RATIOS].mean()
    assert list(median.get_ydata()) == pytest.approx(list(means["log_ratio_p50"]))
    for ends in (("min", "max"), ("p01", "p99")):
        (ribbon,) = [c for c in panel.collections if c.get_gid() == f"sspo {ends[0]}"]
        corners = {tuple(np.round(v, 9)) for v in ribbon.get_paths()[0].vertices}
        for end in ends:
            expected = zip(means.index, means[f"log_ratio_{end}"], strict=True)
            assert {tuple(np.round(point, 9)) for point in expected} <= corners


def test_supervised_control_is_drawn_beside_the_accuracy_only():
    for name in DRAWN:
        figure = drawn(name)
        control = [a for a in all_axes(figure) for x in a.lines if x.get_gid() == "supervised"]
        assert len(control) == (1 if name == "f3_accuracy" else 0)
    control = lines(drawn("f3_accuracy"), "supervised")
    assert [list(x) for x, _ in control] == [[0, 4, 8, 12]]


# Colours of f0 and f16 are verdicts, and their rows name the methods; f15 has bars, and f17 is a heat map.
OTHER_COLOURS = {"f0_differences", "f15_gradient_mass", "f16_verdicts", "f17_surface"}


@pytest.mark.parametrize("name", sorted(FIGURES.keys() - OTHER_COLOURS))
def test_a_method_keeps_its_colour_in_every_figure(name):
    figure = drawn(name)
    for method in RUN:
        ids = [(x.get_gid() or "", x) for panel in all_axes(figure) for x in panel.lines]
        own = [x for gid, x in ids if gid.split(" ")[0] == method]
        assert own
        assert {x.get_color() for x in own} == {METHODS[method]["color"]}


def test_a_method_added_to_the_data_and_the_table_appears():
    frames = make_frames()
    new = frames["metrics"].query("method == 'grpo'").assign(method="new")
    new["run"] = new["run"].str.replace("grpo", "new")
    frames["metrics"] = pd.concat([frames["metrics"], new], ignore_index=True)
    methods = METHODS | {"new": {"label": "A new method", "color": "#123456"}}
    for name in DRAWN:
        assert lines(load(name)(frames, methods), "new new-s0")


def test_every_regime_has_a_row_of_panels_and_base_models_are_pooled():
    frames = make_frames()
    other = frames["metrics"].assign(regime="stale", run="stale-" + frames["metrics"]["run"])
    more = frames["metrics"].assign(base="second", run="second-" + frames["metrics"]["run"])
    frames["metrics"] = pd.concat([frames["metrics"], other, more], ignore_index=True)
    for name in DRAWN:
        panels = load(name)(frames, METHODS).axes
        assert [p.get_ylabel() for p in panels if p.get_ylabel()] == ["main\nn = 6", "stale\nn = 3"]
        found = [{x.get_gid() or "" for x in panel.lines} for panel in panels]
        first, second = found[0], found[len(panels) // 2]
        assert {"sspo sspo-s0", "sspo second-sspo-s0"} <= first
        assert "sspo stale-sspo-s0" in second and "sspo sspo-s0" not in second


def test_regimes_come_in_the_order_of_their_drift_after_the_main_one():
    metrics = pd.DataFrame(
        {"regime": ["far", "near", "main", "near"], "run": ["a", "b", "c", "b"],
         "log_ratio_rms": [2.0, 0.1, 3.0, 0.2]}
    )  # fmt: skip
    assert regimes_of(metrics) == ["main", "near", "far"]
    assert regimes_of(metrics.rename(columns={"log_ratio_rms": "drift"})) == ["main", "near", "far"]
    assert regimes_of(metrics.drop(columns="log_ratio_rms")) == ["main", "far", "near"]


def test_near_identical_methods_are_told_apart_without_colour():
    figure = drawn("f9_length")
    looks = {
        (str(line.get_linestyle()), line.get_marker(), str(line._unscaled_dash_pattern))
        for line in figure.axes[0].lines
        if line.get_gid() in RUN
    }
    assert len(looks) == len(RUN)


def test_a_quantity_that_was_never_measured_says_so():
    figure = drawn("f5_kl", missing=True)
    assert texts(figure) == ["not\nmeasured", "no\npairs"]


@pytest.mark.slow
def test_saving_twice_gives_the_same_bytes_without_a_date(tmp_path):
    for name in ("f3_accuracy", "f6_log_ratio"):
        for copy in ("first", "second"):
            save(load(name)(make_frames(), METHODS), tmp_path / copy / name)
        for kind in ("png", "pdf"):
            first, second = ((tmp_path / c / f"{name}.{kind}") for c in ("first", "second"))
            assert first.read_bytes() == second.read_bytes()
        pdf = (tmp_path / "first" / f"{name}.pdf").read_bytes()
        assert b"CreationDate" not in pdf
        assert b"/Type3" not in pdf


@pytest.mark.slow
def test_plotting_loads_neither_torch_nor_pyplot():
    code = (
        "import sys; from sspo.figures.registry import FIGURES, TABLES, load;"
        "[load(name) for name in (*FIGURES, *TABLES)];"
        "print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frames: {}, "not given"),
        (lambda frames: {"metrics": frames["metrics"].iloc[:0]}, "no rows"),
        (lambda frames: {"metrics": frames["metrics"].drop(columns="kl")}, "no column 'kl'"),
        (lambda frames: {"metrics": frames["metrics"].query("seed < 0")}, "no rows"),
        (
            lambda frames: {"metrics": frames["metrics"].query("method == 'supervised'")},
            "holds only supervised",
        ),
        (
            lambda frames: {"metrics": pd.concat([frames["metrics"]] * 2)},
            "run grpo-s0 has step 0 twice",
        ),
    ],
)
def test_a_frame_that_cannot_be_drawn_is_refused_by_name(change, message):
    with pytest.raises(ConfigError, match=f"^metrics.csv: .*{message}"):
        load("f5_kl")(change(make_frames()), METHODS)


def run_script(monkeypatch, *arguments: object) -> str | None:
    """The script's exit message, or None when it succeeded."""
    script = str(ROOT / "workflow/scripts/plot.py")
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        return error.code
    return None


@pytest.fixture
def paths(tmp_path) -> dict[str, Path]:
    methods, metrics = tmp_path / "methods.json", tmp_path / "metrics.csv"
    methods.write_text(json.dumps(METHODS))
    make_metrics(seeds=2).to_csv(metrics, index=False)
    return {"methods": methods, "metrics": metrics, "output": tmp_path / "figures/f2_reward.png"}


def test_script_writes_png_pdf_and_what_they_were_made_from(monkeypatch, paths):
    arguments = ["--methods", paths["methods"], "--inputs", paths["metrics"]]
    assert run_script(monkeypatch, *arguments, "--output", paths["output"]) is None
    assert paths["output"].read_bytes().startswith(b"\x89PNG")
    assert paths["output"].with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    record = json.loads(paths["output"].with_suffix(".json").read_text())
    assert record["figure"] == "f2_reward"
    assert record["runs"][:2] == ["grpo-s0", "grpo-s1"]
    assert set(record["inputs"]) == {str(paths["methods"]), str(paths["metrics"])}
    assert {"src/sspo/figures/training.py", "src/sspo/figures/curves.py"} <= record["code"].keys()
    assert "src/sspo/figures/regimes.py" not in record["code"]


@pytest.mark.parametrize(
    ("figure", "frame", "content", "expected"),
    [
        ("f99", "metrics", None, "f99.png: choose a name of f0_differences, "),
        ("t1_benchmarks", "metrics", None, "t1_benchmarks.png: choose a name of f0_differences, "),
        ("f2_reward", "metrics", "", "metrics.csv: holds no rows"),
        ("f2_reward", "metrics", "run,method,step\na,grpo,1\n", "metrics.csv: no column 'regime'"),
        ("f2_reward", "missing", None, "missing.csv: file missing"),
        ("f2_reward", "methods", "method\ngrpo\n", "metrics.csv: not given"),
    ],
)
def test_script_errors_are_one_line_that_names_the_file(
    monkeypatch, paths, figure, frame, content, expected
):
    given, output = paths["metrics"].with_stem(frame), paths["output"].with_stem(figure)
    if content is not None:
        given.write_text(content)
    arguments = ["--methods", paths["methods"], "--inputs", given, "--output", output]
    message = run_script(monkeypatch, *arguments)
    assert expected in message
    assert "\n" not in message
    assert not output.exists()
