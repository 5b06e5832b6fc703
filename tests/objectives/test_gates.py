"""The gates against scipy's distributions, hand-derived weights and admissibility."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from sspo.objectives.gates import GATES, log_gate, pessimistic_log_gate
from support.loop_losses import (
    ALL_GATES,
    CDF_GATES,
    SMOOTH_GATES,
    SMOOTH_LOG_GATES,
    gate_value,
    gate_weight,
)

TAUS = (0.5, 1.0, 1.05, 4.0)
DISTRIBUTIONS = {"sigmoid": stats.logistic, "erf": stats.norm, "arctan": stats.cauchy}

every_gate = pytest.mark.parametrize("gate", ALL_GATES)
smooth_gate = pytest.mark.parametrize("gate", SMOOTH_GATES)
cdf_gate = pytest.mark.parametrize("gate", CDF_GATES)
every_tau = pytest.mark.parametrize("tau", TAUS)


def log_f(gate: str, log_ratio: torch.Tensor, tau: float) -> torch.Tensor:
    return log_gate(gate, log_ratio, torch.tensor(tau, dtype=log_ratio.dtype))


def log_slope(gate: str, log_ratio: torch.Tensor, tau: float) -> torch.Tensor:
    """d log f / d log r by autograd."""
    leaf = log_ratio.clone().requires_grad_()
    return torch.autograd.grad(log_f(gate, leaf, tau).sum(), leaf)[0]


def own_slope(gate: str, offset: torch.Tensor, tau: float) -> torch.Tensor:
    """Slope in the gate's own space: df/dr at r = 1 + offset, or d log f / d l at l = offset."""
    if gate.startswith("log_"):
        return log_slope(gate, offset, tau)
    log_ratio = torch.log1p(offset)
    leaf = log_ratio.clone().requires_grad_()
    (grad,) = torch.autograd.grad(log_f(gate, leaf, tau).exp().sum(), leaf)
    return grad / log_ratio.exp()


def grid(gate: str, count: int = 2001) -> tuple[torch.Tensor, torch.Tensor]:
    """Offsets from r = 1 (or l = 0), outwards: (left, right), both starting at exactly 0."""
    left_end = -6.0 if gate.startswith("log_") else -0.999
    left = torch.linspace(0.0, left_end, count, dtype=torch.float64)
    return left, torch.linspace(0.0, 6.0, count, dtype=torch.float64)


def softsign_cdf(u: float) -> float:
    return 0.5 * (1.0 + u / (1.0 + abs(u)))


def cdf_and_pdf_at_0(gate: str):
    if gate == "softsign":
        return softsign_cdf, 0.5
    return DISTRIBUTIONS[gate].cdf, DISTRIBUTIONS[gate].pdf(0.0)


def test_the_table_holds_exactly_the_documented_gates():
    assert set(GATES) == set(ALL_GATES)


# Admissibility ---------------------------------------------------------------------------------


@every_tau
@every_gate
def test_gate_is_positive_and_increasing(gate, tau):
    left, right = grid(gate)
    offsets = torch.cat([left.flip(0), right[1:]])
    log_ratio = offsets if gate.startswith("log_") else torch.log1p(offsets)
    f = log_f(gate, log_ratio, tau).exp()
    assert (f > 0).all() and torch.isfinite(f).all()
    rises = f.diff()
    assert (rises >= 0).all()
    if gate != "log_clip":
        # A float64 step can be lost once the slope is below the rounding of f itself.
        steep = own_slope(gate, offsets[:-1], tau) > 1e-10
        assert steep.sum() > 100 and (rises[steep] > 0).all()


@every_tau
@every_gate
def test_slope_is_one_at_ratio_one(gate, tau):
    at_one = own_slope(gate, torch.zeros(1, dtype=torch.float64), tau)
    assert at_one.item() == pytest.approx(1.0, abs=1e-14)


@every_tau
@smooth_gate
def test_slope_is_steepest_at_ratio_one_and_falls_strictly_on_both_sides(gate, tau):
    for side in grid(gate):
        slope = own_slope(gate, side, tau)
        assert slope[0] == slope.max()
        visible = slope[:-1] > 1e-10
        assert visible.sum() > 100
        assert (slope.diff()[visible] < 0).all()
        assert (slope > -1e-14).all()


