"""Which runs an experiment consists of: methods x seeds in every regime, tuning trials, controls.

The ``experiment`` section itself is the regime ``main``; ``regimes`` adds others, each with what it
changes. The base model of ``task``, ``model`` and ``pretrain`` is called ``base``; ``bases`` adds
others. A run's name says what is not the main thing: ``sspo-s0``, ``sspo-stale16-second-s0``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.launch_file import read_launch
from sspo.config.names import BASE, CONTROL, MAIN, TUNING
from sspo.config.reading import JsonDict, from_dict
from sspo.config.settings import ControlConfig, RunConfig, SamplingConfig
from sspo.objectives.losses import check_objective

OVERRIDABLE = ("advantages", "rollout", "train")


def rl_runs(config: JsonDict) -> list[JsonDict]:
    """Methods x bases x seeds of every regime, each checked by the dataclass it will become.

    Raises:
        ConfigError: a combination that cannot run; names the key and the fix.
    """
    runs = []
    for name, regime in _regimes(config).items():
        for method in regime["methods"]:
            method_entry(config, method, "experiment.methods")
            for base, seed in product(regime["bases"], regime["seeds"]):
                run = _rl_run(config, method, {**regime, "name": name, "base": base}, seed)
                from_dict(RunConfig, run, f"methods.{method}: ")
                runs.append(run)
    return runs


def tuning_runs(config: JsonDict) -> tuple[list[JsonDict], JsonDict | None]:
    """The runs of all trials, and what chooses between them; nothing without a tuning section.

    Raises:
        ConfigError: methods with unequal numbers of trials, or a trial that cannot run.
    """
    tuning = config.get("tuning")
    if tuning is None:
        return [], None
    _check_bases(config, [tuning["base"]], "tuning.base")
    runs, trials = [], {}
    for method in dict.fromkeys(m for r in _regimes(config).values() for m in r["methods"]):
        trials[method] = []
        for i, (rate, params) in enumerate(_trials(tuning, method)):
            found = [_trial_run(config, method, i, rate, params, s) for s in tuning["seeds"]]
            names = [run["run"] for run in found]
            trials[method].append({"learning_rate": rate, "params": params, "runs": names})
            runs += found
    counts = {method: len(found) for method, found in trials.items()}
    if len(set(counts.values())) > 1:
        raise ConfigError(
            f"tuning.params: every method needs the same number of trials, got {counts}; add or "
            "remove some"
        )
    if unused := sorted(tuning["params"].keys() - trials.keys()):
        raise ConfigError(
            f"tuning.params.{unused[0]}: no regime runs this method; remove the entry"
        )
    every, steps = config["train"]["eval_every"], config["train"]["steps"]
    if tuning["validations"] > (most := 1 + math.ceil(steps / every)):
        raise ConfigError(
            f"tuning.validations = {tuning['validations']} exceeds the {most} validations of a run; "
            "lower it or train.eval_every"
        )
    choice = {key: tuning[key] for key in ("accuracy", "validations")} | {"trials": trials}
    return runs, choice


def control_runs(config: JsonDict) -> list[JsonDict]:
    """The supervised-only control of the main regime, on each of its bases and seeds."""
    experiment = config["experiment"]
    if not experiment["control"]:
        return []
    runs = []
    for base, seed in product(experiment["bases"], experiment["seeds"]):
        runs.append(_control_run(config, base, seed))
        from_dict(ControlConfig, runs[-1])
    return runs


def control_steps(config: JsonDict) -> int:
    """Updates of the supervised-only control: as many as a reinforcement-learning run makes."""
    return config["train"]["steps"] * config["train"]["updates_per_rollout"]


def method_entry(config: JsonDict, name: str, where: str) -> JsonDict:
    """A method's entry.

    Raises:
        ConfigError: there is none.
    """
    if name not in config["methods"]:
        known = ", ".join(config["methods"])
        raise ConfigError(
            f"{where}: {name!r} is not defined; choose from {known}, or add an entry under methods"
        )
    return config["methods"][name]


def objective(method: str, name: str, params: JsonDict) -> JsonDict:
    """An objective and its parameters, tried once.

    Raises:
        ConfigError: they cannot run.
    """
    try:
        check_objective(name, params)
    except ValueError as error:
        raise ConfigError(f"methods.{method}: {error}") from None
    return {"name": name, "params": params}


def check_engine(where: str, engine: str) -> None:
    """Refuse vLLM in this process where it is not installed.

    Raises:
        ConfigError: names the section, ``where``, and the fix.
    """
    if engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            f"{where}.engine = 'vllm' but vLLM is not installed; run `make vllm` or choose engine torch"
        )


def computing(config: JsonDict) -> JsonDict:
    """Where and how scripts compute, without what only a scheduler is told: that changes no result."""
    return {key: value for key, value in config["compute"].items() if key != "memory_mb"}


def sampling(config: JsonDict) -> JsonDict:
    """What validation and evaluation need of the rollout section; the rest concerns RL alone."""
    return {f.name: config["rollout"][f.name] for f in dataclasses.fields(SamplingConfig)}


def _regimes(config: JsonDict) -> dict[str, JsonDict]:
    """Every regime with its methods, bases, seeds, overrides, and whether it uses tuned values."""
    experiment, tuned = config["experiment"], "tuning" in config
    main = {"bases": experiment["bases"], "seeds": experiment["seeds"], "tuned": tuned}
    if BASE not in experiment["bases"]:
        raise ConfigError(f"experiment.bases: figures show runs from {BASE!r}; add it")
    found = {MAIN: main, **config.get("regimes", {})}
    for name, regime in found.items():
        where = "experiment" if name == MAIN else f"regimes.{name}"
        _check_bases(config, regime["bases"], f"{where}.bases")
        if regime["tuned"] and not tuned:
            raise ConfigError(f"{where}.tuned: there is no tuning section; add one or say false")
        if name in config.get("bases", {}):
            raise ConfigError(f"regimes.{name}: a base model has this name; rename one")
    return {name: {"methods": experiment["methods"], **regime} for name, regime in found.items()}


def _check_bases(config: JsonDict, names: Iterable[str], where: str) -> None:
    known = [BASE, *config.get("bases", {})]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{where}: {name!r} is not defined; choose from {', '.join(known)}, or add an entry "
                "under bases"
            )


def measures_kl(train: Mapping[str, object]) -> bool:
    """Whether a run with this ``train`` section records its KL to the initial policy at all."""
    return train["kl_coefficient"] > 0.0 or 0 < train["kl_every"] <= train["steps"]


def _rl_run(config: JsonDict, method: str, regime: JsonDict, seed: int) -> JsonDict:
    """The common values, over them the regime's, over them the method's."""
    entry = config["methods"][method]
    sections = {
        key: {**config[key], **regime.get(key, {}), **entry.get(key, {})} for key in OVERRIDABLE
    }
    trainer = entry.get("trainer", config["trainer"])
    if trainer == "trl":
        _check_trl(config, method, sections)
    check_engine(f"methods.{method}: rollout", sections["rollout"]["engine"])
    if (
        sections["rollout"]["old_logprobs"] == "engine"
        and sections["rollout"]["correction"] != "none"
    ):
        raise ConfigError(
            f"methods.{method}: rollout.correction weighs by the policy's old log-probabilities, which "
            "rollout.old_logprobs = 'engine' does not compute; choose policy, or correction none"
        )
    cap = entry["params"].get("max_response_tokens", sections["rollout"]["max_response_tokens"])
    if cap != sections["rollout"]["max_response_tokens"]:
        raise ConfigError(
            f"methods.{method}.params.max_response_tokens = {cap} is not rollout.max_response_tokens = "
            f"{sections['rollout']['max_response_tokens']}; set both alike"
        )
    if config["lora"]["rank"] and importlib.util.find_spec("peft") is None:
        raise ConfigError(
            f"lora.rank = {config['lora']['rank']} but peft is not installed; run `make lora` or set it "
            "to 0"
        )
    return {
        **_identity(method, regime["name"], regime["base"], seed),
        "tuned": _tuned(regime),
        "trainer": trainer,
        "objective": objective(method, entry["objective"], entry["params"]),
        **sections,
        "lora": config["lora"],
        "validation": config["validation"],
        "reward": config["reward"],
        "compute": computing(config),
    }


def _check_trl(config: JsonDict, method: str, sections: JsonDict) -> None:
    """What the other trainer needs has to be there before anything runs."""
    if importlib.util.find_spec("trl") is None:
        raise ConfigError(
            f"methods.{method}: trainer = 'trl' but TRL is not installed; run `make trl` or choose "
            "trainer native"
        )
    if sections["train"]["micro_batch_tokens"]:
        raise ConfigError(
            f"methods.{method}: trainer = 'trl' makes micro-batches of equal size; set "
            "train.micro_batch_tokens to 0"
        )
    launch = config["backends"]["accelerate_config"]
    if launch and not Path(launch).is_file():
        raise ConfigError(
            f"backends.accelerate_config = {launch!r}: no such file; write it with `accelerate config "
            "--config_file`, or leave it empty for one process"
        )
    read_launch(launch)


def _tuned(regime: JsonDict) -> str:
    """A learning rate that the regime states wins over the one that was chosen."""
    if not regime["tuned"]:
        return "nothing"
    return "params" if "learning_rate" in regime.get("train", {}) else "everything"


def _trials(tuning: JsonDict, method: str) -> Iterator[tuple[float, JsonDict]]:
    if method not in tuning["params"]:
        raise ConfigError(f"tuning.params: nothing to try for {method}; add an entry")
    return product(tuning["learning_rates"], tuning["params"][method])


def _trial_run(
    config: JsonDict, method: str, trial: int, rate: float, params: JsonDict, seed: int
) -> JsonDict:
    base = config["tuning"]["base"]
    run = _rl_run(config, method, {"name": TUNING, "base": base, "tuned": False}, seed)
    run |= {
        "run": f"{method}-{TUNING}{trial}-s{seed}",
        "objective": objective(method, run["objective"]["name"], params),
        "train": {**run["train"], "learning_rate": rate},
    }
    from_dict(RunConfig, run, f"tuning, {method}: ")
    return run


def _identity(method: str, regime: str, base: str, seed: int) -> JsonDict:
    special = [name for name in (regime, base) if name not in (MAIN, BASE)]
    run = "-".join([method, *special, f"s{seed}"])
    return {"run": run, "method": method, "regime": regime, "base": base, "seed": seed}


def _control_run(config: JsonDict, base: str, seed: int) -> JsonDict:
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
        **_identity(CONTROL, MAIN, base, seed),
        "supervised": supervised,
        "updates_per_step": updates,
        "sampling": sampling(config),
        "validation": config["validation"],
        "reward": config["reward"],
        "compute": computing(config),
    }
