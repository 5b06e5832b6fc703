"""Statistics of a step against numpy, and the log of a run through crashes."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest
import torch

from sspo.training.metrics import RunLog, UpdateStats

B, T = 40, 13  # 13 columns, up to 12 tokens: the last column is padding for every row
QUADRANTS = ("pos_up", "pos_down", "neg_up", "neg_down")


def make_step(seed=0):
    """Tensors of one step: rows of different lengths, advantages of every sign, some clipped tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, T, size=B)
    mask = (np.arange(T) < lengths[:, None]).astype(np.float32)
    advantages = rng.choice([-1.5, -0.2, 0.0, 0.4, 2.0], size=B).astype(np.float32)
    log_ratio = rng.normal(scale=0.3, size=(B, T)).astype(np.float32)
    log_ratio[rng.random((B, T)) < 0.1] = 0.0
    coefficient = rng.normal(1.0, 0.5, size=(B, T)).astype(np.float32)
    coefficient[rng.random((B, T)) < 0.2] = 0.0
    coefficient[(mask == 0) | (advantages[:, None] == 0)] = np.nan
    weight = rng.lognormal(size=B).astype(np.float32)
    return log_ratio, coefficient, advantages, mask, weight


def pooled(step, parts):
    """``UpdateStats`` after adding the rows of a step in the given parts."""
    log_ratio, coefficient, advantages, mask, weight = map(torch.tensor, step)
    stats = UpdateStats()
    for rows in parts:
        stats.add(
            {"log_ratio": log_ratio[rows], "sequence_weight": weight[rows]},
            coefficient[rows],
            advantages[rows],
            mask[rows],
        )
    return stats


def test_summary_equals_numpy_on_all_tokens_of_responses_that_can_learn():
    step = make_step()
    log_ratio, coefficient, advantages, mask, weight = step
    learning = advantages != 0.0
    assert 0 < learning.sum() < B
    on = (mask == 1) & learning[:, None]
    weight = weight[learning]
    values = log_ratio[on].astype(np.float64)
    positive = np.broadcast_to(advantages[:, None] > 0, mask.shape)[on]
    negative = np.broadcast_to(advantages[:, None] < 0, mask.shape)[on]
    gradient = coefficient[on].astype(np.float64)
    lengths = np.broadcast_to(mask.sum(axis=1, keepdims=True), mask.shape)[on]
    size = np.abs(np.broadcast_to(advantages[:, None], mask.shape)[on])
    mass = np.abs(gradient) * size / lengths
    expected = {
        "log_ratio_min": values.min(),
        "log_ratio_p01": np.quantile(values, 0.01, method="nearest"),
        "log_ratio_p50": np.quantile(values, 0.5, method="nearest"),
        "log_ratio_p99": np.quantile(values, 0.99, method="nearest"),
        "log_ratio_max": values.max(),
        "log_ratio_var": values.var(),
        "log_ratio_rms": np.sqrt((values**2).mean()),
        "sequence_weight_min": weight.min(),
        "sequence_weight_max": weight.max(),
        "sequence_weight_var": weight.astype(np.float64).var(),
        "sequence_weight_distance": np.abs(weight - 1.0).mean(),
        "grpo_clip_share": (
            (positive & (np.exp(values) > 1.2)) | (negative & (np.exp(values) < 0.8))
        ).mean(),
        "clip_fraction": (gradient == 0).mean(),
        "coefficient_mean": gradient.mean(),
        "coefficient_pos_up": gradient[positive & (values > 0)].mean(),
        "coefficient_pos_down": gradient[positive & (values < 0)].mean(),
        "coefficient_neg_up": gradient[negative & (values > 0)].mean(),
        "coefficient_neg_down": gradient[negative & (values < 0)].mean(),
        "mass_pos_up": mass[positive & (values > 0)].sum() / mass.sum(),
        "mass_pos_down": mass[positive & (values < 0)].sum() / mass.sum(),
        "mass_neg_up": mass[negative & (values > 0)].sum() / mass.sum(),
        "mass_neg_down": mass[negative & (values < 0)].sum() / mass.sum(),
    }
    assert (
        mass[values == 0].sum() > 0.0
    )  # on neither side, so that the shares add up to less than 1
    assert pooled(step, [range(B)]).summary() == pytest.approx(expected, rel=1e-5)
    assert len({round(v, 6) for k, v in expected.items() if k.startswith("coefficient")}) == 5


