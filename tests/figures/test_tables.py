"""Tables hold the frames' own numbers, as Markdown, HTML and CSV, and text in them is never markup."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sspo.evidence.intervals import Interval, mean_interval
from sspo.evidence.page import NONE
from sspo.figures.markup import Table, as_csv, as_html, as_markdown, save
from sspo.figures.registry import TABLES, load
from sspo.figures.tables import shown_metrics, stands_out
from support.evidence_frames import evidence_frames

ROOT = next(parent for parent in Path(__file__).parents if (parent / "Snakefile").exists())
TEMPLATE = ROOT / "workflow/report/table.html"
METHODS = {
    "grpo": {"label": "GRPO", "color": "#0072b2"},
    "gspo": {"label": "GSPO", "color": "#56b4e9"},
    "gmpo": {"label": "GMPO", "color": "#009e73"},
    "sapo": {"label": "SAPO", "color": "#e69f00"},
    "sspo": {"label": "SSPO", "color": "#d55e00"},
    "dapo": {"label": "never run", "color": "#999999"},
}
RUN = list(METHODS)[:-1]
SETTINGS = [
    (np.nan, "train.learning_rate", "1e-4", "ours, chosen on the validation split"),
    (np.nan, "rollout.engine", "$x$ and $y$", np.nan),
    ("sspo", "tau_pos, tau_neg", "1.0, 1.05", "SAPO (arXiv 2511.20347)"),
]


def make_evaluations() -> pd.DataFrame:
    rows = [
        {"run": f"{m}-s{s}", "method": m, "regime": "main", "base": "base", "seed": s, "split": split,
         "metric": metric, "value": 0.5 + s / 100}
        for m in (*RUN, "supervised", "base")
        for s in range(1 if m == "base" else 3)
        for split in ("test", "hard_ones")
        for metric in ("pass@1", "greedy", "pass@2", "pass@8", "maj@8", "truncated")
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(low=lambda d: d["value"] - 0.04, high=0.9)


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    return {
        "evaluations": make_evaluations(),
        "settings": pd.DataFrame(SETTINGS, columns=["method", "key", "value", "source"]),
        **evidence_frames(RUN, ROOT / "workflow/claims.yaml"),
    }


def rows_of(table: Table, section: str) -> list[list[str]]:
    texts = table.texts()
    return texts[texts.iloc[:, 0] == section].iloc[:, 1:].to_numpy().tolist()


def bold_texts(table: Table) -> list[str]:
    columns = list(table.bold)
    return table.texts()[columns].where(table.bold).stack().dropna().tolist()


class Page(HTMLParser):
    """The tags of a page, the texts of its cells and of what is bold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.cells, self.bold, self.addresses = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        self.cells += [""] if tag in ("td", "th") else []

    def handle_data(self, data):
        if self.cells and self.tags[-1] in ("td", "th", "b", "i"):
            self.cells[-1] += data.strip()
            self.bold += [data] if self.tags[-1] == "b" else []


def test_benchmarks_have_t_intervals_over_seeds_and_that_over_problems_of_one_checkpoint(frames):
    table = load("t1_benchmarks")(frames, METHODS)
    differences = ["pass@1 \N{MINUS SIGN} GMPO", "greedy \N{MINUS SIGN} GMPO"]
    assert list(table.values)[2:] == ["n", "pass@1", "greedy", "pass@8", "maj@8", *differences]
    mean, low, high = (100 * end for end in mean_interval([0.50, 0.51, 0.52]))
    seeds = f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    first, second, *methods = rows_of(table, "hard ones")
    assert first == ["Base (before RL)", "1", *["50.0 [46.0, 90.0]"] * 4, NONE, NONE]
    none = "+0.0 [+0.0, +0.0]"
    assert second == ["Supervised only", "3", *[seeds] * 4, none, none]
    assert methods == [
        [METHODS[m]["label"], "3", *[seeds] * 4, *[NONE if m == "gmpo" else none] * 2] for m in RUN
    ]


