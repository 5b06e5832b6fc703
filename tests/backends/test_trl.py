"""The drop-in for TRL's GRPOTrainer, and every loss of TRL's own: values, gradients, training."""

import tempfile
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("trl", reason="TRL is not installed (`make trl`)")

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from sspo.backends.trl import SSPOTrainer
from sspo.models.policy import save_model
from sspo.objectives.advantages import mask_off_policy
from support.loop_losses import ragged_batch, token_rows
from support.loss_cases import MASPO, MAX_TOKENS, PPO, VESPO, assert_same, loss_and_gradient
from support.runs import PROBLEMS, TOKENIZER, make_actors, weights

pytestmark = pytest.mark.trl

# TRL's losses as entries of the table. Traps: epsilon_high falls back to epsilon; the default loss_type is
# the token mean "dapo", so GSPO needs "grpo" beside importance_sampling_level="sequence", as LUSPO does;
# for CISPO epsilon_high is the cap itself, where ours is its distance from 1.
CLIP = {"epsilon": 0.2, "epsilon_high": 0.28}
NARROW = {"epsilon": 0.1, "epsilon_high": 0.15, "importance_sampling_level": "sequence"}
SINGLE = torch.tensor(1.05).item()  # TRL holds SAPO's temperatures in float32
LIBRARY = {
    "grpo": ("grpo", PPO, {"loss_type": "grpo", **CLIP}),
    "dapo": ("dapo", PPO, {"loss_type": "dapo", **CLIP}),
    "bnpo": ("dapo", PPO, {"loss_type": "bnpo", **CLIP}),
    "dr_grpo": ("dr_grpo", PPO, {"loss_type": "dr_grpo", **CLIP}),
    "gspo": ("gspo", {"clip_low": 0.1, "clip_high": 0.15}, {"loss_type": "grpo", **NARROW}),
    "luspo": ("luspo", {"clip_low": 0.1, "clip_high": 0.15}, {"loss_type": "luspo", **NARROW}),
    "cispo": ("cispo", {"clip_high": 0.28}, {"loss_type": "cispo", "epsilon_high": 1.28}),
    "sapo": ("sapo", {"tau_pos": 1.0, "tau_neg": SINGLE}, {"loss_type": "sapo"}),
    "vespo": ("vespo", VESPO, {"loss_type": "vespo"}),
}


def ours(name: str, max_tokens: int) -> tuple[str, dict]:
    objective, params, _ = LIBRARY[name]
    length = {"max_response_tokens": max_tokens} if objective == "dr_grpo" else {}
    return objective, params | length


