"""The verl backend: verl's signature, its scaling over ranks, and its own losses as a check."""

import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from sspo.backends.verl import policy_loss, register, response_advantages
from sspo.objectives.advantages import mask_off_policy
from sspo.objectives.losses import LOSSES
from support.paths import ROOT
from support.runs import PARAMS


def random_batch(rows=6, tokens=9, seed=0):
    """Drifted log-probabilities, broadcast advantages of both signs and 0, responses of any length."""
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(rows, tokens, generator=generator, dtype=torch.float64) * 3.0
    drift = 0.6 * torch.randn(rows, tokens, generator=generator, dtype=torch.float64)
    advantages = torch.tensor([1.2, -0.7, 0.4, -1.5, 0.0, 0.9], dtype=torch.float64)[:rows]
    lengths = torch.randint(1, tokens + 1, (rows, 1), generator=generator)
    mask = torch.arange(tokens) < lengths
    return old, (old + drift).requires_grad_(), advantages, mask


def evaluate(loss, batch, **options):
    """Value and gradient of a loss in verl's signature."""
    old, logprobs, advantages, mask = batch
    spread = advantages.unsqueeze(1) * mask
    value, metrics = loss(old, logprobs, spread, mask, **options)
    return value.item(), torch.autograd.grad(value, logprobs)[0], metrics


@pytest.mark.parametrize("name", LOSSES)
def test_a_whole_batch_has_the_loss_of_the_table(name):
    old, logprobs, advantages, mask = batch = random_batch()
    value, grad, metrics = evaluate(policy_loss(name, PARAMS[name]), batch)
    expected, stats = LOSSES[name](logprobs, old, advantages, mask, **PARAMS[name])
    assert value == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(grad, torch.autograd.grad(expected, logprobs)[0])
    assert metrics["actor/ppo_kl"] == pytest.approx((old - logprobs)[mask].mean().item())
    assert metrics["actor/sequence_weight"] == pytest.approx(stats["sequence_weight"].mean().item())


@pytest.mark.parametrize("name", LOSSES)
def test_ranks_and_micro_batches_add_up_to_the_global_batch(name):
    old, logprobs, advantages, mask = batch = random_batch()
    loss = policy_loss(name, PARAMS[name])
    whole, whole_grad, _ = evaluate(loss, batch)
    info = {"dp_size": 2, "global_batch_size": 6, "batch_num_tokens": mask.sum().item()}
    config = SimpleNamespace(global_batch_info=info)
    value, grads = 0.0, []
    for rows in ([0, 1], [2], [3, 4, 5]):  # two micro-batches of one rank, one of the other
        part = (old[rows], logprobs[rows].detach().requires_grad_(), advantages[rows], mask[rows])
        one, grad, _ = evaluate(loss, part, config=config)
        value += one / 2  # verl averages over ranks
        grads.append(grad / 2)
    assert value == pytest.approx(whole, rel=1e-12)
    torch.testing.assert_close(torch.cat(grads), whole_grad)


def test_advantages_are_those_of_the_first_response_token_even_after_a_gap():
    mask = torch.tensor([[0, 1, 1], [1, 0, 1], [0, 0, 0]])
    advantages = torch.tensor([[9.0, 2.0, 2.0], [-1.0, 9.0, -1.0], [0.0, 0.0, 0.0]])
    assert response_advantages(advantages, mask).tolist() == [2.0, -1.0, 0.0]


def test_advantages_that_vary_within_a_response_are_refused():
    with pytest.raises(ValueError, match=r"advantages vary within a response; set .* grpo"):
        response_advantages(torch.tensor([[1.0, 2.0]]), torch.ones(1, 2))


def test_importance_weights_of_the_rollout_are_refused():
    batch, weights = random_batch(), torch.ones(6, 9)
    with pytest.raises(ValueError, match="rollout_is_weights"):
        evaluate(policy_loss("gmpo", PARAMS["gmpo"]), batch, rollout_is_weights=weights)


def test_impossible_parameters_are_refused_when_a_loss_is_made():
    with pytest.raises(ValueError, match="sspo needs the parameter 'gate'"):
        policy_loss("sspo", {"tau_pos": 1.0, "tau_neg": 1.0})


def test_the_off_policy_mask_takes_a_response_out_and_is_counted():
    old, logprobs, advantages, mask = batch = random_batch(seed=1)
    kept = mask_off_policy(advantages, logprobs, old, mask, 0.05)
    dropped = kept != advantages
    assert 0 < dropped.sum() < 6
    value, grad, metrics = evaluate(policy_loss("sapo", PARAMS["sapo"], 0.05), batch)
    expected, _ = LOSSES["sapo"](logprobs, old, kept, mask, **PARAMS["sapo"])
    assert value == pytest.approx(expected.item(), rel=1e-12)
    assert not grad[dropped].any() and grad[~dropped].any()
    assert metrics["actor/masked_responses"] == pytest.approx(dropped.float().mean().item())


