"""What an experiment costs before it runs: jobs, tokens, hours, from its configs and one measured step.

Tokens are upper bounds, every response at its cap. Hours follow from rates in tokens per second that
``sspo.planning.calibration`` measures; without them there are none. ``sspo.planning.memory`` has
memory and disk. The exact study, tables and figures are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sspo.config.launch_file import ONE_PROCESS, Launch, read_launch
from sspo.config.names import BASE, CONTROL, TUNING, base_place
from sspo.config.reading import JsonDict, Section, merged, parse
from sspo.config.settings import ValidationConfig
from sspo.config.study import EvaluationConfig
from sspo.data.tasks import TASKS

# Assumed of the longest prompt of real data [ours]: of those that we know, MATH-500's has 771 tokens and
# OlympiadBench's 1,126.
PROMPT_TOKENS = 1152
IMPORT, PRETRAIN, EVALUATE = "import base", "pretrain", "evaluate"
TRAIN, TRAIN_TRL, TRAIN_CONTROL, TRY = "train", "train (TRL)", "train control", "tuning"
RL = (TRAIN, TRAIN_TRL, TRY)


@dataclass(frozen=True)
class Work:
    """What a job does with its model.

    Attributes:
        sampled: responses it samples.
        trained: responses, or solutions, that go through its updates.
        cap: most tokens of a response; a solution is taken to be no longer.
    """

    sampled: int
    trained: int
    cap: int


@dataclass(frozen=True)
class Job:
    """A job of the workflow that computes with a model.

    Attributes:
        kind: one of the names above.
        regime: of a run; empty for jobs outside regimes.
        place: folder under the results of the model that it makes or evaluates.
        base: place of the base model.
        config: what its script is given.
        work: what it does.
        prompt: tokens of its longest prompt.
        launch: the processes that it is spread over.
    """

    kind: str
    regime: str
    place: str
    base: str
    config: JsonDict
    work: Work
    prompt: int
    launch: Launch = ONE_PROCESS


class Rates(Section):
    """One measured step.

    Attributes:
        sampled_per_second: response tokens sampled per second, by one job.
        trained_per_second: response tokens per second through scoring and updates.
        start_seconds: fixed start of a job, imports and loading.
        response_tokens: mean length of the responses in tokens.
        slowdown: of the step, by other work on the machine; not contained in the rates.
        learned: whether the model had been trained before, so that this length says something.
        parameters: of that model.
        memory_gib: most that the step held, in GiB.
    """

    sampled_per_second: float
    trained_per_second: float
    start_seconds: float
    response_tokens: float
    slowdown: float
    learned: bool
    parameters: int
    memory_gib: float


def base_places(configs: Mapping[str, JsonDict]) -> list[str]:
    """The places of all base models."""
    others = configs["settings"].get("bases", {})
    return [base_place(name) for name in (BASE, *others)]


def split_sizes(configs: Mapping[str, JsonDict], base: str) -> dict[str, int]:
    """Problems of every split that a base model's task makes; empty for real data, not yet counted."""
    settings = _settings_of(configs, base)
    if "math_data" in settings:
        return {}
    return {name: split["size"] for name, split in settings["task"]["splits"].items()}


def plan_jobs(configs: Mapping[str, JsonDict], sizes: Mapping[str, Mapping[str, int]]) -> list[Job]:
    """Every job of the workflow that samples or trains, or makes a base model.

    Args:
        configs: place -> config, of ``sspo.experiment.expand.expand_profile``.
        sizes: place of a base model -> split -> problems; a split of unknown size counts as empty.

    Raises:
        ConfigError: a file of accelerate that cannot be read.
    """
    file = configs["settings"]["backends"]["accelerate_config"]
    prompts = {base: _prompt_tokens(_settings_of(configs, base)) for base in base_places(configs)}
    jobs = [_base_job(configs[base], base, prompts[base]) for base in prompts]
    for place, config in configs.items():
        if place.startswith("runs/"):
            base = base_place(config["base"])
            launch = read_launch(file) if config.get("trainer") == "trl" else ONE_PROCESS
            jobs.append(_run_job(config, place, base, prompts[base], launch))
    evaluated = [job for job in jobs if job.kind != TRY]
    return jobs + [
        _evaluation_job(configs["evaluation"], job, sizes[job.base]) for job in evaluated
    ]


