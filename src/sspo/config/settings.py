"""Configuration: YAML -> checked run configs (JSON) -> frozen dataclasses.

``workflow/schemas/config.schema.yaml`` says which keys and ranges a YAML may hold; the dataclasses
here are what scripts that train receive; ``sspo.config.study`` has the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sspo.config.errors import ConfigError
from sspo.config.reading import JsonDict


@dataclass(frozen=True)
class ModelConfig:
    """A Qwen3 model trained from scratch; ``context`` is the longest prompt + response in tokens."""

    hidden_size: int
    layers: int
    heads: int
    mlp_size: int
    context: int


@dataclass(frozen=True)
class ComputeConfig:
    """Where and how to compute.

    Attributes:
        device: "cpu", or a CUDA device.
        dtype: what matrix products are computed in and responses are sampled with. Weights that are
            trained are float32 in any case; a run's final weights are saved in ``dtype``.
        threads: fixed, so that results do not depend on the cores.
    """

    device: str
    dtype: Literal["float32", "bfloat16"]
    threads: int


@dataclass(frozen=True)
class SupervisedConfig:
    """Next-token training on worked solutions (the warm-up, and the supervised-only control).

    Attributes:
        steps: optimizer updates.
        batch_size: solutions per update.
        micro_batch: solutions per forward pass; changes memory and speed, not gradients.
        learning_rate: peak value.
        schedule: "cosine" decays to 0; "constant" holds the peak.
        warmup_steps: linear rise from 0.
        betas: AdamW's.
        weight_decay: AdamW's.
        max_grad_norm: gradient norm clip.
        log_every: updates per metrics record.
        eval_every: updates between validations; 0 validates at the end only.
    """

    steps: int
    batch_size: int
    micro_batch: int
    learning_rate: float
    schedule: Literal["cosine", "constant"]
    warmup_steps: int
    betas: tuple[float, float]
    weight_decay: float
    max_grad_norm: float
    log_every: int
    eval_every: int


@dataclass(frozen=True)
class ObjectiveConfig:
    """A key of ``sspo.objectives.losses.LOSSES`` and its keyword arguments."""

    name: str
    params: JsonDict


@dataclass(frozen=True)
class AdvantageConfig:
    """How group rewards become advantages; see ``sspo.objectives.advantages``."""

    normalize_std: bool


@dataclass(frozen=True)
class SamplingConfig:
    """How a response is sampled, in rollouts and in validation alike.

    Attributes:
        temperature: sampling temperature; scoring uses the same.
        max_response_tokens: cap on a response, its end token included.
        max_batch: responses sampled at once (torch engine).
        stop_tokens: tokens that end a response beside the tokenizer's own end token.
    """

    temperature: float
    max_response_tokens: int
    max_batch: int
    stop_tokens: tuple[str, ...]


@dataclass(frozen=True)
class RewardConfig:
    """What makes a response right. All but the name concern the checker of ``math`` alone.

    Attributes:
        name: "exact" compares what follows the last ``#``; "math" LaTeX answers, by math-verify.
        time_limit: CPU seconds of one comparison.
        memory_mb: address space of a checker process in MiB.
        max_characters: longest answer that is read.
    """

    name: Literal["exact", "math"]
    time_limit: float
    memory_mb: int
    max_characters: int


@dataclass(frozen=True)
class RolloutConfig(SamplingConfig):
    """How a step's responses are sampled.

    Attributes:
        engine: "torch" (reference), "vllm" (in the trainer's process) or "vllm_server".
        prompts_per_step: prompts of one rollout.
        group_size: responses per prompt.
        vllm_memory: share of the GPU's memory for vLLM's weights and cache; training needs the rest.
        old_logprobs: whose log-probabilities the ratios of a rollout's later updates are taken to: the
            policy's, scored again before the first update, or those that the engine sampled with.
        correction: what an engine that samples from other probabilities than the policy's is made up
            for with, see ``sspo.training.update.engine_weights``.
        correction_cap: largest weight of the correction.
    """

    engine: Literal["torch", "vllm", "vllm_server"]
    prompts_per_step: int
    group_size: int
    vllm_memory: float
    old_logprobs: Literal["policy", "engine"]
    correction: Literal["none", "token", "sequence"]
    correction_cap: float


@dataclass(frozen=True)
class TrainConfig:
    """The reinforcement-learning loop.

    Attributes:
        steps: rollouts.
        updates_per_rollout: optimizer updates, each on an equal share of the rollout's prompts.
        learning_rate: AdamW's, constant after the warm-up.
        warmup_updates: linear rise from 0, in optimizer updates.
        betas: AdamW's.
        weight_decay: AdamW's.
        max_grad_norm: gradient norm clip.
        kl_coefficient: beta of the optional KL term to the initial policy; 0 leaves it out.
        micro_batch: most responses per forward pass; changes memory, not gradients.
        micro_batch_tokens: most tokens per forward pass, prompts and padding included; 0: no limit.
        gradient_checkpointing: compute activations again in the backward pass; changes memory alone.
        chunk_tokens: response tokens projected to the vocabulary at a time; bounds memory.
        eval_every: steps between validations.
        kl_every: steps between measurements of the KL to the initial policy; 0 measures none, and the
            initial policy takes no memory.
        checkpoint_every: steps between saved states to resume from.
        keep_rollouts: responses per step kept in rollouts.jsonl.gz.
    """

    steps: int
    updates_per_rollout: int
    learning_rate: float
    warmup_updates: int
    betas: tuple[float, float]
    weight_decay: float
    max_grad_norm: float
    kl_coefficient: float
    micro_batch: int
    micro_batch_tokens: int
    gradient_checkpointing: bool
    chunk_tokens: int
    eval_every: int
    kl_every: int
    checkpoint_every: int
    keep_rollouts: int


@dataclass(frozen=True)
class ValidationConfig:
    """The small evaluation during training: greedy and sampled pass@1 on the validation split."""

    problems: int
    samples: int


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run's metrics are shown beside TensorBoard; ``project`` is the service's name for it."""

    service: Literal["none", "wandb", "trackio"]
    project: str

    def __post_init__(self) -> None:
        if self.service != "none" and not self.project:
            raise ConfigError(
                f"tracking.project: tracking.service = {self.service!r} needs the name of a project; "
                "add it, or choose service none"
            )


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters in place of all weights, ``sspo.models.lora``; ``rank`` 0 trains all weights."""

    rank: int
    alpha: float


@dataclass(frozen=True)
class RunConfig:
    """Everything one reinforcement-learning run depends on.

    Attributes:
        run: its name, ``method``, regime, base and ``seed`` joined.
        regime: the setting under which methods are compared; runs of one regime can be.
        base: the base model it starts from.
        tuned: what the tuning chose for it; "params" where the regime itself says the learning rate.
        trainer: the loop, "native" (``sspo.training.trainer``) or "trl" (``sspo.backends.trl``).
    """

    run: str
    method: str
    regime: str
    base: str
    seed: int
    tuned: Literal["nothing", "params", "everything"]
    trainer: Literal["native", "trl"]
    objective: ObjectiveConfig
    advantages: AdvantageConfig
    rollout: RolloutConfig
    train: TrainConfig
    lora: LoraConfig
    validation: ValidationConfig
    reward: RewardConfig
    compute: ComputeConfig

    def __post_init__(self) -> None:
        prompts, updates = self.rollout.prompts_per_step, self.train.updates_per_rollout
        if prompts % updates:
            raise ConfigError(
                f"{self.method}: rollout.prompts_per_step = {prompts} is not divisible by "
                f"train.updates_per_rollout = {updates}; change one so that updates get equal shares"
            )
        if self.train.kl_coefficient > 0.0 and self.train.kl_every == 0:
            raise ConfigError(
                f"{self.method}: train.kl_coefficient = {self.train.kl_coefficient} needs the initial "
                "policy that train.kl_every = 0 leaves out; set kl_every to 1 or more"
            )


@dataclass(frozen=True)
class PretrainConfig:
    """Everything the base model depends on besides the data."""

    seed: int
    model: ModelConfig
    supervised: SupervisedConfig
    sampling: SamplingConfig
    validation: ValidationConfig
    reward: RewardConfig
    compute: ComputeConfig
    characters: str


@dataclass(frozen=True)
class CheckpointConfig:
    """A published model to start from, instead of one trained from scratch.

    Attributes:
        source: a repository of the Hugging Face hub, or a folder that ``save_pretrained`` wrote.
        revision: commit of that repository; empty for a folder.
    """

    source: str
    revision: str


@dataclass(frozen=True)
class ControlConfig:
    """The supervised-only control: as many more updates on the warm-up solutions, no reward.

    ``updates_per_step`` converts its updates to the steps of a reinforcement-learning run.
    """

    run: str
    method: str
    regime: str
    base: str
    seed: int
    supervised: SupervisedConfig
    updates_per_step: int
    sampling: SamplingConfig
    validation: ValidationConfig
    reward: RewardConfig
    compute: ComputeConfig