def test_benchmarks_pool_base_models_and_pair_their_differences(frames):
    first = frames["evaluations"]
    second = first.assign(base="second", run="second-" + first["run"], value=first["value"] + 0.2)
    rng = np.random.default_rng(0)
    both = pd.concat([first, second], ignore_index=True)
    both.loc[both["method"] == "sspo", "value"] += 0.02 * rng.normal(
        size=(both["method"] == "sspo").sum()
    )
    table = load("t1_benchmarks")({"evaluations": both}, METHODS)
    rows = both.query("split == 'test' and metric == 'greedy'")
    values = rows.pivot_table(index=["base", "seed"], columns="method", values="value")
    found = table.values.query("split == 'test' and method == 'SSPO'").iloc[0]
    assert found["n"] == 6
    assert found["greedy"].mean == pytest.approx(100 * values["sspo"].mean())
    assert np.isnan(found["greedy"].low)
    expected = mean_interval(100 * (values["sspo"] - values["gmpo"]))
    assert found["greedy \N{MINUS SIGN} GMPO"] == pytest.approx(expected)
    assert table.values.query("split == 'test'").iloc[0]["n"] == 2  # base models before training


def test_benchmarks_of_several_regimes_stand_apart_each_beside_its_own_base_models(frames):
    first = frames["evaluations"]
    trained = first[first["method"] != "base"]
    both = pd.concat([first, trained.assign(regime="stale16", run="stale-" + trained["run"])])
    table = load("t1_benchmarks")({"evaluations": both}, METHODS)
    assert [*table.values["split"].unique()] == [
        "main: test", "main: hard ones", "stale16: test", "stale16: hard ones"]  # fmt: skip
    assert rows_of(table, "stale16: test")[0][:2] == ["Base (before RL)", "1"]


def test_what_was_not_measured_is_a_dash_and_one_run_without_interval_a_number(frames):
    evaluations = frames["evaluations"].copy()
    evaluations.loc[evaluations["metric"] == "maj@8", "value"] = np.nan
    evaluations.loc[evaluations["method"] == "base", ["low", "high"]] = np.nan
    table = load("t1_benchmarks")({"evaluations": evaluations}, METHODS)
    assert rows_of(table, "test")[0] == [
        "Base (before RL)", "1", "50.0", "50.0", "50.0", NONE, NONE, NONE]  # fmt: skip


def test_problems_that_no_model_was_asked_are_counted_below_the_benchmarks(frames):
    assert "Left out" not in load("t1_benchmarks")(frames, METHODS).note
    evaluations = frames["evaluations"].assign(left_out=np.nan)
    evaluations.loc[evaluations["split"] == "hard_ones", "left_out"] = 2
    table = load("t1_benchmarks")({"evaluations": evaluations}, METHODS)
    assert table.note.endswith(" Left out, as their prompts fill the context: hard ones 2.")
    assert "hard ones 2." in as_markdown(table) and "hard ones 2." in as_html(
        table, TEMPLATE.read_text()
    )


def test_an_interval_over_seeds_is_cut_at_0_and_100(frames):
    evaluations = frames["evaluations"].assign(value=lambda d: (d["value"] - 0.5) * 50)
    table = load("t1_benchmarks")({"evaluations": evaluations}, METHODS)
    (mean, low, high) = table.values["greedy"].iloc[1]
    assert (low, high) == (0.0, 100.0) and 0.0 < mean < 100.0


def test_benchmark_metrics_are_the_largest_k():
    names = ["maj@4", "pass@16", "pass@1", "pass@4", "response_tokens"]
    assert shown_metrics(names) == ["pass@1", "pass@16", "maj@4"]
    assert shown_metrics(["pass@1", "greedy"]) == ["pass@1", "greedy"]
    with pytest.raises(ValueError, match="none of pass@1"):
        shown_metrics(["response_tokens"])


def test_best_is_marked_only_where_intervals_separate():
    apart = {"a": Interval(0.9, 0.8, 1.0), "b": Interval(0.5, 0.4, 0.7)}
    unknown = Interval(np.nan, np.nan, np.nan)

    def best(intervals):
        marked = stands_out(pd.Series(intervals))
        return list(marked.index[marked])

    assert best(apart) == ["a"]
    assert best(apart | {"c": unknown}) == ["a"]
    assert best(apart | {"c": Interval(0.2, 0.0, 0.85)}) == []
    assert best({"a": apart["a"], "b": unknown}) == []
    assert best({"a": Interval(0.9, np.nan, np.nan), "b": apart["b"]}) == []


