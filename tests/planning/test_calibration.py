"""One measured step: short, of equal shares, with positive rates."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sspo.config.reading import parse
from sspo.config.run import RunConfig
from sspo.config.settings import ModelConfig
from sspo.data.tasks import CHARACTERS, SplitSpec, TraceStyle, make_splits
from sspo.models.policy import build_model, save_model
from sspo.models.tokenizer import character_tokenizer
from sspo.planning.calibration import MOST_RESPONSES, PROBLEMS, _problems, measure_step, shortened
from support.plans import TINY, expand
from support.published import saved


def test_rates_of_a_step_are_positive(tmp_path):
    tokenizer = character_tokenizer(CHARACTERS)
    model = build_model(
        ModelConfig(hidden_size=32, layers=2, heads=1, mlp_size=64, context=128),
        len(tokenizer),
        seed=0,
    )
    save_model(model, tokenizer, tmp_path)
    style, split = (
        TraceStyle(careful_author=0.1, careful_step=0.2, slip=0.8, noise=0.0),
        {"train": SplitSpec(size=3, min_operations=3, max_operations=5)},
    )
    problems = make_splits("chain", split, style, 0)["train"]
    rates = measure_step(
        parse(RunConfig, expand(TINY)["runs/sspo-s0"]), tmp_path, problems, learned=False
    )
    assert min(rates.sampled_per_second, rates.trained_per_second, rates.start_seconds) > 0
    assert 1 <= rates.response_tokens <= 50
    assert rates.parameters == model.num_parameters()
    assert rates.memory_gib > 0.1


def test_problems_to_measure_with_are_drawn_also_where_a_published_model_reads_the_task(tmp_path):
    saved(tmp_path / "mine")
    checkpoint = {"source": str(tmp_path / "mine"), "revision": ""}
    configs = expand(TINY, {"bases": {"mine": {"checkpoint": checkpoint}}})
    assert "max_response_tokens" in configs["data"]
    cost = SimpleNamespace(problems=tmp_path / "not made yet", configs=configs, data="data")
    assert len(_problems(cost)) == PROBLEMS


@pytest.mark.parametrize(
    ("prompts", "updates", "group"),
    [(32, 4, 8), (512, 64, 8), (512, 1, 16), (512, 4, 16), (4, 1, 300)],
)
def test_the_measured_step_is_short_and_of_equal_shares(prompts, updates, group):
    changes = {
        "rollout": {"prompts_per_step": prompts, "group_size": group},
        "train": {"updates_per_rollout": updates},
    }
    short = shortened(parse(RunConfig, expand(changes)["runs/sspo-s0"]))
    count = short.rollout.prompts_per_step
    assert count * group <= max(MOST_RESPONSES, 2 * group)
    assert count % short.train.updates_per_rollout == 0
    assert short.train.updates_per_rollout >= min(updates, 2)
