"""The jobs of an experiment, and the tokens and hours that they take.

Tokens are upper bounds: every response counts at its longest. The exact study, tables and figures are
not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sspo.config.launch_file import ONE_PROCESS, Launch, read_launch
from sspo.config.names import TUNING, base_places, data_place, model_places
from sspo.config.reading import JsonDict, Section, load_json
from sspo.data.tasks import TASKS

# Assumed of the longest prompt of real data [ours]: of those that we know, MATH-500's has 771 tokens and
# OlympiadBench's 1,126.
PROMPT_TOKENS = 1152
IMPORT, PRETRAIN, EVALUATE = "import base", "pretrain", "evaluate"
TRAIN, TRAIN_CONTROL = "train", "train control"
LONGEST = float("inf")  # responses as long as their cap lets them be


@dataclass(frozen=True)
class Job:
    """A job of the workflow that computes with a model."""

    kind: str  # one of the names above
    place: str  # folder under the results of the model that it makes or evaluates
    base: str  # place of the base model
    config: JsonDict  # what its script is given
    prompt: int  # tokens of its longest prompt
    cap: int = 0  # most tokens of a response; a worked solution is taken to be no longer
    sampled: int = 0  # responses that it samples
    trained: int = 0  # responses or solutions that go through its updates
    launch: Launch = ONE_PROCESS  # the processes that it is spread over

    def get(self, section: str, key: str, default: object) -> object:
        """A value of its config; the default where it has no such section."""
        return self.config.get(section, {}).get(key, default)

    regime = property(lambda self: self.config.get("regime", ""))
    by_trl = property(lambda self: self.config.get("trainer") == "trl")
    # What memory depends on, whatever the kind of job; a published model may have float32 weights.
    dtype = property(lambda self: self.get("compute", "dtype", "float32"))
    rank = property(lambda self: self.get("lora", "rank", 0))
    section = property(lambda self: "evaluation" if self.kind == EVALUATE else "rollout")
    engine = property(lambda self: self.get(self.section, "engine", "torch"))
    vllm_share = property(lambda self: self.get(self.section, "vllm_memory", 0.0))


class Rates(Section):
    """One measured step."""

    sampled_per_second: float  # response tokens, by one job
    trained_per_second: float  # response tokens through scoring and updates
    start_seconds: float  # of a job, for imports and loading
    response_tokens: float  # mean length of the responses
    learned: bool  # whether the model had been trained before, so that this length says something
    parameters: int  # of the model
    memory_gib: float  # most that the step held


def list_jobs(configs: Mapping[str, JsonDict], results: Path) -> list[Job]:
    """Every job of the workflow that samples or trains, or makes a base model.

    ``configs`` are those of ``expand_profile``, by place. Real data count as empty until ``prepare_data``
    has counted them in the folder of results.

    Raises:
        ConfigError: a file of accelerate that cannot be read.
    """
    launch = read_launch(configs["settings"]["backends"]["accelerate_config"])
    prompts = {base: _prompt_tokens(configs, base) for base in base_places(configs)}
    models = model_places(configs).items()
    jobs = [_job(configs[place], place, base, prompts[base], launch) for place, base in models]
    counts = {base: _problem_counts(configs, base, results) for base in prompts}
    evaluated = [job for job in jobs if job.regime != TUNING]
    return jobs + [_evaluation(configs["evaluation"], job, counts[job.base]) for job in evaluated]


def by_kind(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    """Jobs by kind and regime, such as "train main", in their order."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(f"{job.kind} {job.regime}".strip(), []).append(job)
    return groups


def tokens(jobs: Iterable[Job], length: float = LONGEST) -> tuple[float, float]:
    """Tokens (sampled, trained) when every response has its cap, or ``length`` where that is less."""
    lengths = [(job, min(job.cap, length)) for job in jobs]
    return sum(j.sampled * each for j, each in lengths), sum(
        j.trained * each for j, each in lengths
    )


def hours(
    jobs: Iterable[Job], rates: Rates, parameters: Mapping[str, int], length: float = LONGEST
) -> float:
    """Hours of the jobs one after another, with responses of a length as in ``tokens``.

    A model of other size than the measured one is taken to be slower by the ratio of parameters, which
    are given by place of the base model where they are known.
    """
    seconds = 0.0
    for job in jobs:
        slower = parameters.get(job.base, rates.parameters) / rates.parameters
        sampled, trained = tokens([job], length)
        work = sampled / rates.sampled_per_second + trained / rates.trained_per_second
        seconds += rates.start_seconds + slower * work
    return seconds / 3600


def jobs_at_once(jobs: list[Job], cores: int, threads: int, gpus: int | None = None) -> int:
    """How many of the jobs Snakemake runs side by side, each on ``threads`` cores of one machine.

    ``gpus`` is the limit of the resource ``gpu``, where jobs ask for GPUs. A job that asks for more than
    there are gets all of them, as Snakemake has it.
    """
    most = min(cores // threads, len(jobs))
    if gpus is not None:
        most = min(most, gpus // min(gpus, *(job.launch.processes for job in jobs)))
    return max(1, most)


def _prompt_tokens(configs: Mapping[str, JsonDict], base: str) -> int:
    task = configs[data_place(configs, base)]
    if "math_data" in task or "checkpoint" in configs[base]:
        return PROMPT_TOKENS
    if "gym_data" in task:
        return int(configs[base]["model"]["context"])
    longest = max(split["max_operations"] for split in task["splits"].values())
    return TASKS[task["name"]].prompt_tokens(longest)


def _problem_counts(configs: Mapping[str, JsonDict], base: str, results: Path) -> dict[str, int]:
    place = data_place(configs, base)
    data = configs[place].get("gym_data", configs[place])
    if "splits" in data:
        return {name: split["size"] for name, split in data["splits"].items()}
    summary = results / place / "summary.json"
    return load_json(summary)["problems"] if summary.is_file() else {}


def _job(config: JsonDict, place: str, base: str, prompt: int, launch: Launch) -> Job:
    """The job that makes a base model or a run."""
    if "checkpoint" in config:
        return Job(IMPORT, place, base, config, prompt)
    if supervised := config.get("supervised"):
        kind = TRAIN_CONTROL if "method" in config else PRETRAIN
        cap, trained = config["sampling"]["max_response_tokens"], supervised["batch_size"]
        trained *= supervised["steps"]
        return Job(kind, place, base, config, prompt, cap, _validated(config, supervised), trained)
    rollout, train = config["rollout"], config["train"]
    cap, trained = (
        rollout["max_response_tokens"],
        rollout["prompts_per_step"] * rollout["group_size"],
    )
    trained *= train["steps"]
    sampled = trained + _validated(config, train)
    trained *= train.get("epochs", 1)
    launch = launch if config["trainer"] == "trl" else ONE_PROCESS
    return Job(TRAIN, place, base, config, prompt, cap, sampled, trained, launch)


def _evaluation(config: JsonDict, job: Job, counts: Mapping[str, int]) -> Job:
    evaluation, cap = config["evaluation"], config["sampling"]["max_response_tokens"]
    problems = sum(counts.get(split, 0) for split in evaluation["splits"])
    sampled = problems * (1 + evaluation["samples"])
    return Job(EVALUATE, job.place, job.base, config, job.prompt, cap, sampled)


def _validated(config: JsonDict, training: JsonDict) -> int:
    """Responses, greedy and sampled, before the first step, every so many steps and after the last."""
    steps, every = training["steps"], training["eval_every"]
    times = 1 + (-(-steps // every) if every else 1)
    return times * config["validation"]["problems"] * (1 + config["validation"]["samples"])