@pytest.mark.parametrize("parts", [20, 7, 3])
def test_summary_does_not_depend_on_how_the_step_was_split(parts):
    step = make_step()
    whole = pooled(step, [range(B)]).summary()
    split = pooled(step, [range(i, B, parts) for i in range(parts)]).summary()
    assert split == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    "advantage, log_ratio, name",
    [
        (2.0, 0.1, "pos_up"),
        (2.0, -0.1, "pos_down"),
        (-2.0, 0.1, "neg_up"),
        (-2.0, -0.1, "neg_down"),
    ],
)
def test_a_token_counts_in_the_quadrant_of_its_advantage_and_ratio_only(advantage, log_ratio, name):
    summary = one_row([log_ratio], [0.7], advantage)
    quadrants = {k: v for k, v in summary.items() if k.count("_") == 2 and k.startswith("coeff")}
    assert quadrants.pop(f"coefficient_{name}") == pytest.approx(0.7)
    assert list(quadrants.values()) == [None] * 3


def one_row(log_ratio, coefficient, advantage, weight=1.0):
    stats = UpdateStats()
    stats.add(
        {"log_ratio": torch.tensor([log_ratio]), "sequence_weight": torch.tensor([weight])},
        torch.tensor([coefficient]),
        torch.tensor([advantage]),
        torch.ones(1, len(log_ratio)),
    )
    return stats.summary()


def test_a_ratio_of_one_is_on_neither_side():
    summary = one_row([0.0, 0.0], [1.0, 1.0], 1.0)
    assert summary["coefficient_mean"] == 1.0
    assert [summary[f"coefficient_{q}"] for q in QUADRANTS] == [None] * 4
    assert [summary[f"mass_{q}"] for q in QUADRANTS] == [0.0] * 4


def test_clip_fraction_counts_exact_zeros_among_tokens_that_can_learn():
    assert one_row([0.3] * 4, [0.0, 1e-30, 0.0, 1.0], 1.0)["clip_fraction"] == 0.5


@pytest.mark.parametrize(
    "advantage, ratios, share",
    [(1.0, [0.79, 1.19, 1.21, 9.0], 0.5), (-1.0, [0.79, 0.81, 1.3, 9.0], 0.25)],
)
def test_grpos_clip_cuts_where_a_token_has_moved_beyond_it_as_its_advantage_asks(
    advantage, ratios, share
):
    moved = [math.log(ratio) for ratio in ratios]
    assert one_row(moved, [1.0] * 4, advantage)["grpo_clip_share"] == share
    assert one_row(moved, [math.nan] * 4, 0.0)["grpo_clip_share"] is None


def test_the_distance_of_the_sequence_weights_counts_both_sides_of_one():
    stats = UpdateStats()
    for weight in (0.5, 1.25):
        one = {"log_ratio": torch.zeros(1, 1), "sequence_weight": torch.tensor([weight])}
        stats.add(one, torch.ones(1, 1), torch.ones(1), torch.ones(1, 1))
    assert stats.summary()["sequence_weight_distance"] == 0.375


def test_without_a_response_that_can_learn_every_statistic_is_null():
    summary = one_row([0.3, -0.3], [math.nan, math.nan], 0.0)
    assert summary.keys() == one_row([0.3], [1.0], 1.0).keys()
    assert {*summary.values()} == {None}
    json.dumps(summary, allow_nan=False)
    assert UpdateStats().summary() == summary  # not even scored


def test_quantiles_of_a_hundred_and_one_tokens_are_the_ranks():
    values = torch.randperm(101, generator=torch.Generator().manual_seed(0)).tolist()
    summary = one_row([float(v) for v in values], [1.0] * 101, 1.0)
    names = ("min", "p01", "p50", "p99", "max")
    assert [summary[f"log_ratio_{n}"] for n in names] == [0.0, 1.0, 50.0, 99.0, 100.0]


