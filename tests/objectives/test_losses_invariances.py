"""What must not change a loss: padding, order, micro-batches, precision, masked content."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sspo.objectives.losses import LOSSES, token_coefficients
from support.loop_losses import Inputs, loop_loss, ragged_batch, token_rows
from support.loss_cases import CASES, assert_same, every_case, run_case, stats_of

# Invariances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", (math.nan, math.inf, -math.inf, 1e30))
@every_case
def test_content_of_masked_positions_changes_neither_loss_nor_gradient(case, garbage):
    inputs = ragged_batch()
    loss, grad = run_case(case, inputs)
    padding = inputs.mask == 0
    for dirty in ("logprobs", "old_logprobs"):
        clean = getattr(inputs, dirty)
        spoiled = replace(inputs, **{dirty: clean.masked_fill(padding, garbage)})
        spoiled_loss, spoiled_grad = run_case(case, spoiled)
        assert torch.equal(spoiled_loss, loss) and torch.equal(spoiled_grad, grad)
        for key, value in stats_of(case, spoiled).items():
            assert torch.equal(value, stats_of(case, inputs)[key])
    assert (grad[padding] == 0.0).all()


@every_case
def test_appended_masked_tokens_change_neither_loss_nor_gradient(case):
    inputs = ragged_batch()
    pad = torch.nn.functional.pad
    longer = Inputs(
        pad(inputs.logprobs, (0, 5), value=-3.0),
        pad(inputs.old_logprobs, (0, 5), value=-1.0),
        inputs.advantages,
        pad(inputs.mask, (0, 5)),
    )
    loss, grad = run_case(case, longer)
    assert (grad[:, 8:] == 0.0).all()
    assert_same((loss, grad[:, :8]), run_case(case, inputs), rtol=1e-13)


@every_case
def test_masked_tokens_inside_a_response_act_as_if_absent(case):
    """Left padding and gaps: only the mask says what counts."""
    inputs = ragged_batch()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    mixed = Inputs(*(t[:, order] if t.ndim == 2 else t for t in inputs))
    loss, grad = run_case(case, mixed)
    assert_same((loss, grad[:, order.argsort()]), run_case(case, inputs), rtol=1e-12)


@every_case
def test_batch_order_changes_neither_loss_nor_gradient(case):
    inputs = ragged_batch()
    order = torch.tensor([3, 5, 0, 2, 4, 1])
    loss, grad = run_case(case, inputs.rows(order))
    expected_loss, expected_grad = run_case(case, inputs)
    assert_same((loss, grad), (expected_loss, expected_grad[order]), rtol=1e-13)
    for key, value in stats_of(case, inputs.rows(order)).items():
        torch.testing.assert_close(value, stats_of(case, inputs)[key][order], rtol=1e-14, atol=0)


@pytest.mark.parametrize("sizes", ([1, 2, 3], [4, 2], [1] * 6))
@every_case
def test_micro_batches_weighted_by_unit_reproduce_loss_gradient_and_stats(case, sizes):
    inputs = ragged_batch(4)
    name, _ = CASES[case]
    pieces = [inputs.rows(part) for part in torch.arange(6).split(sizes)]
    token = LOSSES[name].over == "tokens"
    counts = [p.mask.sum().item() if token else len(p.advantages) for p in pieces]
    results = [run_case(case, piece) for piece in pieces]
    shares = [count / sum(counts) for count in counts]
    loss = sum(share * piece for share, (piece, _) in zip(shares, results, strict=True))
    grad = torch.cat([share * piece for share, (_, piece) in zip(shares, results, strict=True)])
    expected = run_case(case, inputs)
    assert_same((loss, grad), expected, rtol=1e-12)
    for key, value in stats_of(case, inputs).items():
        parts = torch.cat([stats_of(case, piece)[key] for piece in pieces])
        torch.testing.assert_close(parts, value, rtol=1e-14, atol=0)


@every_case
def test_zero_advantages_give_exactly_zero_gradient(case):
    inputs = replace(ragged_batch(spread=2.0), advantages=torch.zeros(6).double())
    loss, grad = run_case(case, inputs)
    assert loss.item() == 0.0 and torch.equal(grad, torch.zeros_like(grad))


@every_case
def test_the_tokens_of_a_zero_advantage_response_do_not_matter(case):
    inputs = ragged_batch()
    loss, grad = run_case(case, inputs)
    moved = inputs.logprobs.clone()
    moved[3] -= 2.0
    assert inputs.advantages[3] == 0.0 and (grad[3] == 0.0).all()
    assert_same(run_case(case, replace(inputs, logprobs=moved)), (loss, grad), rtol=0, atol=0)


# Numbers -----------------------------------------------------------------------------------------


@every_case
def test_loss_and_gradient_are_finite_in_float32_at_log_ratio_50(case):
    patterns = [[50.0] * 4, [-50.0] * 4, [50.0, -50.0, 50.0, -50.0], [0.0, 0.0, 50.0, -50.0]]
    inputs = token_rows(patterns * 3, [1.0] * 4 + [-1.0] * 4 + [0.0] * 4).to(torch.float32)
    loss, grad = run_case(case, inputs)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss) and torch.isfinite(grad).all()
    assert all(torch.isfinite(value).all() for value in stats_of(case, inputs).values())


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-12), (torch.float32, 3e-5)])
@every_case
def test_loss_equals_the_plain_python_loop_at_log_ratio_50(case, dtype, rtol):
    """Nothing between the bound of 60 and zero is cut off but by the objective itself."""
    name, params = CASES[case]
    for row in ([50.0, 50.0], [-50.0, -50.0], [50.0, -20.0], [-50.0, 10.0]):
        for advantage in (1.0, -1.0):
            inputs = token_rows([row], [advantage])
            loss, _ = run_case(case, inputs.to(dtype))
            expected = loop_loss(name, inputs, **params)
            smallest = torch.finfo(dtype).tiny  # with all its digits
            assert loss.item() == pytest.approx(expected, rel=rtol, abs=smallest)


@every_case
def test_log_ratios_beyond_the_bound_stay_finite(case):
    inputs = token_rows([[300.0, 0.0], [-300.0, 0.0]] * 2, [1.0, 1.0, -1.0, -1.0])
    loss, grad = run_case(case, inputs.to(torch.float32))
    assert torch.isfinite(loss) and torch.isfinite(grad).all()


@every_case
def test_a_log_ratio_beyond_60_nats_counts_as_60(case):
    inputs = token_rows([[300.0, 0.0], [-300.0, 0.0]] * 2, [1.0, 1.0, -1.0, -1.0])
    at_the_bound = token_rows([[60.0, 0.0], [-60.0, 0.0]] * 2, [1.0, 1.0, -1.0, -1.0])
    for key, value in stats_of(case, inputs).items():
        torch.testing.assert_close(value, stats_of(case, at_the_bound)[key], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
@every_case
def test_half_precision_inputs_are_computed_in_float32(case, dtype):
    inputs = ragged_batch().to(dtype)
    loss, grad = run_case(case, inputs)
    expected_loss, expected_grad = run_case(case, inputs.to(torch.float32))
    assert loss.dtype == torch.float32 and grad.dtype == dtype
    assert torch.equal(loss, expected_loss)
    assert torch.equal(grad, expected_grad.to(dtype))
    assert all(v.dtype == torch.float32 for v in stats_of(case, inputs).values())


@every_case
def test_float64_stays_float64(case):
    inputs = ragged_batch()
    loss, grad = run_case(case, inputs)
    assert loss.dtype == grad.dtype == torch.float64
    assert all(v.dtype == torch.float64 for v in stats_of(case, inputs).values())
    single, _ = run_case(case, inputs.to(torch.float32))
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("dtype", (torch.bool, torch.int64, torch.float32))
@every_case
def test_mask_may_have_any_dtype(case, dtype):
    inputs = ragged_batch()
    recast = replace(inputs, mask=inputs.mask.to(dtype))
    assert_same(run_case(case, recast), run_case(case, inputs), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.int64, torch.float32))
@every_case
def test_advantages_may_have_any_dtype(case, dtype):
    inputs = replace(ragged_batch(), advantages=torch.tensor([1, -1, 2, 0, -2, 1]).double())
    recast = replace(inputs, advantages=inputs.advantages.to(dtype))
    assert_same(run_case(case, recast), run_case(case, inputs), rtol=0, atol=0)


@every_case
def test_a_mask_of_half_precision_counts_every_token(case):
    """bfloat16 has no 1001: counted in it, a response of that length would have 1000 tokens."""
    inputs = token_rows([[0.1] * 1001], [1.0])
    recast = replace(inputs, mask=inputs.mask.bfloat16())
    assert_same(run_case(case, recast), run_case(case, inputs), rtol=0, atol=0)
    assert LOSSES["dapo"].units(recast.mask) == 1001
    grad = torch.full_like(inputs.logprobs, -1.0 / 1001)
    coefficients = token_coefficients(grad, inputs.advantages, recast.mask)
    torch.testing.assert_close(coefficients, torch.ones_like(grad))


@every_case
def test_a_response_without_tokens_has_no_gradient_and_changes_no_other(case):
    inputs = ragged_batch()
    mask = inputs.mask.clone()
    mask[2] = 0.0
    others = [i for i in range(len(mask)) if i != 2]
    loss, grad = run_case(case, replace(inputs, mask=mask))[:2]
    _, expected = run_case(case, type(inputs)(*(tensor[others] for tensor in inputs)))[:2]
    share = 1.0 if LOSSES[CASES[case][0]].over == "tokens" else len(others) / len(mask)
    assert torch.isfinite(loss)
    torch.testing.assert_close(grad[others], share * expected)
    assert not grad[2].any()


@every_case
def test_the_precision_is_that_of_the_new_logprobs(case):
    inputs = ragged_batch().to(torch.float32)
    recast = replace(inputs, old_logprobs=inputs.old_logprobs.double())
    assert_same(run_case(case, recast), run_case(case, inputs), rtol=0, atol=0)
    assert all(v.dtype == torch.float32 for v in stats_of(case, recast).values())
