"""From one YAML to checked, self-contained configs: one JSON per dataset, base model and run.

A config holds only what its rule depends on, so that editing a value reruns exactly what it touches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sspo.config.errors import ConfigError
from sspo.config.names import BASE, base_place
from sspo.config.profiles import merged, plain
from sspo.config.reading import JsonDict, from_dict
from sspo.config.settings import CheckpointConfig, ModelConfig, PretrainConfig, TrackingConfig
from sspo.config.study import EvaluationConfig, ExactStudyConfig, MathDataConfig, TuningConfig
from sspo.data.sources import DATA_SETS, HUB
from sspo.data.tasks import TASKS
from sspo.experiment.runs import (
    check_engine,
    computing,
    control_runs,
    method_entry,
    objective,
    rl_runs,
    sampling,
    tuning_runs,
)
from sspo.models.pretrained import checkpoint_files
from sspo.training.tracking import check_packages


def expand_config(config: Mapping[str, object], source: str) -> dict[str, JsonDict]:
    """Every config of the experiment: place (a folder under the results) -> plain data.

    Places are ``data``, ``base``, for every further base model ``bases/{name}`` (and
    ``bases/{name}/data`` where its task differs), ``evaluation``, ``tracking``, ``methods`` (labels and
    colours, for figures), ``settings`` (everything, for table T4), ``exact_study`` and
    ``exact_study/methods`` or ``tuning`` where the YAML has such a section, and ``runs/{run}`` for every
    run of ``sspo.experiment.runs``.

    Raises:
        ConfigError: a combination that cannot run; names the key and the fix.
    """
    config = plain(config)
    try:
        check_packages(from_dict(TrackingConfig, config["tracking"], "tracking."))
        bases = _base_configs(config)
        trials, choice = tuning_runs(config)
        if choice:
            from_dict(TuningConfig, choice, "tuning.")
        runs = [*rl_runs(config), *trials, *control_runs(config)]
        evaluation = _evaluation_config(config)
        study = _exact_study_config(config)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    names = Counter(run["run"] for run in runs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ConfigError(
            f"{source}: two runs are called {twice[0]}; rename the regime or the base"
        )
    used = {name: config["methods"][name] for name in config["experiment"]["methods"]}
    optional = {"tuning": choice} if choice else {}
    if study:
        optional["exact_study"] = study
        optional["exact_study/methods"] = _looks(config, study["methods"])
    return {
        **bases,
        "evaluation": evaluation,
        "tracking": config["tracking"],
        "methods": _looks(config, used),
        "settings": {**config, "compute": computing(config), "methods": used},
        **optional,
        **{f"runs/{run['run']}": run for run in runs},
    }


def _base_configs(config: JsonDict) -> dict[str, JsonDict]:
    """Config of every base model and of the data that it does not share with the main one."""
    found = {"data": _data_config(config), base_place(BASE): _base_config(config)}
    _check_lengths(config)
    _check_validation(config)
    for name, changes in config.get("bases", {}).items():
        try:
            variant = merged(config, changes)
            if "checkpoint" in variant and changes.keys() & {"model", "pretrain"}:
                raise ConfigError("a checkpoint has a model of its own; remove model and pretrain")
            if "task" in changes:
                found[f"{base_place(name)}/data"] = _data_config(variant)
            found[base_place(name)] = _base_config(variant)
            _check_lengths(variant)
            _check_validation(variant)
        except ConfigError as error:
            raise ConfigError(f"bases.{name}: {error}") from None
    return found


def _looks(config: JsonDict, methods: Iterable[str]) -> JsonDict:
    """Label and colour of methods, for figures."""
    entries = {name: config["methods"][name] for name in methods}
    return {n: {"label": entry["label"], "color": entry["color"]} for n, entry in entries.items()}


def split_names(config: Mapping[str, object]) -> list[str]:
    """The splits that ``prepare_data`` makes."""
    if "math_data" in config:
        return ["train", "validation", *config["math_data"]["benchmarks"]]
    return list(config["task"]["splits"])


def _data_config(config: JsonDict) -> JsonDict:
    if "math_data" in config:
        return _math_data_config(config)
    task = config["task"]
    if config["reward"]["name"] != "exact":
        raise ConfigError(
            f"reward.name = {config['reward']['name']!r} finds no answer in the procedural tasks' "
            "responses; choose exact, or add math_data"
        )
    if task["name"] not in TASKS:
        raise ConfigError(
            f"task.name = {task['name']!r}: unknown task; choose one of {', '.join(TASKS)}"
        )
    for name, split in task["splits"].items():
        if split["min_operations"] > split["max_operations"]:
            raise ConfigError(
                f"task.splits.{name}: min_operations = {split['min_operations']} exceeds "
                f"max_operations = {split['max_operations']}; swap or raise it"
            )
    return task


def _math_data_config(config: JsonDict) -> JsonDict:
    data = from_dict(MathDataConfig, config["math_data"], "math_data.")
    for key, names in (("train", data.train), ("benchmarks", data.benchmarks)):
        for name in names:
            _check_data_set(f"math_data.{key}", name, data)
    if config["reward"]["name"] != "math":
        raise ConfigError(
            f"reward.name = {config['reward']['name']!r} cannot read LaTeX answers; math_data needs "
            "reward.name = 'math'"
        )
    if config["experiment"]["control"]:
        raise ConfigError(
            "experiment.control = True: real data sets have no worked solutions to train the "
            "control on; set it to false"
        )
    return {"math_data": config["math_data"], "reward": config["reward"]}


def _check_data_set(key: str, name: str, data: MathDataConfig) -> None:
    if name not in DATA_SETS:
        raise ConfigError(f"{key}: unknown data set {name!r}; choose from {', '.join(DATA_SETS)}")
    hub = DATA_SETS[name].hub
    if data.source == HUB and hub not in data.revisions:
        raise ConfigError(
            f"math_data.revisions: no commit for {hub} ({name}); add the one that its page on the "
            "hub shows under 'Files and versions'"
        )


def _base_config(config: JsonDict) -> JsonDict:
    if "checkpoint" in config:
        checkpoint_files(from_dict(CheckpointConfig, config["checkpoint"], "checkpoint."))
        return {"checkpoint": config["checkpoint"]}
    base = {
        "seed": config["pretrain"]["seed"],
        "model": config["model"],
        "supervised": config["pretrain"]["supervised"],
        "sampling": sampling(config),
        "validation": config["validation"],
        "reward": config["reward"],
        "compute": {**computing(config), "threads": config["pretrain"]["threads"]},
        "characters": TASKS[config["task"]["name"]].characters,
    }
    from_dict(PretrainConfig, base)
    model = from_dict(ModelConfig, config["model"])
    if model.hidden_size % (2 * model.heads):
        raise ConfigError(
            f"model.hidden_size = {model.hidden_size} must be a multiple of 2 x model.heads = "
            f"{2 * model.heads}; heads need an even size"
        )
    return base


def _evaluation_config(config: JsonDict) -> JsonDict:
    evaluation = {**config["evaluation"]}
    parsed = from_dict(EvaluationConfig, evaluation)
    check_engine("evaluation", parsed.engine)
    if max(parsed.pass_at) > parsed.samples:
        raise ConfigError(
            f"evaluation.pass_at = {list(parsed.pass_at)} exceeds evaluation.samples = "
            f"{parsed.samples}; raise samples or drop the larger k"
        )
    for split in parsed.splits:
        if split not in split_names(config):
            where = "math_data.benchmarks" if "math_data" in config else "task.splits"
            raise ConfigError(f"evaluation.splits: no split {split!r} in {where}; add it there")
    for name, members in parsed.pools.items():
        if name in parsed.splits:
            raise ConfigError(f"evaluation.pools: {name!r} is a split already; rename the pool")
        if missing := [split for split in members if split not in parsed.splits]:
            raise ConfigError(
                f"evaluation.pools.{name}: {missing[0]!r} is not evaluated; add it to evaluation.splits"
            )
    return {
        "evaluation": evaluation,
        "sampling": sampling(config),
        "reward": config["reward"],
        "compute": computing(config),
    }


def _exact_study_config(config: JsonDict) -> JsonDict | None:
    """The study with its methods written out; None where the YAML has no such section."""
    if "exact_study" not in config:
        return None
    methods = {}
    for name in config["exact_study"]["methods"]:
        entry = method_entry(config, name, "exact_study.methods")
        checked = objective(name, entry["objective"], entry["params"])
        methods[name] = {
            "objective": checked["name"],
            "params": checked["params"],
            **config["advantages"],
            **entry.get("advantages", {}),
        }
    study = {**config["exact_study"], "methods": methods}
    for count in from_dict(ExactStudyConfig, study, "exact_study.").updates_per_rollout:
        if study["updates"] % count:
            raise ConfigError(
                f"exact_study.updates = {study['updates']} is not divisible by updates_per_rollout = "
                f"{count}; change one"
            )
    return study


def _check_lengths(config: JsonDict) -> None:
    """Prompt and response must fit into the model's context; real prompts are measured at run time."""
    if "math_data" in config or "checkpoint" in config:
        return
    longest = max(split["max_operations"] for split in config["task"]["splits"].values())
    prompt = TASKS[config["task"]["name"]].prompt_tokens(longest)
    context, key = config["model"]["context"], "rollout.max_response_tokens"
    caps = {key: config["rollout"]["max_response_tokens"]}
    sections = {
        f"methods.{m}": config["methods"].get(m, {}) for m in config["experiment"]["methods"]
    }
    sections |= {f"regimes.{name}": regime for name, regime in config.get("regimes", {}).items()}
    for where, section in sections.items():
        override = section.get("rollout", {})
        caps[f"{where}.{key}"] = override.get("max_response_tokens", caps[key])
    for where, response in caps.items():
        if prompt + response > context:
            raise ConfigError(
                f"model.context = {context} is shorter than the longest prompt ({prompt} tokens) plus "
                f"{where} = {response}; raise context or lower max_response_tokens"
            )


def _check_validation(config: JsonDict) -> None:
    key, size = "task.splits.validation.size", config["task"]["splits"]["validation"]["size"]
    if "math_data" in config:
        key, size = "math_data.validation", config["math_data"]["validation"]
    wanted = config["validation"]["problems"]
    if wanted > size:
        raise ConfigError(
            f"validation.problems = {wanted} exceeds {key} = {size}; lower it or enlarge the split"
        )
