"""From one profile to checked, self-contained configs: one JSON per dataset, base model and run.

A config holds only what its rule depends on, so that editing a value reruns exactly what it touches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sspo.config.comparison import Method, Regime
from sspo.config.errors import ConfigError
from sspo.config.gym import GymProblemsConfig
from sspo.config.launch_file import read_launch
from sspo.config.names import BASE, base_place
from sspo.config.profile import Profile
from sspo.config.reading import JsonDict, Section, parse, plain
from sspo.config.run import ImportConfig, PretrainConfig, RunConfig
from sspo.config.study import (
    EvaluationRun,
    ExactStudyConfig,
    ExactStudySection,
    RealDataConfig,
    TaskDataConfig,
)
from sspo.data.gym import check_generators
from sspo.data.sources import DATA_SETS, HUB
from sspo.data.tasks import TASKS
from sspo.experiment.objectives import check_params
from sspo.experiment.packages import check_installed
from sspo.experiment.runs import (
    computing,
    control_runs,
    rl_runs,
    sampling,
    tuning_runs,
)
from sspo.models.pretrained import checkpoint_files


def expand_profile(profile: Profile, source: str, *, installed: bool = True) -> dict[str, JsonDict]:
    """Every config of the experiment: place (a folder under the results) -> plain data.

    Places are ``data``, ``base``, for every further base model ``bases/{name}`` (and
    ``bases/{name}/data`` where its task differs, ``bases/{name}/evaluation`` where its responses do),
    ``evaluation``, ``tracking``, ``claims`` (where they are decided), ``methods`` (labels and colours, for
    figures), ``settings`` (everything, for table T4), ``exact_study`` and ``exact_study/methods`` or
    ``tuning/{regime}`` where the profile has such a section, and ``runs/{run}`` for every run of
    ``sspo.experiment.runs``.

    Args:
        profile: the whole configuration.
        source: file name for messages.
        installed: also refuse what needs a package that is not installed.

    Raises:
        ConfigError: a value or a combination that cannot run; names the file, the key and the fix.
    """
    try:
        return {place: plain(section) for place, section in _expand(profile, installed).items()}
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _expand(profile: Profile, installed: bool) -> dict[str, Section | JsonDict]:
    trials, choices = tuning_runs(profile)
    runs = [*rl_runs(profile), *trials]
    longest = max(run.rollout.max_response_tokens for run in runs)
    found: dict[str, Section | JsonDict] = dict(_base_configs(profile, longest))
    if installed:
        check_installed(runs, profile.evaluation, profile.tracking)
        _check_generators(profile)
    _check_launch_file(profile, runs)
    named = {run.run: run for run in [*runs, *control_runs(profile)]}
    if twice := [n for n, c in Counter(r.run for r in runs).items() if c > 1]:
        raise ConfigError(f"two runs are called {twice[0]}; rename the regime or the base")
    found |= {
        "evaluation": _evaluation(profile),
        "tracking": profile.tracking,
        "claims": {"deciding_regimes": plain(profile.experiment.deciding_regimes)},
        "methods": _looks(profile, profile.experiment.methods),
        "settings": _settings(profile),
    }
    found |= {f"tuning/{regime}": choice for regime, choice in choices.items()}
    if profile.exact_study:
        found["exact_study"] = _exact_study(profile, profile.exact_study)
        found["exact_study/methods"] = _looks(profile, profile.exact_study.methods)
    return found | {f"runs/{name}": run for name, run in named.items()}


def _base_configs(profile: Profile, longest: int) -> dict[str, Section]:
    """Config of every base model and of the data that it does not share with the main one."""
    shared = [name for name in profile.bases if not _has_own_data(profile, name)]
    published = any(profile.base_profile(name).checkpoint for name in (BASE, *shared))
    found: dict[str, Section] = {"data": _data_config(profile, longest if published else None)}
    for name in (BASE, *profile.bases):
        variant = profile.base_profile(name)
        try:
            if name != BASE and name not in shared:
                response = longest if variant.checkpoint else None
                found[f"{base_place(name)}/data"] = _data_config(variant, response)
            found[base_place(name)] = _base_config(variant)
            if name != BASE and profile.bases[name].rollout:
                found[f"{base_place(name)}/evaluation"] = _evaluation(variant)
            _check_lengths(variant)
        except ConfigError as error:
            where = "" if name == BASE else f"bases.{name}: "
            raise ConfigError(f"{where}{error}") from None
    return found


def _check_generators(profile: Profile) -> None:
    for name in (BASE, *profile.bases):
        if data := profile.base_profile(name).gym_data:
            try:
                check_generators(data)
            except ConfigError as error:
                where = "" if name == BASE else f"bases.{name}: "
                raise ConfigError(f"{where}{error}") from None


def _has_own_data(profile: Profile, base: str) -> bool:
    return bool(profile.bases[base].task or profile.bases[base].gym_data)


def _data_config(
    profile: Profile, response: int | None
) -> TaskDataConfig | RealDataConfig | GymProblemsConfig:
    """What the problems depend on; ``response`` is the longest one, where a published model reads them."""
    if profile.gym_data:
        return GymProblemsConfig(
            gym_data=profile.gym_data, reward=profile.reward, max_response_tokens=response
        )
    if profile.math_data is None:
        if profile.task.name not in TASKS:
            raise ConfigError(
                f"task.name = {profile.task.name!r}: unknown task; choose one of {', '.join(TASKS)}"
            )
        return parse(TaskDataConfig, plain(profile.task) | {"max_response_tokens": response})
    data = profile.math_data
    for key, names in (("train", data.train), ("benchmarks", data.benchmarks)):
        for name in names:
            if name not in DATA_SETS:
                raise ConfigError(
                    f"math_data.{key}: unknown data set {name!r}; choose from {', '.join(DATA_SETS)}"
                )
            hub = DATA_SETS[name].hub
            if data.source == HUB and hub not in data.revisions:
                raise ConfigError(
                    f"math_data.revisions: no commit for {hub} ({name}); add the one that its page on "
                    "the hub shows under 'Files and versions'"
                )
    return parse(
        RealDataConfig,
        {**plain({"math_data": data, "reward": profile.reward}), "max_response_tokens": response},
    )


def _base_config(profile: Profile) -> PretrainConfig | ImportConfig:
    if profile.checkpoint:
        checkpoint_files(profile.checkpoint)
        return ImportConfig(checkpoint=profile.checkpoint)
    pieces = profile.pretrain.pieces
    if profile.gym_data and not pieces:
        raise ConfigError(
            "pretrain.pieces: missing; gym_data needs a tokenizer that is learnt from its texts; add it, "
            "such as 1000"
        )
    return PretrainConfig(
        seed=profile.pretrain.seed,
        model=profile.model,
        supervised=profile.pretrain.supervised,
        sampling=sampling(profile),
        validation=profile.validation,
        reward=profile.reward,
        compute=computing(profile).changed(threads=profile.pretrain.threads),
        characters=None if pieces else TASKS[profile.task.name].characters,
        pieces=pieces,
    )


def _evaluation(profile: Profile) -> EvaluationRun:
    return EvaluationRun(
        evaluation=profile.evaluation,
        sampling=sampling(profile),
        reward=profile.reward,
        compute=computing(profile),
    )


def _looks(profile: Profile, methods: Iterable[str]) -> JsonDict:
    """Label and colour of methods, for figures."""
    entries = {name: profile.methods[name] for name in methods}
    return {name: {"label": m.label, "color": m.color} for name, m in entries.items()}


def _settings(profile: Profile) -> JsonDict:
    """Everything that a result can depend on, with the methods that are used."""
    used = {name: profile.methods[name] for name in profile.experiment.methods}
    return {**plain(profile), "compute": plain(computing(profile)), "methods": plain(used)}


def _exact_study(profile: Profile, study: ExactStudySection) -> ExactStudyConfig:
    """The study with its methods written out."""
    methods = {}
    for name in study.methods:
        entry = profile.methods[name]
        check_params(name, entry.objective, entry.params)
        methods[name] = {
            "objective": entry.objective,
            "params": entry.params,
            **plain(profile.advantages),
            **plain(entry.advantages or {}),
        }
    return parse(ExactStudyConfig, {**plain(study), "methods": methods})


def _check_lengths(profile: Profile) -> None:
    """Prompt and response must fit into the context of a model that is trained from scratch.

    For a published one, ``prepare_data`` measures with its tokenizer, and for problems in words training
    does, before its first step.
    """
    if profile.math_data or profile.gym_data or profile.checkpoint:
        return
    longest = max(split.max_operations for split in profile.task.splits.values())
    prompt = TASKS[profile.task.name].prompt_tokens(longest)
    sections: dict[str, Method | Regime] = {
        f"methods.{m}.": profile.methods[m] for m in profile.experiment.methods
    }
    sections |= {f"regimes.{name}.": regime for name, regime in profile.regimes.items()}
    key = "max_response_tokens"
    caps = {"": profile.rollout.max_response_tokens}
    caps |= {where: plain(s.rollout or {}).get(key, caps[""]) for where, s in sections.items()}
    for where, response in caps.items():
        if prompt + response > profile.model.context:
            raise ConfigError(
                f"model.context = {profile.model.context} is shorter than the longest prompt ({prompt} "
                f"tokens) plus {where}rollout.{key} = {response}; raise context or lower {key}"
            )


def _check_launch_file(profile: Profile, runs: Iterable[RunConfig]) -> None:
    """The file of accelerate has to be there, where a run is launched by it."""
    file = profile.backends.accelerate_config
    if file and any(run.trainer == "trl" for run in runs):
        if not Path(file).is_file():
            raise ConfigError(
                f"backends.accelerate_config = {file!r}: no such file; write it with `accelerate config "
                "--config_file`, or leave it empty for one process"
            )
        read_launch(file)
