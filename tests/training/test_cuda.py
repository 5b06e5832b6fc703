"""Training on a GPU against the CPU, and against itself."""

import pytest
import torch

from sspo.config.settings import ModelConfig
from sspo.models.policy import build_model, save_model
from sspo.training.setup import load_actors
from support.runs import TOKENIZER, mixed_reward, read_metrics, run_config, run_training, weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def base(tmp_path):
    sizes = ModelConfig(hidden_size=32, layers=2, heads=1, mlp_size=64, context=64)
    save_model(build_model(sizes, len(TOKENIZER), seed=0), TOKENIZER, tmp_path / "base")
    return tmp_path / "base"


def trained(base, folder, device, **changes):
    config = run_config(**changes).changed(compute={"device": device})
    actors = run_training(folder, config, load_actors(config, base, mixed_reward))
    return read_metrics(folder), weights(actors).cpu()


@pytest.mark.parametrize("changes", [{}, {"dtype": "bfloat16"}, {"old_logprobs": "auto"}])
def test_a_run_repeats_its_metrics_and_weights(base, tmp_path, changes):
    (first, one), (second, other) = (
        trained(base, tmp_path / name, "cuda", **changes) for name in ("first", "second")
    )
    assert first == second
    assert torch.equal(one, other)


def test_the_first_step_is_that_of_the_cpu(base, tmp_path):
    (here, _), (there, _) = (
        trained(base, tmp_path / device, device, steps=1) for device in ("cpu", "cuda")
    )
    assert here[1]["reward"] == there[1]["reward"]
    for key in ("loss", "grad_norm", "entropy", "kl"):
        assert there[1][key] == pytest.approx(here[1][key], rel=1e-3, abs=1e-5)
    assert there[1]["engine_logprob_gap"] < 1e-3