@every_tau
@smooth_gate
def test_slope_is_continuous_everywhere_and_at_ratio_one(gate, tau):
    # Every family's slope is Lipschitz with a constant of at most 2 tau in its own space.
    for side in grid(gate, 20001):
        step = side.diff().abs().max()
        jumps = own_slope(gate, side, tau).diff().abs()
        assert jumps.max() <= 2.0 * tau * step * (1.0 + 1e-6)
    around = torch.tensor([-1e-9, 0.0, 1e-9], dtype=torch.float64)
    slopes = own_slope(gate, around, tau)
    assert (slopes - slopes[1]).abs().max() < 1e-6


@every_tau
@smooth_gate
def test_value_is_continuous_and_slope_is_its_derivative(gate, tau):
    x = torch.tensor([-3.0, -0.7, -1e-3, 0.0, 1e-3, 0.7, 2.0], dtype=torch.float64)
    h = 1e-5
    difference = (log_f(gate, x + h, tau) - log_f(gate, x - h, tau)) / (2 * h)
    torch.testing.assert_close(log_slope(gate, x, tau), difference, rtol=1e-4, atol=1e-8)


@every_tau
@smooth_gate
def test_slope_tends_to_zero_on_the_right(gate, tau):
    far = torch.tensor([1e1, 1e2, 1e3, 1e4], dtype=torch.float64) / tau
    slope = own_slope(gate, far, tau)
    assert (slope.diff() <= 1e-14).all() and slope[-1].abs() < 1e-7


@every_tau
@pytest.mark.parametrize("gate", SMOOTH_LOG_GATES)
def test_slope_tends_to_zero_on_the_left_in_log_space(gate, tau):
    slope = own_slope(gate, -torch.tensor([1e2, 1e4], dtype=torch.float64) / tau, tau)
    assert slope[1] <= slope[0] < 1e-3 and slope[1] < 1e-7


@cdf_gate
def test_slope_left_of_one_ends_at_the_density_of_minus_tau(gate):
    """Ratios end at 0, u at -tau: the slope gets as low as pdf(-tau)/pdf(0), and so to 0 in tau."""
    at_zero = []
    for tau in (1.0, 10.0, 100.0):
        slope = own_slope(gate, torch.tensor([-1.0 + 1e-9], dtype=torch.float64), tau).item()
        if gate == "softsign":
            expected = 1.0 / (1.0 + tau) ** 2
        else:
            expected = DISTRIBUTIONS[gate].pdf(-tau) / DISTRIBUTIONS[gate].pdf(0.0)
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-15)
        at_zero.append(slope)
    assert at_zero[0] > at_zero[1] > at_zero[2] and at_zero[2] < 1.1e-4


@every_tau
def test_log_clip_has_slope_one_inside_and_zero_outside(tau):
    scaled = torch.tensor([-5.0, -1.001, -0.999, -0.5, 0.0, 0.5, 0.999, 1.001, 5.0]).double()
    slope = log_slope("log_clip", scaled / tau, tau)
    assert slope.tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    expected = scaled.clamp(-1.0, 1.0) / tau
    torch.testing.assert_close(log_f("log_clip", scaled / tau, tau), expected, rtol=0, atol=1e-15)


@every_tau
def test_log_identity_returns_the_ratio_whatever_tau(tau):
    x = torch.linspace(-60, 60, 41, dtype=torch.float64)
    assert torch.equal(log_f("log_identity", x, tau), x)
    assert torch.equal(log_slope("log_identity", x, tau), torch.ones_like(x))


# Closed forms ----------------------------------------------------------------------------------

RATIOS = (1e-4, 0.05, 0.5, 0.8, 0.999, 1.0, 1.001, 1.2, 1.5, 2.0, 4.0, 30.0)


@every_tau
@cdf_gate
def test_ratio_space_gate_is_the_scaled_cdf(gate, tau):
    cdf, pdf_at_0 = cdf_and_pdf_at_0(gate)
    log_ratio = torch.tensor(RATIOS, dtype=torch.float64).log()
    expected = [cdf(tau * (r - 1.0)) / (tau * pdf_at_0) for r in RATIOS]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(log_f(gate, log_ratio, tau).exp(), expected, rtol=1e-12, atol=0)


