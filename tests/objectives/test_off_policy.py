"""The off-policy mask: which responses it takes the advantage from, and what that leaves of a loss."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sspo.objectives.advantages import mask_off_policy
from support.loop_losses import ragged_batch, token_rows
from support.loss_cases import CASES, every_case, run_case


def masked(inputs, threshold):
    logprobs, sampled, advantages, mask = inputs
    return mask_off_policy(advantages, logprobs, sampled, mask, threshold)


def test_a_response_pushed_down_beyond_the_threshold_loses_a_negative_advantage_alone():
    # The mean of log pi_sampled - log pi is 0.5, 0.5, -0.5, 0.5 and 0.25.
    rows = [[-1.0, 0.0], [-0.5, -0.5], [0.0, 1.0], [-1.0, 0.0], [-0.25, -0.25]]
    inputs = token_rows(rows, [-1.0, -0.125, -1.0, 0.125, -3.0])
    assert masked(inputs, 0.4).tolist() == [0.0, 0.0, -1.0, 0.125, -3.0]
    assert masked(inputs, 0.2).tolist() == [0.0, 0.0, -1.0, 0.125, 0.0]
    assert masked(inputs, 0.0).tolist() == [0.0, 0.0, -1.0, 0.125, 0.0]


def test_a_drift_of_exactly_the_threshold_is_kept():
    inputs = token_rows([[-0.5, -0.5]], [-1.0])
    assert masked(inputs, 0.5).tolist() == [-1.0]
    assert masked(inputs, 0.4999999).tolist() == [0.0]


def test_without_a_threshold_nothing_is_masked():
    inputs = token_rows([[-50.0]], [-1.0])
    assert masked(inputs, None) is inputs.advantages


def test_the_mean_is_over_a_responses_own_tokens():
    inputs = token_rows([[-0.4, -0.4, 0.0, 0.0]], [-1.0])
    half = replace(inputs, mask=torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    assert masked(inputs, 0.3).tolist() == [-1.0] and masked(half, 0.3).tolist() == [0.0]
    dirty = half.logprobs.masked_fill(half.mask == 0, -math.inf)
    assert masked(replace(half, logprobs=dirty), 0.5).tolist() == [-1.0]


def test_no_gradient_passes_through_the_mask():
    inputs = ragged_batch()
    leaf = inputs.logprobs.clone().requires_grad_()
    assert not masked(replace(inputs, logprobs=leaf), 0.1).requires_grad


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_kept_advantages_keep_their_bits_and_their_type(dtype):
    inputs = replace(ragged_batch(), advantages=ragged_batch().advantages.to(dtype))
    kept = masked(inputs, 0.1)
    assert kept.dtype == dtype and 0 < (kept != inputs.advantages).sum() < 6
    assert torch.equal(kept[kept != 0.0], inputs.advantages[kept != 0.0])


def test_mismatched_shapes_are_refused():
    inputs = ragged_batch()
    with pytest.raises(ValueError, match=r"must share one \(B, T\) shape"):
        masked(replace(inputs, old_logprobs=torch.zeros(6, 7)), 0.1)


@every_case
def test_a_masked_response_has_no_gradient_and_the_others_keep_theirs(case):
    inputs = ragged_batch(1)
    _, whole = run_case(case, inputs)
    kept = masked(inputs, 0.05)
    dropped = kept != inputs.advantages
    assert 0 < dropped.sum() < 3  # of three responses with A < 0
    loss, grad = run_case(case, replace(inputs, advantages=kept))
    assert torch.isfinite(loss) and (grad[dropped] == 0.0).all()
    assert torch.equal(grad[~dropped], whole[~dropped])
    # A clip of the whole response has stopped these before the mask does.
    assert CASES[case][0] in ("gspo", "luspo") or whole[dropped].any()
