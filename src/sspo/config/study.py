"""Configuration of what comes before and after training: data sets, tuning, evaluation, exact study.

Apart from ``sspo.config.settings``: no script that trains imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sspo.config.errors import ConfigError
from sspo.config.reading import JsonDict

PROBLEM = "{problem}"  # where a prompt holds the problem


@dataclass(frozen=True)
class MathDataConfig:
    """Real data sets instead of the procedural task; keys of ``sspo.data.sources.DATA_SETS``.

    Attributes:
        source: "hub", or a folder with a file per data set.
        revisions: hub id -> commit that the data sets are read at (hub only).
        train: data sets whose problems are trained on.
        benchmarks: data sets to evaluate on; none of their problems stays in training.
        validation: training problems held out for validation.
        seed: which ones.
        prompt: what the model reads, with ``PROBLEM`` for the problem.
    """

    source: str
    revisions: JsonDict
    train: tuple[str, ...]
    benchmarks: tuple[str, ...]
    validation: int
    seed: int
    prompt: str

    def __post_init__(self) -> None:
        if self.prompt.count(PROBLEM) != 1:
            raise ConfigError(
                f"math_data.prompt = {self.prompt!r}: must hold {PROBLEM} exactly once"
            )


@dataclass(frozen=True)
class Trial:
    """One setting that was tried for a method, and its runs."""

    learning_rate: float
    params: JsonDict
    runs: tuple[str, ...]


@dataclass(frozen=True)
class TuningConfig:
    """How every method's learning rate and parameters are chosen, with equally many trials.

    A trial's score is the mean of ``accuracy`` over the last ``validations`` of its runs.

    Attributes:
        accuracy: key of the validation accuracy, such as "pass@1".
        validations: how many of a run's last validations count.
        trials: by method; on equal scores the first one is chosen.
    """

    accuracy: str
    validations: int
    trials: dict[str, tuple[Trial, ...]]


@dataclass(frozen=True)
class EvaluationConfig:
    """The final evaluation.

    Attributes:
        splits: splits to evaluate.
        pools: name -> splits whose problems are also scored together. Claims are about "test" and
            "hard", so whatever has no splits of these names pools its own under them.
        engine: "torch" (reference) or "vllm".
        vllm_memory: share of the GPU's memory for vLLM.
        samples: sampled responses per problem, beside one greedy response.
        temperature: of the sampled responses.
        pass_at: the k of pass@k and maj@k, none above ``samples``.
        seed: seed of the samples, the same for every checkpoint.
    """

    splits: tuple[str, ...]
    pools: dict[str, tuple[str, ...]]
    engine: Literal["torch", "vllm"]
    vllm_memory: float
    samples: int
    temperature: float
    pass_at: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class ExactStudyConfig:
    """The study of ``sspo.evidence.exact``; see there for what the numbers mean.

    ``methods`` holds, by name, ``objective``, ``params`` and ``normalize_std``.
    """

    vocabulary: int
    max_tokens: int
    prompts: int
    logit_scale: float
    draws: int
    seed: int
    drifts: tuple[float, ...]
    features: int
    group_size: int
    updates: int
    updates_per_rollout: tuple[int, ...]
    learning_rates: tuple[float, ...]
    pushes: int
    push_size: float
    methods: JsonDict
