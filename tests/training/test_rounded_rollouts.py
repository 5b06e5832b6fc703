"""Rollouts from rounded weights: whose log-probabilities they carry, what corrects them, resume."""

import copy

import pytest
import torch

from sspo.config.settings import ModelConfig
from sspo.models.policy import build_model, save_model
from sspo.models.rounding import round_weights
from sspo.models.weights import plain_weights
from sspo.rollout.engine import Sampling
from sspo.rollout.torch_engine import TorchEngine
from sspo.training.checkpoint import CheckpointStore
from sspo.training.metrics import RunLog
from sspo.training.setup import load_actors
from sspo.training.trainer import train
from support.runs import (
    PROBLEMS,
    TOKENIZER,
    make_actors,
    mixed_reward,
    read_metrics,
    run_config,
    run_training,
    weights,
)

ROUNDED = ("bfloat16", "float8_e4m3", "int8", "int4")


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("weights_dtype", ROUNDED)
def test_the_engine_samples_from_the_rounded_policy_and_leaves_the_policy_alone(
    weights_dtype, rank, tmp_path
):
    if rank:
        pytest.importorskip("peft")
    sizes = ModelConfig(hidden_size=32, layers=2, heads=1, mlp_size=64, context=64)
    save_model(build_model(sizes, len(TOKENIZER), seed=0), TOKENIZER, tmp_path)
    config = run_config(weights_dtype=weights_dtype, rank=rank)
    actors = load_actors(config, tmp_path, mixed_reward)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in actors.policy.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    before = weights(actors)
    actors.sync_engine()
    request = [[5, 9, 3], [4]], Sampling(12, 1.0, [1, 2])
    sampled = actors.engine.generate(*request)
    assert torch.equal(weights(actors), before)
    plain = build_model(sizes, len(TOKENIZER), seed=0)
    plain.load_state_dict(plain_weights(actors.policy))
    exact = TorchEngine(copy.deepcopy(plain), TOKENIZER).generate(*request)
    round_weights(plain, weights_dtype)
    assert sampled == TorchEngine(plain, TOKENIZER).generate(*request)
    assert sampled != exact


def test_the_gap_grows_with_the_coarseness_of_the_rounding(tmp_path):
    gaps = []
    for name in ("float32", "bfloat16", "float8_e4m3", "int4"):
        actors = make_actors(weights_dtype=name)
        run_training(tmp_path / name, run_config(weights_dtype=name), actors)
        gaps.append(read_metrics(tmp_path / name)[1]["engine_logprob_gap_mean"])
    assert gaps[0] < 1e-5
    assert 10 * gaps[0] < gaps[1] < gaps[2] < gaps[3]


def test_the_first_update_is_on_policy_and_later_ones_contain_the_gap_if_asked_for(tmp_path):
    drifts = {}
    for old in ("policy", "engine"):
        config = run_config(weights_dtype="int8", old_logprobs=old, learning_rate=1e-9)
        run_training(tmp_path / old, config, make_actors(weights_dtype="int8"))
        drifts[old] = read_metrics(tmp_path / old)[1]["log_ratio_rms"]
    assert drifts["policy"] < 1e-5 < 10 * drifts["policy"] < drifts["engine"]


@pytest.mark.parametrize("correction", ["none", "token", "sequence", "token_mask", "sequence_mask"])
def test_a_run_with_rounded_rollouts_resumes_to_the_same_bytes(tmp_path, correction):
    config = run_config(weights_dtype="float8_e4m3", correction=correction)
    actors = make_actors(weights_dtype="float8_e4m3")
    whole = run_training(tmp_path / "whole", config, actors)
    folder = tmp_path / "resumed"

    def stop(step, record, seconds):
        raise KeyboardInterrupt

    first = make_actors(weights_dtype="float8_e4m3")
    with pytest.raises(KeyboardInterrupt):
        train(config, first, PROBLEMS, CheckpointStore(folder, "f"), RunLog(folder), stop)
    resumed = run_training(folder, config, make_actors(weights_dtype="float8_e4m3"))
    assert torch.equal(weights(resumed), weights(whole))
    written = (folder / "metrics.jsonl").read_bytes()
    assert written == (tmp_path / "whole/metrics.jsonl").read_bytes()
