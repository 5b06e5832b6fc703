"""What training depends on, key by key: type, range, meaning, and which values go together.

Every value stands in a profile (``config/*.yaml``), none here. The sections below are parts of a profile
(``sspo.config.profile``) and of the config files that ``write_config`` makes of it.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from sspo.config.reading import JsonDict, Section, optional_setting, refuse, setting
from sspo.config.rollout import RolloutConfig, SamplingConfig
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


class _Run(Section):
    """What names a run, and what every run has."""

    run: str = setting("its name: method, regime, base and seed joined")
    method: str = setting("an entry under methods")
    regime: str = setting("the setting under which methods are compared")
    base: str = setting("the base model it starts from")
    seed: int = setting("of everything random", ge=0)


class RunConfig(_Run):
    """Everything one reinforcement-learning run depends on."""

    tuned: Literal["nothing", "params", "everything"] = setting(
        "what the tuning chose for it; params where the regime itself says the learning rate"
    )
    trainer: Literal["native", "trl"] = setting(
        "the loop: sspo.training.trainer, or the same inside TRL (sspo.backends.trl_run)"
    )
    objective: ObjectiveConfig
    advantages: AdvantageConfig
    rollout: RolloutConfig
    train: TrainConfig
    lora: LoraConfig
    validation: ValidationConfig
    reward: RewardConfig
    compute: ComputeConfig

    @model_validator(mode="after")
    def _updates_share_the_prompts(self) -> Self:
        prompts, updates = self.rollout.prompts_per_step, self.train.updates_per_rollout
        if prompts % updates:
            raise refuse(
                f"rollout.prompts_per_step = {prompts} is not divisible by "
                f"train.updates_per_rollout = {updates}; change one so that updates get equal shares"
            )
        return self

    @property
    def old_logprobs_from(self) -> Literal["policy", "engine"]:
        """What ``rollout.old_logprobs`` comes to; a correction weighs by the policy's own."""
        rollout = self.rollout
        if rollout.old_logprobs != "auto":
            return rollout.old_logprobs
        same_weights = rollout.engine == "torch" and not self.lora.rank
        same_precision = rollout.weights_dtype == self.compute.dtype == "float32"
        exact = same_weights and same_precision and rollout.correction == "none"
        return "engine" if exact else "policy"

    @property
    def updates_per_step(self) -> int:
        """Optimizer updates that a rollout is used for, in all of its epochs."""
        return self.train.updates_per_rollout * self.train.epochs

    @model_validator(mode="after")
    def _lag_is_a_number_of_steps_within_the_run(self) -> Self:
        lag, each, steps = self.rollout.lag, self.updates_per_step, self.train.steps
        if lag % each:
            raise refuse(
                f"rollout.lag = {lag} is not divisible by the {each} updates of a step; rollouts begin "
                "between steps"
            )
        if lag >= each * steps:
            raise refuse(
                f"rollout.lag = {lag} is not below the {each * steps} updates of the run; lower it or "
                "enlarge train.steps"
            )
        if lag and self.trainer == "trl":
            raise refuse(
                f"rollout.lag = {lag}: trainer = 'trl' has no queue; set it to 0, or trainer to native"
            )
        return self

    @model_validator(mode="after")
    def _vllm_rounds_to_fp8_on_a_gpu(self) -> Self:
        fp8 = self.rollout.weights_dtype == "float8_e4m3"
        if fp8 and self.rollout.engine == "vllm" and self.compute.device == "cpu":
            raise refuse(
                "rollout.weights_dtype = 'float8_e4m3': vLLM has it on a GPU alone; choose bfloat16, or "
                "rollout.engine torch"
            )
        return self

    @model_validator(mode="after")
    def _dr_grpos_constant_is_the_cap(self) -> Self:
        cap = self.rollout.max_response_tokens
        constant = self.objective.params.get("max_response_tokens", cap)
        if constant != cap:
            raise refuse(
                f"params.max_response_tokens = {constant} is not rollout.max_response_tokens = {cap}; "
                "set both alike"
            )
        return self

    @model_validator(mode="after")
    def _trl_has_equal_micro_batches_and_one_epoch(self) -> Self:
        if self.trainer == "trl" and self.train.micro_batch_tokens:
            raise refuse(
                "trainer = 'trl' makes micro-batches of equal size; set train.micro_batch_tokens to 0"
            )
        if self.trainer == "trl" and self.train.epochs > 1:
            raise refuse(
                f"train.epochs = {self.train.epochs}: trainer = 'trl' goes through a rollout once; set it "
                "to 1, or trainer to native"
            )
        return self


class _Supervised(Section):
    """What the two kinds of supervised training share."""

    seed: int = setting("of weights and data order", ge=0)
    supervised: SupervisedConfig
    sampling: SamplingConfig
    validation: ValidationConfig
    reward: RewardConfig
    compute: ComputeConfig


PIECES = setting(
    "tokens of a byte-level BPE tokenizer that is learnt from the warm-up texts; left out, every character "
    "is a token",
    default=None,
    ge=300,
)


class PretrainConfig(_Supervised):
    """Everything a base model trained from scratch depends on besides the data."""

    model: ModelConfig
    characters: str | None = setting(
        "everything that prompts and solutions are written with; left out, tokens are pieces",
        default=None,
    )
    pieces: int | None = PIECES


class ImportConfig(Section):
    """Everything a published base model depends on."""

    checkpoint: CheckpointConfig


class ControlConfig(_Run, _Supervised):
    """The supervised-only control: as many more updates on the warm-up solutions, no reward."""

    updates_per_step: int = setting("divides its updates into the steps of a run", ge=1)
