"""From one YAML to checked, self-contained configs: one JSON per dataset, base model and run.

A config holds only what its rule depends on, so that editing a value reruns exactly what it touches.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Mapping

from sspo.benchmarks import DATA_SETS, HUB
from sspo.config import (
    ConfigError,
    ControlConfig,
    EvaluationConfig,
    ExactStudyConfig,
    JsonDict,
    MathDataConfig,
    ModelConfig,
    PretrainConfig,
    RunConfig,
    SamplingConfig,
    from_dict,
)
from sspo.losses import check_objective
from sspo.schema import plain
from sspo.tasks import TASKS

CONTROL = "supervised"


def expand_config(config: Mapping[str, object], source: str) -> dict[str, JsonDict]:
    """Every config of the experiment: place (a folder under the results) -> plain data.

    Places are ``data``, ``base``, ``evaluation``, ``methods`` (labels and colours, for figures),
    ``settings`` (everything, for table T4), ``exact_study`` and ``exact_study/methods`` where the
    YAML has that section, and ``runs/{method}-s{seed}`` for every method and for the
    supervised-only control.

    Raises:
        ConfigError: a combination that cannot run; names the key and the fix.
    """
    config = plain(config)
    try:
        data = _data_config(config)
        runs = {f"runs/{run['run']}": run for run in _runs(config)}
        base = _base_config(config)
        evaluation = _evaluation_config(config)
        study = _exact_study_config(config)
        _check_lengths(config)
        _check_validation(config)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    used = {name: config["methods"][name] for name in config["experiment"]["methods"]}
    studies = {}
    if study:
        studies["exact_study"] = study
        studies["exact_study/methods"] = _looks(config, study["methods"])
    return {
        "data": data,
        "base": base,
        "evaluation": evaluation,
        "methods": _looks(config, used),
        "settings": {**config, "methods": used},
        **studies,
        **runs,
    }


def _looks(config: JsonDict, methods: Iterable[str]) -> JsonDict:
    """Label and colour of methods, for figures."""
    entries = {name: config["methods"][name] for name in methods}
    return {n: {"label": entry["label"], "color": entry["color"]} for n, entry in entries.items()}


def split_names(config: Mapping[str, object]) -> list[str]:
    """The splits that ``prepare_data`` makes."""
    if "math_data" in config:
        return ["train", "validation", *config["math_data"]["benchmarks"]]
    return list(config["task"]["splits"])


def control_steps(config: Mapping[str, object]) -> int:
    """Updates of the supervised-only control: as many as a reinforcement-learning run makes."""
    return config["train"]["steps"] * config["train"]["updates_per_rollout"]


def _runs(config: JsonDict) -> list[JsonDict]:
    """Methods x seeds, then the control x seeds; each checked by the dataclass it will become."""
    experiment = config["experiment"]
    runs = []
    for method in experiment["methods"]:
        _method(config, method, "experiment.methods")
        for seed in experiment["seeds"]:
            runs.append(_rl_run(config, method, seed))
            from_dict(RunConfig, runs[-1], f"methods.{method}: ")
    if experiment["control"]:
        for seed in experiment["seeds"]:
            runs.append(_control_run(config, seed))
            from_dict(ControlConfig, runs[-1])
    return runs


def _rl_run(config: JsonDict, method: str, seed: int) -> JsonDict:
    entry = config["methods"][method]
    run = {
        "run": f"{method}-s{seed}",
        "method": method,
        "seed": seed,
        "objective": _objective(method, entry),
        "advantages": {**config["advantages"], **entry.get("advantages", {})},
        "rollout": {**config["rollout"], **entry.get("rollout", {})},
        "train": {**config["train"], **entry.get("train", {})},
        "validation": config["validation"],
        "reward": config["reward"],
        "compute": config["compute"],
    }
    if run["rollout"]["engine"] == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            f"methods.{method}: rollout.engine = 'vllm' but vLLM is not installed; run `make vllm` "
            "or choose engine torch"
        )
    return run


def _method(config: JsonDict, name: str, where: str) -> JsonDict:
    if name not in config["methods"]:
        known = ", ".join(config["methods"])
        raise ConfigError(
            f"{where}: {name!r} is not defined; choose from {known}, or add an entry under methods"
        )
    return config["methods"][name]


def _objective(method: str, entry: JsonDict) -> JsonDict:
    try:
        check_objective(entry["objective"], entry["params"])
    except ValueError as error:
        raise ConfigError(f"methods.{method}: {error}") from None
    return {"name": entry["objective"], "params": entry["params"]}


def _control_run(config: JsonDict, seed: int) -> JsonDict:
    updates = config["train"]["updates_per_rollout"]
    supervised = {
        **config["pretrain"]["supervised"],
        "steps": control_steps(config),
        "batch_size": config["rollout"]["prompts_per_step"]
        * config["rollout"]["group_size"]
        // updates,
        "learning_rate": config["train"]["learning_rate"],
        "schedule": "constant",
        "warmup_steps": config["train"]["warmup_updates"],
        "betas": config["train"]["betas"],
        "weight_decay": config["train"]["weight_decay"],
        "log_every": updates * config["train"]["eval_every"],
        "eval_every": updates * config["train"]["eval_every"],
    }
    return {
        "run": f"{CONTROL}-s{seed}",
        "method": CONTROL,
        "seed": seed,
        "supervised": supervised,
        "updates_per_step": updates,
        "sampling": _sampling(config),
        "validation": config["validation"],
        "reward": config["reward"],
        "compute": config["compute"],
    }


def _sampling(config: JsonDict) -> JsonDict:
    """What validation and evaluation need of the rollout section; the rest concerns RL alone."""
    return {f.name: config["rollout"][f.name] for f in dataclasses.fields(SamplingConfig)}


def _data_config(config: JsonDict) -> JsonDict:
    if "math_data" in config:
        return _math_data_config(config)
    task = config["task"]
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
    base = {
        "seed": config["pretrain"]["seed"],
        "model": config["model"],
        "supervised": config["pretrain"]["supervised"],
        "sampling": _sampling(config),
        "validation": config["validation"],
        "reward": config["reward"],
        "compute": {**config["compute"], "threads": config["pretrain"]["threads"]},
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
    if max(parsed.pass_at) > parsed.samples:
        raise ConfigError(
            f"evaluation.pass_at = {list(parsed.pass_at)} exceeds evaluation.samples = "
            f"{parsed.samples}; raise samples or drop the larger k"
        )
    for split in parsed.splits:
        if split not in split_names(config):
            where = "math_data.benchmarks" if "math_data" in config else "task.splits"
            raise ConfigError(f"evaluation.splits: no split {split!r} in {where}; add it there")
    return {
        "evaluation": evaluation,
        "sampling": _sampling(config),
        "reward": config["reward"],
        "compute": config["compute"],
    }


def _exact_study_config(config: JsonDict) -> JsonDict | None:
    """The study with its methods written out; None where the YAML has no such section."""
    if "exact_study" not in config:
        return None
    methods = {}
    for name in config["exact_study"]["methods"]:
        entry = _method(config, name, "exact_study.methods")
        objective = _objective(name, entry)
        methods[name] = {
            "objective": objective["name"],
            "params": objective["params"],
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
    if "math_data" in config:
        return
    longest = max(split["max_operations"] for split in config["task"]["splits"].values())
    prompt = TASKS[config["task"]["name"]].prompt_tokens(longest)
    context, key = config["model"]["context"], "rollout.max_response_tokens"
    caps = {key: config["rollout"]["max_response_tokens"]}
    for method in config["experiment"]["methods"]:
        override = config["methods"][method].get("rollout", {})
        caps[f"methods.{method}.{key}"] = override.get("max_response_tokens", caps[key])
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
