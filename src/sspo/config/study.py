"""What data, tuning, the final evaluation and the exact study depend on, key by key."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from sspo.config.reading import JsonDict, Section, optional_setting, refuse, setting
from sspo.config.rollout import SamplingConfig
from sspo.config.settings import ComputeConfig, RewardConfig
from sspo.config.types import Distinct, Name

PROBLEM = "{problem}"  # where a prompt holds the problem

Names = Annotated[tuple[Name, ...], Field(min_length=1), Distinct]
Commit = Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), Distinct]
Rates = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), Distinct]
Drifts = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1), Distinct]


class TraceStyle(Section):
    """How the imperfect authors of the warm-up solutions write (probabilities)."""

    careful_author: float = setting(
        "share of solutions written the careful way throughout", ge=0, le=1
    )
    careful_step: float = setting("share of careful steps in the other solutions", ge=0, le=1)
    slip: float = setting(
        "share of plain steps that go wrong where they can: a crossed ten, a second match in a row",
        ge=0,
        le=1,
    )
    slip_from: int = optional_setting(
        "smallest operand at which a plain step of a chain can go wrong, so that a long chain has few such "
        "steps; left out, 1",
        default=1,
        ge=1,
        le=9,
    )
    noise: float = setting("share of written results that are off by one", ge=0, le=1)


class SplitSpec(Section):
    """Size of a split, and the range of operations (or letters) of a problem."""

    size: int = setting("problems in the split; an empty split cannot be used", ge=1)
    min_operations: int = setting("fewest operations of a problem", ge=1)
    max_operations: int = setting("most operations of a problem", ge=1)

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.min_operations > self.max_operations:
            raise refuse(
                f"min_operations = {self.min_operations} exceeds max_operations = "
                f"{self.max_operations}; swap or raise it"
            )
        return self


class TaskConfig(Section):
    """The procedural task and its splits."""

    name: str = setting("a task of src/sspo/data/tasks.py")
    seed: int = setting("seed of the problems", ge=0)
    style: TraceStyle
    splits: dict[Name, SplitSpec] = setting(
        "disjoint splits, drawn in this order; test, hard, validation, train and warmup among them"
    )

    @model_validator(mode="after")
    def _has_the_splits_that_rules_read(self) -> Self:
        for name in ("test", "hard", "validation", "train", "warmup"):
            if name not in self.splits:
                raise refuse(f"splits.{name}: missing; add it")
        return self


class MathDataConfig(Section):
    """Real data sets instead of the procedural task; keys of ``sspo.data.sources.DATA_SETS``."""

    source: str = setting(
        "hub, or a folder with a JSONL or Parquet file per data set", min_length=1
    )
    revisions: dict[str, Commit] = setting(
        "hub id -> commit that the data set is read at (hub only): 40 hexadecimal digits, not a "
        "branch, which moves"
    )
    train: Names = setting("data sets to train on")
    benchmarks: Names = setting(
        "data sets to evaluate on, each a split of its name; none of their problems stays in training"
    )
    validation: int = setting("training problems held out for validation", ge=1)
    seed: int = setting("which ones", ge=0)
    prompt: str = setting(
        "what the model reads, with {problem} for the problem; special tokens that the tokenizer puts in "
        "front stand there once, also where the prompt begins with them, and none is appended"
    )

    @model_validator(mode="after")
    def _prompt_holds_the_problem(self) -> Self:
        if self.prompt.count(PROBLEM) != 1:
            raise refuse(f"prompt = {self.prompt!r}: must hold {PROBLEM} exactly once")
        return self


_LONGEST = "longest response that any run samples; prompts leave room for it"


class RealDataConfig(Section):
    """Everything the splits of real data sets depend on besides the files and the base models."""

    math_data: MathDataConfig
    reward: RewardConfig
    max_response_tokens: int = setting(_LONGEST, ge=1)


class TaskDataConfig(TaskConfig):
    """Everything the splits of the procedural task depend on besides published base models."""

    max_response_tokens: int | None = setting(
        f"{_LONGEST}; left out where no base model is published", ge=1, default=None
    )


class Trial(Section):
    """One setting that was tried for a method, and its runs."""

    learning_rate: float
    params: JsonDict
    runs: tuple[str, ...]


class TuningConfig(Section):
    """How every method's learning rate and parameters are chosen, with equally many trials.

    A trial's score is the mean of ``accuracy`` over the last ``validations`` of its runs; of equal
    scores the first one wins.
    """

    accuracy: Literal["pass@1", "greedy"] = setting("what is compared")
    validations: int = setting("how many of a run's last validations are averaged", ge=1)
    trials: dict[str, tuple[Trial, ...]] = setting("method -> its trials")


class EvaluationConfig(Section):
    """The final evaluation."""

    splits: Names = setting("splits to evaluate")
    pools: dict[Name, Names] = setting(
        "name -> splits whose problems are scored together as well; claims are about test and hard"
    )
    engine: Literal["torch", "vllm"] = setting("what samples the completions")
    vllm_memory: float = setting("share of the GPU's memory for vLLM", gt=0, le=1)
    samples: int = setting("samples per problem beside the greedy one", ge=1)
    temperature: float = setting("sampling temperature", gt=0)
    pass_at: Counts = setting("the k of pass@k and maj@k, none above samples")
    seed: int = setting("seed of the samples, the same for every checkpoint", ge=0)

    @model_validator(mode="after")
    def _there_are_samples_enough(self) -> Self:
        if max(self.pass_at) > self.samples:
            raise refuse(
                f"pass_at = {list(self.pass_at)} exceeds samples = {self.samples}; raise samples or "
                "drop the larger k"
            )
        return self

    @model_validator(mode="after")
    def _pools_are_made_of_splits(self) -> Self:
        for name, members in self.pools.items():
            if name in self.splits:
                raise refuse(f"pools: {name!r} is a split already; rename the pool")
            if missing := [split for split in members if split not in self.splits]:
                raise refuse(f"pools.{name}: {missing[0]!r} is not evaluated; add it to splits")
        return self


class EvaluationRun(Section):
    """Everything the evaluation of a checkpoint depends on."""

    evaluation: EvaluationConfig
    sampling: SamplingConfig
    reward: RewardConfig
    compute: ComputeConfig


class _ExactStudy(Section):
    """What objectives do on a policy small enough to enumerate, see ``sspo.evidence.exact``."""

    vocabulary: int = setting("tokens of the policy", ge=2, le=8)
    max_tokens: int = setting("longest response", ge=1, le=6)
    prompts: int = setting("prompts", ge=1)
    logit_scale: float = setting("standard deviation of the start policy's logits", gt=0)
    draws: int = setting("start policies", ge=1)
    seed: int = setting("seed of the first draw", ge=0)
    drifts: Drifts = setting("root mean square log-ratios between old and current policy, in nats")
    features: int = setting("features that the logits are linear in, in stale training", ge=1)
    group_size: int = setting("responses per prompt and update, in stale training", ge=2)
    updates: int = setting("optimizer updates of stale training", ge=1)
    updates_per_rollout: Counts = setting("how many of them use one rollout")
    learning_rates: Rates = setting("AdamW learning rates of stale training")
    pushes: int = setting("pushes of one stale response", ge=1)
    push_size: float = setting("nats that an on-policy push moves it", gt=0)

    @model_validator(mode="after")
    def _rollouts_divide_the_updates(self) -> Self:
        for count in self.updates_per_rollout:
            if self.updates % count:
                raise refuse(
                    f"updates = {self.updates} is not divisible by updates_per_rollout = {count}; "
                    "change one"
                )
        return self


class ExactStudyConfig(_ExactStudy):
    """The study with its methods written out."""

    methods: dict[str, JsonDict] = setting("name -> objective, params and normalize_std")


class ExactStudySection(_ExactStudy):
    """The study as a profile has it; left out, there is none."""

    methods: Names = setting("names of entries under methods")
