"""What training depends on, key by key: type, range, meaning, and which values go together.

Every value stands in a profile (``config/*.yaml``), none here. The sections below are parts of a profile
(``sspo.config.profile``) and of the config files that ``write_config`` makes of it.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from sspo.config.reading import JsonDict, Section, optional_setting, refuse, setting
from sspo.config.types import Betas


class ModelConfig(Section):
    """The Qwen3 model that is trained from scratch."""

    hidden_size: int = setting("width", ge=1)
    layers: int = setting("transformer layers", ge=1)
    heads: int = setting("attention heads", ge=1)
    mlp_size: int = setting("width of the feed-forward layer", ge=1)
    context: int = setting("longest prompt and response together, in tokens", ge=1)

    @model_validator(mode="after")
    def _heads_have_an_even_size(self) -> Self:
        if self.hidden_size % (2 * self.heads):
            raise refuse(
                f"hidden_size = {self.hidden_size} must be a multiple of 2 x heads = {2 * self.heads}; "
                "heads need an even size"
            )
        return self


class ComputeConfig(Section):
    """Where and how to compute."""

    device: str = setting("torch device", pattern="^(cpu|cuda(:[0-9]+)?)$")
    dtype: Literal["float32", "bfloat16"] = setting(
        "precision of matrix products and sampling; weights in training are float32, a run's final "
        "weights are saved in it"
    )
    threads: int = setting("CPU threads per run, part of the result's bits", ge=1)


class SupervisedConfig(Section):
    """Next-token training on worked solutions: the warm-up, and the supervised-only control."""

    steps: int = setting("optimizer updates", ge=1)
    batch_size: int = setting("solutions per update", ge=1)
    micro_batch: int = setting(
        "solutions per forward pass; changes memory and speed, not gradients", ge=1
    )
    learning_rate: float = setting("peak learning rate", gt=0)
    schedule: Literal["cosine", "constant"] = setting(
        "cosine decays to 0 after the warm-up, constant holds the peak"
    )
    warmup_steps: int = setting("updates of linear rise from 0", ge=0)
    betas: Betas = setting("AdamW betas")
    weight_decay: float = setting("AdamW weight decay", ge=0)
    max_grad_norm: float = setting("gradient norm clip", gt=0)
    log_every: int = setting("updates between records", ge=1)
    eval_every: int = setting("updates between validations; 0 validates at the end only", ge=0)


class ObjectiveConfig(Section):
    """A key of ``sspo.objectives.LOSSES`` and its keyword arguments."""

    name: str = setting("a key of LOSSES in src/sspo/objectives/losses.py")
    params: JsonDict = setting("the objective's keyword arguments")


class AdvantageConfig(Section):
    """How group rewards become advantages."""

    normalize_std: bool = setting("divide by the group's standard deviation")


class TrainConfig(Section):
    """The reinforcement-learning loop."""

    steps: int = setting("rollouts", ge=1)
    updates_per_rollout: int = setting(
        "optimizer updates per rollout, each on an equal share of its prompts", ge=1
    )
    epochs: int = optional_setting(
        "how often a rollout is gone through, from the second time on in a new order; left out, once",
        default=1,
        ge=1,
    )
    learning_rate: float = setting("AdamW learning rate, constant after the warm-up", gt=0)
    warmup_updates: int = setting("updates of linear rise from 0", ge=0)
    betas: Betas = setting("AdamW betas")
    weight_decay: float = setting("AdamW weight decay", ge=0)
    max_grad_norm: float = setting("gradient norm clip", gt=0)
    kl_coefficient: float = setting(
        "weight of the KL term to the initial policy; 0 leaves it out", ge=0
    )
    off_policy_threshold: float | None = setting(
        "responses with A < 0 contribute nothing once their mean log-ratio to the sampling policy is "
        "below minus this, in nats (off-policy sequence masking); left out, none is masked",
        default=None,
        ge=0,
    )
    micro_batch: int = setting(
        "most responses per forward pass; changes memory, not gradients", ge=1
    )
    micro_batch_tokens: int = setting(
        "most tokens per forward pass, prompts and padding included; 0 for no limit", ge=0
    )
    gradient_checkpointing: bool = setting(
        "compute activations again in the backward pass to save memory"
    )
    chunk_tokens: int = setting(
        "response tokens projected to the vocabulary at a time; bounds memory", ge=1
    )
    eval_every: int = setting("steps between validations", ge=1)
    kl_every: int = setting(
        "steps between KL measurements; 0 for none, which saves a copy of the model", ge=0
    )
    checkpoint_every: int = setting("steps between saved states to resume from", ge=1)
    keep_rollouts: int = setting("responses per step kept in rollouts.jsonl.gz for reading", ge=0)

    @model_validator(mode="after")
    def _a_kl_term_needs_the_initial_policy(self) -> Self:
        if self.kl_coefficient > 0.0 and self.kl_every == 0:
            raise refuse(
                f"kl_coefficient = {self.kl_coefficient} needs the initial policy that kl_every = 0 "
                "leaves out; set kl_every to 1 or more"
            )
        return self


class LoraConfig(Section):
    """Low-rank adapters in place of all weights (peft)."""

    rank: int = setting("rank of the adapters; 0 trains all weights", ge=0)
    alpha: float = setting("adapters count alpha / rank times", gt=0)


class ValidationConfig(Section):
    """The small evaluation during training: greedy and sampled pass@1 on the validation split."""

    problems: int = setting("problems of the validation split", ge=1)
    samples: int = setting("samples per problem beside the greedy one", ge=1)


class RewardConfig(Section):
    """What makes a response right; all keys but the name concern ``math`` and ``reasoning_gym`` alone."""

    name: Literal["exact", "math", "number", "reasoning_gym"] = setting(
        "exact compares what follows the last #, math compares what LaTeX answers mean, number the last "
        "number, and reasoning_gym asks the scorer of the problem's generator"
    )
    time_limit: float = setting("CPU seconds of one comparison (math, reasoning_gym)", gt=0)
    memory_mb: int = setting(
        "address space of a checker process in MiB (math, reasoning_gym); its imports need 120 to 200",
        ge=256,
    )
    max_characters: int = setting(
        "longest answer that is read (math, reasoning_gym)", ge=1, le=2000
    )


class TrackingConfig(Section):
    """Where the metrics of runs are shown beside TensorBoard."""

    service: Literal["none", "wandb", "trackio"] = setting(
        "none is TensorBoard alone; the others are installed as an extra"
    )
    project: str = setting(
        "the service's name for the project; letters, digits, _ and -", pattern="^[A-Za-z0-9_-]*$"
    )

    @model_validator(mode="after")
    def _a_service_needs_a_project(self) -> Self:
        if self.service != "none" and not self.project:
            raise refuse(
                f"service = {self.service!r} needs the name of a project; add it, or choose service none"
            )
        return self


class CheckpointConfig(Section):
    """A published model to start from, instead of one trained from scratch."""

    source: str = setting(
        "a repository of the Hugging Face hub, such as Qwen/Qwen2.5-Math-1.5B, a folder that "
        "save_pretrained wrote, a .gguf file, or one inside an installed Python package, as "
        "package:NAME/FILE.gguf; weights of a GGUF file are unpacked to float32",
        min_length=1,
    )
    revision: str = setting(
        "commit of the repository, 40 hexadecimal digits; empty for a folder or a file",
        pattern="^([0-9a-f]{40})?$",
    )

    @model_validator(mode="after")
    def _a_file_has_no_revision(self) -> Self:
        if self.revision and self.source.startswith("package:"):
            raise refuse(
                f"source = {self.source!r}: a file of a package has no revision; set revision to ''"
            )
        return self
