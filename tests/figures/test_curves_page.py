"""The data of the interactive page: every run's own values, few enough, and a run's responses."""

import gzip
import json

import pandas as pd
import pytest

from sspo.config.errors import ConfigError
from sspo.figures import curves_page
from sspo.figures.curves_page import CHARACTERS, RESPONSES, SAMPLED_STEPS, curves_data, run_samples

METHODS = {
    "sspo": {"label": "SSPO", "color": "#D55E00"},
    "grpo": {"label": "GRPO", "color": "#0072B2"},
}


def metrics(steps=4, runs=(("grpo", 0), ("sspo", 0), ("sspo", 1), ("supervised", 0))):
    return pd.DataFrame(
        [
            {"run": f"{method}-s{seed}", "method": method, "regime": "main", "base": "base", "seed": seed,
             "step": step, "reward": step / 3 + seed, "pass@1": float("nan") if step % 2 else 0.5}
            for method, seed in runs for step in range(steps)
        ]
    )  # fmt: skip


def curve(data, run, measure):
    steps, values = data["runs"][run]["curves"][measure]
    return list(zip(data["steps"][steps], values, strict=True))


def test_a_run_has_every_measured_value_to_four_digits():
    data = curves_data({"metrics": metrics()}, METHODS)
    assert curve(data, "sspo-s1", "reward") == [(0, 1.0), (1, 1.333), (2, 1.667), (3, 2.0)]
    assert curve(data, "sspo-s1", "pass@1") == [(0, 0.5), (2, 0.5)]
    assert data["every"] == 1
    assert json.loads(json.dumps(data, allow_nan=False))["runs"].keys() == data["runs"].keys()


def test_methods_keep_their_order_and_colour_and_the_control_is_the_last():
    data = curves_data({"metrics": metrics()}, METHODS)
    assert [(name, look["color"]) for name, look in data["methods"].items()] == [
        ("sspo", "#D55E00"), ("grpo", "#0072B2"), ("supervised", curves_page.CONTROL_COLOR),
    ]  # fmt: skip


def test_runs_of_the_main_regime_come_first_in_the_order_of_methods():
    other = metrics(runs=[("grpo", 5)]).assign(run="grpo-again-s5", regime="again")
    data = curves_data({"metrics": pd.concat([other, metrics()])}, METHODS)
    assert [*data["runs"]] == ["sspo-s0", "sspo-s1", "grpo-s0", "supervised-s0", "grpo-again-s5"]


def test_a_method_without_a_look_and_a_measure_without_a_value_are_left_out():
    frame = metrics().assign(entropy=float("nan"))
    data = curves_data({"metrics": frame}, {"sspo": METHODS["sspo"]})
    assert {run["method"] for run in data["runs"].values()} == {"sspo", "supervised"}
    assert [*data["measures"]] == ["pass@1", "reward"]


def test_many_values_are_thinned_to_one_of_some_and_the_last(monkeypatch):
    monkeypatch.setattr(curves_page, "VALUES", 200)
    frame = metrics(steps=101, runs=[("grpo", 0), ("sspo", 0)])
    data = curves_data({"metrics": frame}, METHODS)
    assert data["every"] == 2  # 2 runs with 101 rewards and 51 validations: 304 values
    assert [step for step, _ in curve(data, "grpo-s0", "reward")] == [*range(0, 101, 2)]
    assert [step for step, _ in curve(data, "grpo-s0", "pass@1")] == [*range(0, 101, 4)]
    short = curves_data({"metrics": metrics(steps=200, runs=[("grpo", 0), ("sspo", 0)])}, METHODS)
    assert [step for step, _ in curve(short, "grpo-s0", "reward")][-2:] == [198, 199]


def test_an_infinite_value_is_a_gap():
    frame = metrics()
    frame.loc[frame["step"] == 2, "reward"] = float("inf")
    data = curves_data({"metrics": frame}, METHODS)
    assert curve(data, "grpo-s0", "reward")[2] == (2, None)


def write_rollouts(path, steps, text="answer"):
    records = [
        {"step": step, "prompt": f"problem {step}", "response": f"{text} {i}", "reward": float(i)}
        for step in range(1, steps + 1)
        for i in range(4)
    ]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    return path


@pytest.mark.parametrize("steps", [1, 3, SAMPLED_STEPS, 80])
def test_samples_span_training(tmp_path, steps):
    found = run_samples(write_rollouts(tmp_path / "rollouts.jsonl.gz", steps))
    chosen = [sample["step"] for sample in found]
    assert len(chosen) == min(steps, SAMPLED_STEPS)
    assert (chosen[0], chosen[-1]) == (1, steps) and chosen == sorted({*chosen})
    assert found[-1] == {
        "step": steps,
        "prompt": f"problem {steps}",
        "responses": [(f"answer {i}", float(i)) for i in range(RESPONSES)],
    }


def test_a_long_text_is_cut_and_says_so(tmp_path):
    (sample,) = run_samples(write_rollouts(tmp_path / "rollouts.jsonl.gz", 1, "long " * CHARACTERS))
    text, _ = sample["responses"][0]
    assert len(text) == CHARACTERS + 1 and text.endswith("\N{HORIZONTAL ELLIPSIS}")


def test_a_run_that_kept_no_responses_has_no_samples(tmp_path):
    assert run_samples(write_rollouts(tmp_path / "rollouts.jsonl.gz", 0)) == []


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"{", mtime=0)[:-9], gzip.compress(b"{}", mtime=0)],
    ids=["no gzip", "cut off", "no list"],
)
def test_broken_rollouts_are_refused_by_name(tmp_path, content):
    file = tmp_path / "rollouts.jsonl.gz"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"rollouts\.jsonl\.gz: not readable .*; delete it"):
        run_samples(file)