def by_kind(jobs: Iterable[Job]) -> dict[tuple[str, str], list[Job]]:
    """Jobs by kind and regime, in their order."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.kind, job.regime), []).append(job)
    return groups


def sampled_tokens(jobs: Iterable[Job], length: float = float("inf")) -> float:
    """Tokens sampled when every response has its cap, or ``length`` where that is less."""
    return sum(job.work.sampled * min(job.work.cap, length) for job in jobs)


def trained_tokens(jobs: Iterable[Job], length: float = float("inf")) -> float:
    """Tokens that go through updates, as ``sampled_tokens``."""
    return sum(job.work.trained * min(job.work.cap, length) for job in jobs)


def hours(
    jobs: Iterable[Job],
    rates: Rates,
    parameters: Mapping[str, int],
    length: float = float("inf"),
) -> float:
    """Hours of the jobs one after another.

    A model of other size than the measured one is taken to be slower by the ratio of parameters.

    Args:
        jobs: the jobs.
        rates: of one measured step.
        parameters: of the base models, by place, where they are known.
        length: tokens of a response, as for ``sampled_tokens``.
    """
    seconds = 0.0
    for job in jobs:
        slower = parameters.get(job.base, rates.parameters) / rates.parameters
        sampling = sampled_tokens([job], length) / rates.sampled_per_second
        training = trained_tokens([job], length) / rates.trained_per_second
        seconds += rates.start_seconds + slower * (sampling + training)
    return seconds / 3600


def jobs_at_once(jobs: Iterable[Job], cores: int, threads: int, gpus: int | None = None) -> int:
    """How many of the jobs Snakemake runs side by side on one machine.

    Args:
        jobs: the jobs.
        cores: ``--cores``.
        threads: of a job.
        gpus: the limit of the resource ``gpu``, where jobs ask for GPUs. A job that asks for more than
            there are gets all of them, as Snakemake has it.
    """
    jobs = list(jobs)
    most = min(cores // threads, len(jobs))
    if gpus is not None and jobs:
        most = min(most, gpus // min(gpus, *(job.launch.processes for job in jobs)))
    return max(1, most)


def _settings_of(configs: Mapping[str, JsonDict], base: str) -> JsonDict:
    """The whole configuration as a base model sees it."""
    settings = configs["settings"]
    changes = {base_place(name): change for name, change in settings.get("bases", {}).items()}
    return merged(settings, changes.get(base, {}))


def _prompt_tokens(settings: JsonDict) -> int:
    if "math_data" in settings or "checkpoint" in settings:
        return PROMPT_TOKENS
    task = settings["task"]
    longest = max(split["max_operations"] for split in task["splits"].values())
    return TASKS[task["name"]].prompt_tokens(longest)


def _base_job(config: JsonDict, place: str, prompt: int) -> Job:
    if "checkpoint" in config:
        return Job(IMPORT, "", place, place, config, Work(0, 0, 0), prompt)
    return Job(PRETRAIN, "", place, place, config, _supervised_work(config), prompt)


def _run_job(config: JsonDict, place: str, base: str, prompt: int, launch: Launch) -> Job:
    regime = "" if config["regime"] == TUNING else config["regime"]
    if config["method"] == CONTROL:
        return Job(TRAIN_CONTROL, regime, place, base, config, _supervised_work(config), prompt)
    kind = TRAIN_TRL if config["trainer"] == "trl" else TRAIN
    kind = TRY if config["regime"] == TUNING else kind
    rollout, train = config["rollout"], config["train"]
    trained = train["steps"] * rollout["prompts_per_step"] * rollout["group_size"]
    sampled = trained + _validation_responses(config, train["steps"], train["eval_every"])
    work = Work(sampled, trained, rollout["max_response_tokens"])
    return Job(kind, regime, place, base, config, work, prompt, launch)


def _supervised_work(config: JsonDict) -> Work:
    supervised = config["supervised"]
    return Work(
        _validation_responses(config, supervised["steps"], supervised["eval_every"]),
        supervised["steps"] * supervised["batch_size"],
        config["sampling"]["max_response_tokens"],
    )


def _validation_responses(config: JsonDict, steps: int, every: int) -> int:
    """Greedy and sampled, before the first step, every so many steps and after the last."""
    validation = parse(ValidationConfig, config["validation"])
    times = 1 + (-(-steps // every) if every else 1)
    return times * validation.problems * (1 + validation.samples)


def _evaluation_job(config: JsonDict, job: Job, sizes: Mapping[str, int]) -> Job:
    settings = parse(EvaluationConfig, config["evaluation"])
    problems = sum(sizes.get(split, 0) for split in settings.splits)
    work = Work(problems * (1 + settings.samples), 0, config["sampling"]["max_response_tokens"])
    return Job(EVALUATE, "", job.place, job.base, config, work, job.prompt)