@every_tau
@every_gate
def test_value_and_weight_equal_the_hand_derived_formulas(gate, tau):
    log_ratio = torch.tensor(RATIOS, dtype=torch.float64).log()
    value = torch.tensor([gate_value(gate, r, tau) for r in RATIOS], dtype=torch.float64)
    weight = torch.tensor([gate_weight(gate, r, tau) for r in RATIOS], dtype=torch.float64)
    torch.testing.assert_close(log_f(gate, log_ratio, tau).exp(), value, rtol=1e-12, atol=0)
    torch.testing.assert_close(log_slope(gate, log_ratio, tau), weight, rtol=1e-10, atol=1e-14)


@every_tau
@pytest.mark.parametrize("gate", (*SMOOTH_LOG_GATES, "log_identity", "log_clip"))
def test_log_space_gate_is_odd_and_one_at_ratio_one(gate, tau):
    x = torch.linspace(0.0, 20.0, 101, dtype=torch.float64)
    assert torch.equal(log_f(gate, -x, tau), -log_f(gate, x, tau))
    assert log_f(gate, x[:1], tau).item() == 0.0


@every_tau
@pytest.mark.parametrize(
    "gate, limit",
    [
        ("log_arctan", math.pi / 2),
        ("log_tanh", 1.0),
        ("log_erf", math.sqrt(math.pi) / 2),
        ("log_softsign", 1.0),
        ("log_clip", 1.0),
    ],
)
def test_log_space_gate_is_bounded_by_its_asymptote(gate, limit, tau):
    far = torch.tensor([50.0, 1e9], dtype=torch.float64)
    scaled = tau * log_f(gate, far, tau)
    assert scaled[1].item() == pytest.approx(limit, rel=1e-7)
    assert (scaled <= limit * (1.0 + 1e-15)).all()


@every_tau
@cdf_gate
def test_weight_at_ratio_one_is_tau_pdf_over_cdf_and_cancels_the_gate_value(gate, tau):
    cdf, pdf_at_0 = cdf_and_pdf_at_0(gate)
    zero = torch.zeros(1, dtype=torch.float64)
    weight, value = log_slope(gate, zero, tau), log_f(gate, zero, tau).exp()
    assert weight.item() == pytest.approx(tau * pdf_at_0 / cdf(0.0), rel=1e-13)
    assert (weight * value).item() == pytest.approx(1.0, rel=1e-13)


@pytest.mark.parametrize("ratio, relative", [(1.5, 1.13), (2.0, 1.08), (4.0, 0.38)])
def test_sigmoid_weight_relative_to_on_policy_peaks_above_ratio_one(ratio, relative):
    log_ratio = torch.tensor([ratio, 1.0], dtype=torch.float64).log()
    weight = log_slope("sigmoid", log_ratio, 1.0)
    assert round((weight[0] / weight[1]).item(), 2) == relative


# The pessimistic gate (ours) ---------------------------------------------------------------------


def pessimistic(gate: str, log_ratio: torch.Tensor, tau: float, positive: bool) -> torch.Tensor:
    tau = torch.tensor(tau, dtype=log_ratio.dtype)
    return pessimistic_log_gate(gate, log_ratio, tau, torch.tensor(positive))