def test_padding_is_never_counted():
    log_ratio, coefficient, advantages, mask, weight = make_step()
    clean = pooled((log_ratio, coefficient, advantages, mask, weight), [range(B)]).summary()
    log_ratio, coefficient = log_ratio.copy(), coefficient.copy()
    log_ratio[mask == 0], coefficient[mask == 0] = 1e6, 0.0
    assert pooled((log_ratio, coefficient, advantages, mask, weight), [range(B)]).summary() == clean


# Log


def records(*steps):
    return [{"step": step, "value": step / 3} for step in steps]


@pytest.fixture
def log(tmp_path):
    log = RunLog(tmp_path / "run")
    log.rewind(None)
    return log


def read(log, name="metrics"):
    return [json.loads(line) for line in (log.folder / f"{name}.jsonl").read_text().splitlines()]


def test_records_are_appended_in_order(log):
    log.write("metrics", records(0, 1))
    log.write("metrics", [])
    log.write("metrics", records(2))
    assert read(log) == records(0, 1, 2)
    assert read(log, "rollouts") == []


def test_rewind_keeps_what_the_mark_saw_in_both_files(log):
    log.write("metrics", records(0, 1, 2))
    log.write("rollouts", records(1, 1, 2, 2))
    mark = json.loads(json.dumps(log.mark()))
    log.write("metrics", records(3, 4))
    log.write("rollouts", records(3, 3))
    assert log.holds(mark)
    log.rewind(mark)
    assert read(log) == records(0, 1, 2)
    assert read(log, "rollouts") == records(1, 1, 2, 2)
    log.write("metrics", records(3))
    assert read(log) == records(0, 1, 2, 3)


def test_rewind_to_the_end_changes_no_byte(log):
    log.write("metrics", records(0, 1, 2))
    before = (log.folder / "metrics.jsonl").read_bytes()
    log.rewind(log.mark())
    assert (log.folder / "metrics.jsonl").read_bytes() == before


def test_rewind_to_nothing_drops_everything(log):
    log.write("metrics", records(0, 1))
    log.rewind(None)
    assert read(log) == read(log, "rollouts") == []


@pytest.mark.parametrize("torn", ['{"step": 2, "val', "{", '{"value": 3}\n', "\0\0\0\n"])
def test_rewind_drops_a_torn_line_after_the_mark(log, torn):
    log.write("metrics", records(0, 1))
    mark = log.mark()
    with open(log.folder / "metrics.jsonl", "a") as file:
        file.write(torn)
    assert log.holds(mark)
    log.rewind(mark)
    assert read(log) == records(0, 1)


@pytest.mark.parametrize("name", ["metrics", "rollouts"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_log_damaged_before_the_mark_does_not_hold_it(log, name, damage):
    for each in ("metrics", "rollouts"):
        log.write(each, records(0, 1))
    mark = log.mark()
    path = log.folder / f"{name}.jsonl"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else path.read_bytes()[:-1])
    assert not log.holds(mark)


@pytest.mark.parametrize("mark", [None, {}, {"metrics": {"bytes": 0}}])
def test_a_mark_that_says_nothing_is_not_held(log, mark):
    assert not log.holds(mark)


def test_rewind_of_a_folder_without_logs_makes_an_empty_run(tmp_path):
    log = RunLog(tmp_path / "new" / "run")
    log.rewind(None)
    log.write("metrics", records(4))
    assert read(log) == records(4)


def test_published_bytes_depend_on_the_records_only(tmp_path, monkeypatch):
    published = []
    for name, now in (("a", 1e9), ("b", 2e9)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        log = RunLog(tmp_path / name)
        log.rewind(None)
        log.write("metrics", records(0, 1))
        log.write("rollouts", [{"step": 1, "response": "é#12\n"}])
        output = tmp_path / f"{name}-out"
        output.mkdir()
        log.publish(output)
        published.append({path.name: path.read_bytes() for path in output.iterdir()})
    assert published[0] == published[1]
    assert sorted(published[0]) == ["metrics.jsonl", "rollouts.jsonl.gz"]
    rollout = json.loads(gzip.decompress(published[0]["rollouts.jsonl.gz"]))
    assert rollout == {"step": 1, "response": "é#12\n"}
    assert published[0]["metrics.jsonl"].decode().splitlines() == [
        json.dumps(record) for record in records(0, 1)
    ]
