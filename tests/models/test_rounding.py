"""Rounded weights against brute force over all numbers of a format, and what is left alone."""

import copy

import pytest
import torch

from sspo.config.errors import ConfigError
from sspo.models.rounding import round_weights, rounded_rows
from support.runs import make_actors

FORMATS = {
    "int8": torch.arange(-127.0, 128.0),
    "int4": torch.arange(-7.0, 8.0),
    "float8_e4m3": torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn).float(),
}


@pytest.mark.parametrize("weights_dtype", FORMATS)
def test_every_weight_is_the_nearest_multiple_of_its_rows_scale(weights_dtype):
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    weight *= torch.tensor([1e-3, 0.1, 1.0, 7.0, 1e3, 0.0]).unsqueeze(1)
    numbers = FORMATS[weights_dtype]
    numbers = numbers[numbers.isfinite()]
    scales = weight.abs().amax(dim=1, keepdim=True) / numbers.max()
    choices = (scales.unsqueeze(-1) * numbers).double()  # (6, 1, numbers)
    nearest = (choices - weight.unsqueeze(-1)).abs().amin(dim=-1)
    rounded = rounded_rows(weight, weights_dtype)
    torch.testing.assert_close((rounded - weight).abs().double(), nearest, rtol=1e-4, atol=1e-6)
    assert (rounded[5] == 0.0).all()
    assert (
        len({*rounded[2].tolist()}) < 50
    )  # of 50 numbers some became equal, or nothing was rounded


def test_scales_are_of_output_channels():
    weight = torch.tensor([[100.0, 1.0], [0.01, 0.013]])
    rounded = rounded_rows(weight, "int8")
    torch.testing.assert_close(rounded[1], weight[1], rtol=0.02, atol=0.0)


@pytest.mark.parametrize("weights_dtype", FORMATS)
def test_low_precision_formats_round_linear_layers_alone_and_bfloat16_rounds_everything(
    weights_dtype,
):
    model = make_actors().policy
    before = copy.deepcopy(model.state_dict())
    round_weights(model, weights_dtype)
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {n for n in before if "proj" in n}
    model.load_state_dict(before)
    round_weights(model, "bfloat16")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name].bfloat16().float())
    model.load_state_dict(before)
    round_weights(model, "float32")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_format_that_this_pytorch_lacks_is_refused_by_name(monkeypatch):
    monkeypatch.delattr(torch, "float8_e4m3fn")
    with pytest.raises(
        ConfigError, match=r"rollout\.weights_dtype = 'float8_e4m3': PyTorch 2"
    ) as e:
        make_actors(weights_dtype="float8_e4m3")
    assert "\n" not in str(e.value)


def test_a_model_without_linear_layers_is_refused():
    model = make_actors().policy
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(ConfigError, match="has no torch.nn.Linear to round; choose bfloat16"):
        round_weights(model, "int8")
