"""What each kind of run depends on: the sections of a profile it needs, and which of them go together."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from sspo.config.reading import Section, refuse, setting
from sspo.config.rollout import RolloutConfig, SamplingConfig
from sspo.config.settings import (
    AdvantageConfig,
    CheckpointConfig,
    ComputeConfig,
    LoraConfig,
    ModelConfig,
    ObjectiveConfig,
    RewardConfig,
    SupervisedConfig,
    TrainConfig,
    ValidationConfig,
)


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