# verl's own losses, with the settings that make them the published ones. Traps: the actor's default
# token-mean would weigh GSPO's responses by their length; geo_mean inherits a clip of 0.2 where the paper
# has 0.4; vanilla's dual clip cuts A < 0 at r > 3 as well, so it is put out of reach; CISPO's weight is
# bounded from below as well, by 1 - clip_ratio_low, and 1.0 takes that bound away.

RESPONSES, TOKENS, LENGTH = "seq-mean-token-mean", "token-mean", "seq-mean-token-sum-norm"
PPO = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "clip_ratio_c": 1e9}
CLIP = {"clip_low": 0.2, "clip_high": 0.28}
VERL = {
    "grpo": ("vanilla", RESPONSES, PPO, CLIP),
    "dapo": ("vanilla", TOKENS, PPO, CLIP),
    "dr_grpo": (
        "vanilla",
        LENGTH,
        {**PPO, "global_batch_info": {"loss_scale_factor": 12}},
        {**CLIP, "max_response_tokens": 12},
    ),
    "gspo": (
        "gspo",
        RESPONSES,
        {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4},
        {"clip_low": 3e-4, "clip_high": 4e-4},
    ),
    "gmpo": ("geo_mean", "", {"clip_ratio_low": 0.4, "clip_ratio_high": 0.4}, {"clip": 0.4}),
    "sapo": ("sapo", "", {"tau_pos": 1.0, "tau_neg": 1.05}, {"tau_pos": 1.0, "tau_neg": 1.05}),
    "cispo": (
        "cispo",
        TOKENS,
        {"clip_ratio_low": 1.0, "clip_ratio_high": 0.28},
        {"clip_high": 0.28},
    ),
}


@pytest.fixture(scope="module")
def verl():
    """verl's table of losses and its actor config."""
    reason = "verl is not installed here; it has an environment of its own (`make test-verl`)"
    losses = pytest.importorskip("verl.trainer.ppo.core_algos", reason=reason, exc_type=ImportError)
    from verl.workers.config import ActorConfig

    return losses, ActorConfig


def verl_loss(verl, batch, mode, mean, settings):
    losses, actor_config = verl
    config = actor_config(strategy="fsdp", rollout_n=2, use_dynamic_bsz=True, **settings)
    return evaluate(losses.get_policy_loss_fn(mode), batch, loss_agg_mode=mean, config=config)


@pytest.mark.verl
def test_registered_losses_are_found_by_their_mode(verl):
    losses, _ = verl
    methods = {name: {"objective": name, "params": PARAMS[name]} for name in LOSSES}
    methods["masked"] = methods["sspo"] | {"train": {"off_policy_threshold": 0.05}}
    modes = register(methods)
    assert "sspo/sspo" in modes and len(modes) == len(LOSSES) + 1
    batch = random_batch(seed=1)
    for name, mode in zip(LOSSES, modes, strict=False):
        found = evaluate(losses.get_policy_loss_fn(mode), batch)
        assert found[0] == evaluate(policy_loss(name, PARAMS[name]), batch)[0]
    *_, metrics = evaluate(losses.get_policy_loss_fn("sspo/masked"), batch)
    assert metrics["actor/masked_responses"] > 0.0


@pytest.mark.verl
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", VERL)
def test_value_and_gradient_are_those_of_verl(verl, name, seed):
    mode, mean, settings, params = VERL[name]
    batch = random_batch(seed=seed)
    theirs = verl_loss(verl, batch, mode, mean, settings)
    ours = evaluate(policy_loss(name, params), batch)
    # verl adds 1e-8 to the number of tokens.
    assert math.isfinite(ours[0]) and ours[0] == pytest.approx(theirs[0], rel=1e-6)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-6, atol=1e-9)


@pytest.mark.verl
def test_verls_cispo_also_bounds_the_weight_from_below(verl):
    batch = random_batch()
    old, logprobs, _, mask = batch
    settings = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28}
    _, theirs, _ = verl_loss(verl, batch, "cispo", TOKENS, settings)
    _, ours, _ = evaluate(policy_loss("cispo", {"clip_high": 0.28}), batch)
    below = ((logprobs - old).exp() < 0.8) & mask & (ours != 0.0)
    assert below.any()
    torch.testing.assert_close(ours[~below], theirs[~below], rtol=1e-6, atol=1e-12)
    assert (theirs[below].abs() > ours[below].abs()).all()


@pytest.mark.verl
@pytest.mark.slow
@pytest.mark.usefixtures("verl")
def test_the_example_is_found_by_every_process_that_imports_verl():
    """The variable that verl reads at its import, and the three lines of the example."""
    code = (
        "from verl.trainer.ppo.core_algos import get_policy_loss_fn as get; print(get('sspo/sspo'))"
    )
    paths = os.pathsep.join([str(ROOT / "examples"), *sys.path])
    external = {"PYTHONPATH": paths, "VERL_USE_EXTERNAL_MODULES": "verl_losses"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **external}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "policy_loss" in done.stdout
