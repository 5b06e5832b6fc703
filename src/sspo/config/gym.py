"""What the problems of reasoning-gym depend on."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from sspo.config.reading import JsonDict, Section, refuse, setting
from sspo.config.settings import RewardConfig
from sspo.config.study import PROBLEM
from sspo.config.types import Name

Mix = Annotated[dict[Name, JsonDict], Field(min_length=1)]


class GymSplit(Section):
    """Problems of several generators in equal shares."""

    size: int = setting("problems in the split", ge=1)
    datasets: Mix = setting(
        "generator -> its own keyword arguments, {} for none; gsm_symbolic also takes templates, the "
        "numbers of those to use"
    )


class GymDataConfig(Section):
    """Problems of reasoning-gym instead of the procedural task."""

    seed: int = setting("seed of the problems", ge=0)
    prompt: str = setting("what the model reads, with {problem} for the problem")
    splits: dict[Name, GymSplit] = setting(
        "disjoint splits, drawn in this order; test, hard, validation and train among them, and warmup "
        "where a base model is trained from scratch"
    )

    @model_validator(mode="after")
    def _prompt_holds_the_problem(self) -> Self:
        if self.prompt.count(PROBLEM) != 1:
            raise refuse(f"prompt = {self.prompt!r}: must hold {PROBLEM} exactly once")
        return self

    @model_validator(mode="after")
    def _has_the_splits_that_rules_read(self) -> Self:
        for name in ("test", "hard", "validation", "train"):
            if name not in self.splits:
                raise refuse(f"splits.{name}: missing; add it")
        return self


class GymProblemsConfig(Section):
    """Everything the splits of reasoning-gym depend on besides published base models."""

    gym_data: GymDataConfig
    reward: RewardConfig
    max_response_tokens: int | None = setting(
        "longest response that any run samples; left out where no base model is published",
        ge=1,
        default=None,
    )