@pytest.mark.parametrize("positive", (True, False))
@every_tau
@smooth_gate
def test_pessimistic_gate_is_the_ratio_against_the_advantage_and_c1_at_ratio_one(
    gate, tau, positive
):
    against = torch.linspace(0.0, 6.0, 61, dtype=torch.float64) * (-1.0 if positive else 1.0)
    assert torch.equal(pessimistic(gate, against, tau, positive), against)
    around = torch.tensor([-1e-7, 0.0, 1e-7], dtype=torch.float64, requires_grad=True)
    value = pessimistic(gate, around, tau, positive)
    (slope,) = torch.autograd.grad(value.sum(), around)
    torch.testing.assert_close(slope, torch.ones(3).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(value, around, rtol=0, atol=1e-12)


@every_tau
@smooth_gate
def test_pessimistic_gate_of_the_other_sign_is_its_mirror_image(gate, tau):
    x = torch.linspace(-3.0, 3.0, 61, dtype=torch.float64)
    mirrored = -pessimistic(gate, -x, tau, positive=False)
    assert torch.equal(pessimistic(gate, x, tau, positive=True), mirrored)


@pytest.mark.parametrize("positive", (True, False))
@pytest.mark.parametrize("tau", (0.1, 1.0, 10.0, 200.0))
@every_gate
def test_pessimistic_gate_stays_finite_in_float32_at_log_ratio_60(gate, tau, positive):
    x = torch.tensor([-60.0, -1.0, 0.0, 1.0, 60.0], requires_grad=True)
    value = pessimistic(gate, x, tau, positive)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert value.dtype == torch.float32
    assert torch.isfinite(value).all() and torch.isfinite(slope).all()


# Numbers and interface ---------------------------------------------------------------------------


@pytest.mark.parametrize("tau", (0.1, 1.0, 10.0, 200.0))
@every_gate
def test_value_and_weight_stay_finite_and_right_in_float32_at_log_ratio_50(gate, tau):
    x = torch.tensor([-60.0, -50.0, -20.0, -1e-6, 0.0, 1e-6, 20.0, 50.0, 60.0])
    assert x.dtype == torch.float32
    assert torch.isfinite(log_f(gate, x, tau)).all()
    # Far out a ratio-space gate passes next to nothing: r f'/f is below 1e-4 at r = e^-20 and e^20.
    closed = [
        0.0 if gate in CDF_GATES and abs(v) > 1 else gate_weight(gate, math.exp(v), tau)
        for v in x.tolist()
    ]
    torch.testing.assert_close(log_slope(gate, x, tau), torch.tensor(closed), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "gate, tau, expected",
    [
        ("sigmoid", 200.0, stats.logistic.logcdf(-200.0) + math.log(4.0 / 200.0)),
        ("erf", 50.0, stats.norm.logcdf(-50.0) + math.log(math.sqrt(2.0 * math.pi) / 50.0)),
        ("arctan", 1e12, math.log(1e-12 / 1e12)),
        ("softsign", 1e12, -math.log1p(1e12) - math.log(1e12)),
    ],
)
def test_log_gate_survives_where_the_float32_cdf_would_underflow_or_cancel(gate, tau, expected):
    log_ratio = torch.tensor([-50.0])
    assert log_f(gate, log_ratio, tau).item() == pytest.approx(expected, rel=1e-6)


@every_gate
def test_autograd_agrees_with_finite_differences(gate):
    x = torch.tensor([-4.0, -0.9, -0.3, 0.0, 0.2, 0.9, 3.0], dtype=torch.float64)
    tau = torch.tensor(1.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: log_gate(gate, v, tau), x.requires_grad_())


@every_gate
def test_tau_broadcasts_over_rows(gate):
    x = torch.linspace(-2, 2, 12, dtype=torch.float64).view(3, 4)
    tau = torch.tensor([[0.5], [1.0], [3.0]], dtype=torch.float64)
    rows = [log_gate(gate, x[i], tau[i]) for i in range(3)]
    torch.testing.assert_close(log_gate(gate, x, tau), torch.stack(rows), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@every_gate
def test_gate_keeps_dtype_and_shape(gate, dtype):
    out = log_gate(gate, torch.zeros(2, 3, dtype=dtype), torch.ones(2, 1, dtype=dtype))
    assert out.dtype == dtype and out.shape == (2, 3)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float32, torch.float64))
def test_pessimistic_gate_keeps_dtype_and_shape(dtype):
    log_ratio, tau = torch.zeros(2, 3, dtype=dtype), torch.ones(2, 1, dtype=dtype)
    out = pessimistic_log_gate("sigmoid", log_ratio, tau, torch.tensor([[True], [False]]))
    assert out.dtype == dtype and out.shape == (2, 3)


def test_unknown_gate_is_an_error_that_names_it_and_the_choices():
    with pytest.raises(
        ValueError, match=r"unknown gate 'sigmiod'; choose one of sigmoid, .*, log_clip$"
    ):
        log_gate("sigmiod", torch.zeros(1), torch.ones(1))