def test_only_a_value_above_all_others_of_its_split_is_bold(frames):
    evaluations = frames["evaluations"].copy()
    assert bold_texts(load("t1_benchmarks")(frames, METHODS)) == []
    best = (evaluations["method"] == "sspo") & (evaluations["split"] == "test")
    evaluations.loc[best & (evaluations["metric"] == "greedy"), "value"] += 0.45
    table = load("t1_benchmarks")({"evaluations": evaluations}, METHODS)
    (text,) = bold_texts(table)
    assert text in rows_of(table, "test")[-1]
    assert Page(as_html(table, TEMPLATE.read_text())).bold == [text]
    assert as_markdown(table).count(f"**{text}**") == 1


def test_the_factorial_table_holds_the_effects_of_every_regime(frames):
    table = load("t2_factorial")(frames, METHODS)
    found = [text for row in rows_of(table, "main: sequence-soft: SSPO") for text in row]
    assert found[:2] == ["area", "GSPO + GMPO"]
    assert len(table.values["sequence-soft"].unique()) == frames["runs"]["regime"].nunique()
    rows = frames["factorial"].query("regime == 'main' and sspo == 'sspo' and measure == 'area'")
    assert len(rows) == 9  # three contrasts for each filling of the sequence-hard cell
    for row in rows.itertuples():
        points = [100.0 * value for value in (row.effect, row.low, row.high)]
        assert "{:+.1f} [{:+.1f}, {:+.1f}]".format(*points) in found


def test_an_effect_without_pairs_is_a_dash(frames):
    missing = frames["factorial"].assign(effect=None, low=None, high=None, n=0)
    table = load("t2_factorial")({"factorial": missing}, METHODS)
    assert rows_of(table, "main: sequence-soft: SSPO")[0] == [
        "area",
        "GSPO + GMPO",
        "0",
        NONE,
        NONE,
        NONE,
    ]


def test_the_tuning_table_has_a_row_per_parameter_set_and_the_choice_in_bold(frames):
    table = load("t3_tuning")(frames, METHODS)
    assert list(table.values) == ["method", "parameters", "5e-05", "0.0001", "0.0002"]
    trials = frames["trials"].query("method == 'sapo'")
    by_rate = trials.pivot(index="params", columns="learning_rate", values="score")
    assert rows_of(table, "SAPO") == [
        [f"clip {clip}", *(f"{100.0 * score:.1f}" for score in by_rate.loc[f'{{"clip": {clip}}}'])]
        for clip in (0.2, 0.4)
    ]
    chosen = [f"{100.0 * score:.1f}" for score in frames["trials"].query("chosen")["score"]]
    assert bold_texts(table) == chosen


def test_a_trial_that_is_hardly_behind_the_chosen_one_is_a_tie(frames):
    trials = frames["trials"].query("method == 'sapo'").copy()
    best = trials.loc[trials["chosen"], "score"].item()
    others = trials.index[~trials["chosen"]]
    trials.loc[others, "score"] = best - 0.5
    trials.loc[others[0], "score"] = best - 0.019
    trials.loc[others[1], "score"] = best - 0.021
    table = load("t3_tuning")({**frames, "trials": trials}, METHODS)
    tie = f"{100 * (best - 0.019):.1f}"
    markdown = as_markdown(table)
    assert re.findall(r"(?<!\*)\*(\d+\.\d)\*(?!\*)", markdown) == [tie]
    assert f"<i>{tie}</i>" in as_html(table, TEMPLATE.read_text())
    assert markdown.count("**") == 4  # the name and the choice


def test_the_trials_of_several_regimes_are_told_apart(frames):
    trials = frames["trials"]
    both = pd.concat([trials, trials.assign(regime="stale16", score=trials["score"] / 2.0)])
    table = load("t3_tuning")({**frames, "trials": both}, METHODS)
    assert list(table.values)[:3] == ["regime", "method", "parameters"]
    (row,) = table.values.query(
        "regime == 'stale16' and method == 'SAPO' and parameters == 'clip 0.2'"
    ).to_dict("records")
    score = trials.query("method == 'sapo' and learning_rate == 1e-4").iloc[0]["score"]
    assert row["0.0001"] == pytest.approx(50.0 * score)


def test_the_settings_table_shows_every_value_as_given(frames):
    table = load("t4_settings")(frames, METHODS)
    assert rows_of(table, "all methods")[1] == ["rollout.engine", "$x$ and $y$", ""]
    assert rows_of(table, "SSPO") == [["tau_pos, tau_neg", "1.0, 1.05", "SAPO (arXiv 2511.20347)"]]