def trl_loss(inputs, **settings):
    """GRPOTrainer._compute_loss and its gradient, with log-probabilities in place of a model's."""
    arguments = GRPOConfig(output_dir="unused", use_cpu=True, report_to="none", **settings)
    leaf = inputs.logprobs.clone().requires_grad_()
    high = arguments.epsilon if arguments.epsilon_high is None else arguments.epsilon_high
    trainer = SimpleNamespace(
        args=SimpleNamespace(**{**vars(arguments), "steps_per_generation": 1}),
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x
        ),
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=MAX_TOKENS,
        loss_type=arguments.loss_type,
        importance_sampling_level=arguments.importance_sampling_level,
        epsilon_low=arguments.epsilon,
        epsilon_high=high,
        off_policy_mask_threshold=arguments.off_policy_mask_threshold,
        beta=0.0,
        top_entropy_quantile=1.0,
        use_vllm=False,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
        get_gamma_weights=GRPOTrainer.get_gamma_weights,
        _get_per_token_logps_and_entropies=lambda *_, **__: (leaf, torch.zeros_like(leaf), None),
    )
    prompt = torch.ones(len(leaf), 1, dtype=torch.long)
    loss = GRPOTrainer._compute_loss(
        trainer,
        None,
        {
            "prompt_ids": prompt,
            "prompt_mask": prompt,
            "completion_ids": torch.ones(leaf.shape, dtype=torch.long),
            "completion_mask": inputs.mask.long(),
            "advantages": inputs.advantages,
            "old_per_token_logps": inputs.old_logprobs,
            "num_items_in_batch": inputs.mask.sum(),
        },
    )
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", LIBRARY)
def test_value_and_gradient_are_those_of_trl(name, seed):
    inputs = ragged_batch(seed, spread=0.5 if seed < 3 else 1.5)
    objective, params = ours(name, MAX_TOKENS)
    found = loss_and_gradient(objective, inputs, **params)
    assert found[1].any()
    assert_same(found, trl_loss(inputs, **LIBRARY[name][2]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("width", [(3e-4, 4e-4), (2e-3, 2.5e-3)])
@pytest.mark.parametrize("name", ["gspo", "luspo"])
def test_the_published_widths_are_those_of_trl(name, width):
    inputs = ragged_batch(2, spread=2e-3)
    settings = LIBRARY[name][2] | {"epsilon": width[0], "epsilon_high": width[1]}
    found = loss_and_gradient(name, inputs, clip_low=width[0], clip_high=width[1])
    assert_same(found, trl_loss(inputs, **settings), rtol=1e-12, atol=1e-14)


def test_vespo_has_trls_bounds_at_extreme_log_ratios():
    rows = [[30.0, -25.0], [-40.0, 0.0], [55.0, 0.0], [0.1, 0.2]]
    inputs = token_rows(rows * 2, [1.0] * 4 + [-1.0] * 4)
    found = loss_and_gradient("vespo", inputs, **VESPO)
    assert_same(found, trl_loss(inputs, loss_type="vespo"), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.2, 0.5])
def test_the_off_policy_mask_drops_the_responses_that_trl_drops(threshold):
    inputs = ragged_batch(1)
    exact = token_rows([[-threshold, -threshold], [threshold, threshold]], [-1.0, -1.0])
    for batch in (inputs, exact):
        logprobs, old, advantages, mask = batch
        kept = mask_off_policy(advantages, logprobs, old, mask, threshold)
        theirs = GRPOTrainer.get_off_policy_mask(
            advantages.unsqueeze(1), logprobs, old, mask, threshold
        )
        assert torch.equal(kept, advantages * theirs.squeeze(1))


@pytest.mark.parametrize("name", LIBRARY)
def test_a_masked_response_counts_in_the_mean_as_in_trl(name):
    inputs = ragged_batch(1)
    objective, params = ours(name, MAX_TOKENS)
    logprobs, old, advantages, mask = inputs
    kept = replace(inputs, advantages=mask_off_policy(advantages, logprobs, old, mask, 0.05))
    assert (kept.advantages != advantages).any()
    found = loss_and_gradient(objective, kept, **params)
    theirs = trl_loss(inputs, off_policy_mask_threshold=0.05, **LIBRARY[name][2])
    assert_same(found, theirs, rtol=1e-12, atol=1e-14)


# Training ----------------------------------------------------------------------------------------

TOKENS = 8


def reward(completion_ids, **_):
    return [float(sum(ids) % 3 == 0) for ids in completion_ids]


def make_trainer(kind, folder, changes=None, **chosen):
    """Of a rollout's two updates, each is two micro-batches."""
    save_model(make_actors().policy, TOKENIZER, f"{folder}/start")  # the KL term loads it again
    settings = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "steps_per_generation": 4,
        "num_generations": 4,
        "max_completion_length": TOKENS,
        "max_steps": 4,
        "learning_rate": 3e-3,
        "top_k": 0,
        "use_cpu": True,
        "bf16": False,
        "seed": 0,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    return kind(
        model=f"{folder}/start",
        reward_funcs=reward,
        args=GRPOConfig(output_dir=folder, **settings | (changes or {})),
        train_dataset=Dataset.from_list([{"prompt": str(p["prompt"])} for p in PROBLEMS]),
        processing_class=TOKENIZER,
        **chosen,
    )


def trained(kind, changes=None, **chosen):
    """Weights after two rollouts, and the trainer."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(kind, folder, changes, **chosen)
        trainer.train()
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()]), trainer


def masked_shares(trainer):
    return [e["objective/masked_responses"] for e in trainer.state.log_history if "loss" in e]


VARIANTS = {
    **{name: (name, {}) for name in LIBRARY if name != "bnpo"},
    "kl, responses": ("grpo", {"beta": 0.2}),
    "kl, tokens": ("dapo", {"beta": 0.2}),
    "kl, length": ("dr_grpo", {"beta": 0.2}),
    "off-policy mask": ("sapo", {"off_policy_mask_threshold": 0.01}),
    "entropy mask": ("grpo", {"top_entropy_quantile": 0.5}),
    "entropy bonus": ("sapo", {"entropy_coef": 0.1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_by_the_drop_in_leaves_the_weights_of_trls_own_loss(variant):
    name, changes = VARIANTS[variant]
    objective, params = ours(name, TOKENS)
    theirs, _ = trained(GRPOTrainer, changes | LIBRARY[name][2])
    found, trainer = trained(SSPOTrainer, changes, objective=objective, params=params)
    if "off_policy_mask_threshold" in changes:
        assert max(masked_shares(trainer)) > 0.0
    distance = (theirs - weights(make_actors())).norm()
    assert distance > 0.05
    assert (found - theirs).norm() < 1e-4 * distance


@pytest.mark.slow
def test_one_changed_line_trains_by_sspo():
    from sspo.backends.trl import SSPOTrainer as GRPOTrainer

    found, trainer = trained(GRPOTrainer)
    explicit = {"gate": "sigmoid", "tau_pos": 1.0, "tau_neg": 1.0}
    same, _ = trained(SSPOTrainer, objective="sspo", params=explicit)
    other, _ = trained(SSPOTrainer, objective="maspo", params=MASPO)
    assert torch.equal(found, same) and not torch.equal(found, other)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 4
    for entry in logged:
        assert entry["objective/masked_responses"] == 0.0
        assert not [key for key in entry if key.startswith("clip_ratio")]
    first, second, *_ = [entry["objective/sequence_weight"] for entry in logged]
    assert first == pytest.approx(1.0, abs=1e-5) and second != first


@pytest.mark.slow
def test_evaluation_and_the_share_of_masked_responses():
    changes = {"off_policy_mask_threshold": 0.0, "per_device_eval_batch_size": 4}
    _, trainer = trained(SSPOTrainer, changes)
    assert max(masked_shares(trainer)) > 0.0
    prompts = Dataset.from_list([{"prompt": str(p["prompt"])} for p in PROBLEMS[:2]])
    metrics = trainer.evaluate(prompts)
    assert metrics["eval_objective/sequence_weight"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [TOKENS, 1], ids=["token", "sequence"])
def test_what_vllm_sampled_with_corrects_and_masks_as_in_trl(tmp_path, columns):
    """Importance weights per token or per response, and tokens that vLLM could not score."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 12, (4, 2 * TOKENS), generator=generator)
    noise = torch.randn(2, 4, TOKENS, generator=generator)
    old = -3.0 + 0.3 * noise[0]
    sampled = old + 0.3 * noise[1]
    sampled[1, 3] = torch.nan
    inputs = {
        "prompt_ids": ids[:, :TOKENS],
        "prompt_mask": torch.ones(4, TOKENS, dtype=torch.long),
        "completion_ids": ids[:, TOKENS:],
        "completion_mask": (torch.arange(TOKENS) < torch.tensor([[8], [5], [3], [7]])).long(),
        "advantages": torch.tensor([1.0, -1.0, -0.5, 0.7]),
        "old_per_token_logps": old,
        "sampling_per_token_logps": sampled,
        "importance_sampling_ratio": torch.rand(4, columns, generator=generator) + 0.5,
        "num_items_in_batch": torch.tensor(23.0),
    }
    gradients = []
    for kind, chosen in ((GRPOTrainer, {}), (SSPOTrainer, {"objective": "grpo", "params": PPO})):
        changes = {"off_policy_mask_threshold": 0.2, **LIBRARY["grpo"][2]}
        trainer = make_trainer(kind, tmp_path, changes, **chosen)
        trainer.use_vllm, trainer.current_gradient_accumulation_steps = True, 1
        trainer.model.train()
        trainer._compute_loss(trainer.model, inputs).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)
    assert gradients[0].norm() > 0.01
    assert trainer._metrics["train"]["objective/masked_responses"] == [0.25]


def test_an_objective_that_cannot_run_is_refused_before_anything_is_loaded():
    with pytest.raises(ValueError, match="unknown objective 'spo'; choose one of grpo"):
        SSPOTrainer(objective="spo")
    with pytest.raises(ValueError, match="gspo needs the parameter 'clip_low'"):
        SSPOTrainer(objective="gspo", params={"clip_high": 0.1})
