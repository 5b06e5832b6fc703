"""How responses are sampled, key by key."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sspo.config.reading import Section, optional_setting, refuse, setting
from sspo.config.types import Distinct


class SamplingConfig(Section):
    """How a response is sampled, in rollouts and in validation alike."""

    temperature: float = setting("sampling temperature; scoring uses the same", gt=0)
    max_response_tokens: int = setting("cap on a response, its end token included", ge=1)
    max_batch: int = setting("responses sampled at once (torch engine)", ge=1)
    stop_tokens: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Distinct] = setting(
        "tokens that end a response beside the end tokens of the tokenizer and of generation_config.json, "
        "such as <|im_end|>"
    )
    cuda_graphs: bool = optional_setting(
        "decode with a static cache, which a GPU repeats as CUDA graphs (torch engine); left out, false",
        default=False,
    )


class RolloutConfig(SamplingConfig):
    """How a step's responses are sampled."""

    engine: Literal["torch", "vllm", "vllm_server"] = setting(
        "what samples: torch is the reference, vllm works in the trainer's process"
    )
    prompts_per_step: int = setting("prompts per rollout", ge=1)
    group_size: int = setting(
        "responses per prompt; a group-relative advantage needs at least two", ge=2
    )
    vllm_memory: float = setting(
        "share of the GPU's memory for vLLM's weights and cache; training needs the rest",
        gt=0,
        le=1,
    )
    lag: int = optional_setting(
        "updates by which the policy that samples is behind the one that is updated, as in asynchronous "
        "training; left out, 0",
        default=0,
        ge=0,
    )
    weights_dtype: Literal["float32", "bfloat16", "float8_e4m3", "int8", "int4"] = optional_setting(
        "what the sampler's copy of the weights is rounded to; left out, float32, nothing is rounded",
        default="float32",
    )
    old_logprobs: Literal["auto", "policy", "engine"] = setting(
        "whose log-probabilities ratios are taken to: the policy's, scored again, or those that the engine "
        "sampled with, however they deviate; auto takes the engine's for all updates of a rollout but the "
        "first, where they are the policy's: the torch engine in float32, all weights trained, none rounded"
    )
    correction: Literal["none", "token", "sequence", "token_mask", "sequence_mask"] = setting(
        "importance weights that correct for the engine's probabilities differing from the policy's, per "
        "token or per response; beyond the cap they are truncated, or with _mask what bears them is dropped"
    )
    correction_cap: float = setting("largest weight of the correction", ge=1)

    @model_validator(mode="after")
    def _a_correction_needs_the_policys_logprobs(self) -> Self:
        if self.old_logprobs == "engine" and self.correction != "none":
            raise refuse(
                f"correction = {self.correction!r} weighs by the policy's old log-probabilities, which "
                "old_logprobs = 'engine' does not compute; choose policy, or correction none"
            )
        return self

    @model_validator(mode="after")
    def _vllm_has_graphs_of_its_own(self) -> Self:
        if self.engine != "torch" and self.cuda_graphs:
            raise refuse(
                f"cuda_graphs = True: engine = {self.engine!r} has graphs of its own; remove the key, or "
                "choose engine torch"
            )
        return self

    @model_validator(mode="after")
    def _vllm_rounds_to_no_integers(self) -> Self:
        if self.engine != "torch" and self.weights_dtype.startswith("int"):
            raise refuse(
                f"weights_dtype = {self.weights_dtype!r}: engine = {self.engine!r} cannot round weights to "
                "it; choose float8_e4m3 or bfloat16, or engine torch"
            )
        return self