def test_the_outcome_table_has_means_over_all_runs_of_a_regime(frames):
    table = load("t5_outcomes")(frames, METHODS)
    assert list(table.values["regime"].unique()) == list(frames["runs"]["regime"].unique())
    assert [row[0] for row in rows_of(table, "stale16")] == [METHODS[m]["label"] for m in RUN]
    rows = frames["runs"].query("regime == 'main' and method == 'grpo'")
    found = rows_of(table, "main")[0]
    assert found[:2] == ["GRPO", str(len(rows))]
    for column in ("area", "late_rise", "final_kl", "drift", "grpo_clip_share"):
        assert f"{rows[column].mean():.3f}" in found
    assert f"{rows['test_response_tokens'].mean():.1f}" in found


@pytest.mark.parametrize("name", TABLES)
def test_every_form_of_a_table_has_every_text_of_it(name, frames):
    table = load(name)(frames, METHODS)
    texts = {text for text in table.texts().to_numpy().ravel() if text}
    page = Page(as_html(table, TEMPLATE.read_text()))
    assert texts <= set(page.cells)
    markdown = as_markdown(table).replace("\\", "").replace("**", "")
    assert all(text in markdown for text in [*texts, *list(table.values)[1:], table.note])
    frame = pd.read_csv(StringIO(as_csv(table)), keep_default_na=False)
    assert len(frame) == len(table.values)
    assert set(table.values) <= set(frame)


def test_csv_has_an_interval_as_three_numbers(frames):
    table = load("t1_benchmarks")(frames, METHODS)
    frame = pd.read_csv(StringIO(as_csv(table)))
    ends = frame[["pass@1", "pass@1 low", "pass@1 high"]]
    assert np.allclose(ends, [list(interval) for interval in table.values["pass@1"]], rtol=1e-5)


def test_a_page_needs_no_other_file_and_runs_no_text_of_its_table(frames):
    hostile = "<script>alert(1)</script> & <b>bold</b> | `code` {{ 7 * 7 }}"
    settings = pd.DataFrame(
        [("sspo", hostile, hostile, hostile)], columns=frames["settings"].columns
    )
    methods = {"sspo": {"label": hostile, "color": "#000000"}}
    table = load("t4_settings")({"settings": settings}, methods)
    page = Page(as_html(table, TEMPLATE.read_text()))
    assert page.cells[-4:] == [hostile] * 4
    assert page.tags.count("script") == 1 and page.bold == [] and page.addresses == []
    (line,) = [line for line in as_markdown(table).splitlines() if line.startswith("| \\<")]
    assert line.replace("\\|", "").count("|") == 4
    assert "`" not in line.replace("\\`", "") and "<" not in line.replace("\\<", "")


def test_a_page_fits_a_phone_and_finds_rows(frames):
    text = as_html(load("t4_settings")(frames, METHODS), TEMPLATE.read_text())
    assert 'name="viewport" content="width=device-width' in text
    assert Page(text).tags.count("input") == 1


def test_saving_twice_gives_the_same_bytes(frames, tmp_path):
    for name in TABLES:
        copies = [
            [
                path.read_bytes()
                for path in save(load(name)(frames, METHODS), folder / name, TEMPLATE)
            ]
            for folder in (tmp_path / "first", tmp_path / "second")
        ]
        assert copies[0] == copies[1]


def test_the_script_writes_three_forms_and_what_they_were_made_from(frames, tmp_path):
    methods, output = tmp_path / "methods.json", tmp_path / "tables/t5_outcomes.html"
    methods.write_text(json.dumps(METHODS))
    frames["runs"].to_csv(tmp_path / "runs.csv", index=False)
    arguments = ["--methods", methods, "--inputs", tmp_path / "runs.csv", "--template", TEMPLATE]
    # As a process of its own: its folder comes first on the path there, and could hide a library.
    command = [sys.executable, ROOT / "workflow/scripts/write_table.py", *arguments]
    subprocess.run([*command, "--output", output], check=True)
    assert output.read_text().startswith("<!doctype html>")
    assert output.with_suffix(".md").read_text().startswith("# Outcomes by regime\n")
    assert output.with_suffix(".csv").read_text().startswith("regime,method,n,area")
    record = json.loads(output.with_suffix(".json").read_text())
    assert {Path(path).suffix for path in record["outputs"]} == {".html", ".md", ".csv"}
    assert str(TEMPLATE) in record["inputs"]
    assert record["seeds"] == [0, 1, 2]
    assert "src/sspo/figures/tables.py" in record["code"]
