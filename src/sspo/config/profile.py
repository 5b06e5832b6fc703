"""A profile: the YAML that an experiment is made of, several files merged over ``default.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic import model_validator

from sspo.config.comparison import (
    TRAINER,
    BaseChanges,
    Experiment,
    Method,
    Regime,
    Trainer,
    Tuning,
)
from sspo.config.errors import ConfigError
from sspo.config.gym import GymDataConfig
from sspo.config.names import BASE, CONTROL, MAIN, TUNING
from sspo.config.reading import (
    JsonDict,
    Section,
    merged,
    parse,
    plain,
    refuse,
    setting,
)
from sspo.config.rollout import RolloutConfig
from sspo.config.run import PIECES
from sspo.config.settings import (
    AdvantageConfig,
    CheckpointConfig,
    ComputeConfig,
    LoraConfig,
    ModelConfig,
    RewardConfig,
    SupervisedConfig,
    TrackingConfig,
    TrainConfig,
    ValidationConfig,
)
from sspo.config.study import (
    EvaluationConfig,
    ExactStudySection,
    MathDataConfig,
    TaskConfig,
)
from sspo.config.types import Name
from sspo.config.yaml_files import read_yaml


class Pretrain(Section):
    """The supervised warm-up to the base model."""

    seed: int = setting("seed of weights and data order", ge=0)
    threads: int = setting("CPU threads", ge=1)
    pieces: int | None = PIECES
    supervised: SupervisedConfig


class Backends(Section):
    """How trainers other than the native one are launched."""

    accelerate_config: str = setting(
        "file of `accelerate config` that says how many processes train a run with trainer trl; "
        "empty for one process",
        pattern="^[A-Za-z0-9_./-]*$",
    )


class MachineConfig(ComputeConfig):
    """Where and how to compute, and what a scheduler is told."""

    memory_mb: int = setting(
        "main memory in MB that a job with a model asks a cluster for; part of no result", ge=1
    )


class Profile(Section):
    """The whole configuration of an experiment."""

    results_dir: str = setting(
        "where results go, inside the results folder", pattern="^results(/[A-Za-z0-9_-]+)*$"
    )
    figures_dir: str = setting(
        "where figures go, inside the figures folder", pattern="^figures(/[A-Za-z0-9_-]+)*$"
    )
    experiment: Experiment
    task: TaskConfig
    math_data: MathDataConfig | None = setting(
        "real data sets; left out, the task is used", default=None
    )
    gym_data: GymDataConfig | None = setting(
        "problems of reasoning-gym; left out, the task is used", default=None
    )
    checkpoint: CheckpointConfig | None = setting(
        "a published model to start from; left out, one is trained from scratch", default=None
    )
    model: ModelConfig
    pretrain: Pretrain
    trainer: Trainer = setting(TRAINER)
    backends: Backends
    rollout: RolloutConfig
    advantages: AdvantageConfig
    train: TrainConfig
    lora: LoraConfig
    validation: ValidationConfig
    reward: RewardConfig
    evaluation: EvaluationConfig
    exact_study: ExactStudySection | None = setting(
        "what the objectives do where everything can be enumerated; left out, there is no such study",
        default=None,
    )
    compute: MachineConfig
    tracking: TrackingConfig
    bases: dict[Name, BaseChanges] = setting(
        "further base models beside the main one, which is called base", default={}
    )
    regimes: dict[Name, Regime] = setting(
        "further settings in which the methods are compared, beside the experiment itself",
        default={},
    )
    tuning: Tuning | None = setting("left out, nothing is tuned", default=None)
    methods: dict[Name, Method] = setting(
        "method name -> objective and what belongs to it", min_length=1
    )

    @model_validator(mode="after")
    def _names_are_free_and_defined(self) -> Self:
        reserved = {
            "methods": {CONTROL},
            "bases": {BASE},
            "regimes": {MAIN, BASE, TUNING, *self.bases},
        }
        for section, names in reserved.items():
            if taken := sorted({*getattr(self, section)} & names):
                raise refuse(f"{section}.{taken[0]}: this name is taken; rename the entry")
        known = {
            "methods": [*self.methods],
            "bases": [BASE, *self.bases],
            "regimes": [MAIN, *self.regimes],
        }
        for where, section, name in self._references():
            if name not in known[section]:
                raise refuse(
                    f"{where}: {name!r} is not defined; choose from {', '.join(known[section])}, or "
                    f"add an entry under {section}"
                )
        for name, regime in self.regimes.items():
            if lost := [m for m in regime.methods or () if m not in self.experiment.methods]:
                raise refuse(
                    f"regimes.{name}.methods: {lost[0]!r} is none of experiment.methods; add it there"
                )
        if BASE not in self.experiment.bases:
            raise refuse(f"experiment.bases: figures show runs from {BASE!r}; add it")
        return self

    def _references(self) -> Iterator[tuple[str, str, str]]:
        """Where an entry of another section is named: (key, section, name)."""
        study = self.exact_study.methods if self.exact_study else ()
        lists = [
            ("experiment.methods", "methods", self.experiment.methods),
            ("exact_study.methods", "methods", study),
            ("experiment.bases", "bases", self.experiment.bases),
            *(
                (f"experiment.deciding_regimes.{kind}", "regimes", regimes)
                for kind, regimes in self.experiment.deciding_regimes.items()
            ),
            *((f"regimes.{n}.bases", "bases", r.bases) for n, r in self.regimes.items()),
            *(
                (f"regimes.{n}.methods", "methods", r.methods)
                for n, r in self.regimes.items()
                if r.methods
            ),
            ("tuning.base", "bases", [self.tuning.base] if self.tuning else []),
        ]
        return ((where, section, name) for where, section, names in lists for name in names)

    @model_validator(mode="after")
    def _tuning_covers_what_is_tuned(self) -> Self:
        if self.tuning is None:
            if tuned := [name for name, regime in self.regimes.items() if regime.tuned]:
                raise refuse(
                    f"regimes.{tuned[0]}.tuned: there is no tuning section; add one or say false"
                )
            return self
        for name in self.tuning.regimes:
            if name != MAIN and not (name in self.regimes and self.regimes[name].tuned):
                raise refuse(
                    f"tuning.regimes: {name!r} is no tuned regime; add it under regimes, with tuned: true"
                )
        if MAIN not in self.tuning.regimes:
            choosing = {*self.tuning.regimes}
            if lost := [n for n, r in self.regimes.items() if r.tuned and n not in choosing]:
                raise refuse(
                    f"regimes.{lost[0]}.tuned: neither this regime nor {MAIN} has trials; add one to "
                    "tuning.regimes"
                )
        for name in self.tuning.regimes:
            changes = plain(self.regimes[name].train or {}) if name != MAIN else {}
            train = {**plain(self.train), **changes}
            most = 1 + -(-train["steps"] // train["eval_every"])
            if self.tuning.validations > most:
                where = "" if name == MAIN else f" in {name}"
                raise refuse(
                    f"tuning.validations = {self.tuning.validations} exceeds the {most} validations of a "
                    f"run{where}; lower it or train.eval_every"
                )
        return self

    @model_validator(mode="after")
    def _methods_have_as_many_trials(self) -> Self:
        if self.tuning is None:
            return self
        methods, rates = self.experiment.methods, len(self.tuning.learning_rates)
        own = {name: regime.tuning_params for name, regime in self.regimes.items()}
        sets = {"tuning.params": self.tuning.params}
        sets |= {f"regimes.{name}.tuning_params": params for name, params in own.items() if params}
        for where, params in sets.items():
            if unused := sorted(params.keys() - {*methods}):
                raise refuse(f"{where}.{unused[0]}: no regime runs this method; remove the entry")
        for name in self.tuning.regimes:
            tried = self.tried(name)
            if untried := [method for method in methods if method not in tried]:
                raise refuse(f"tuning.params: nothing to try for {untried[0]}; add an entry")
            counts = {method: rates * len(params) for method, params in tried.items()}
            if len({*counts.values()} - {rates}) > 1:
                where = f"regimes.{name}.tuning_params" if own.get(name) else "tuning.params"
                raise refuse(
                    f"{where}: every method needs the same number of trials, got {counts}; add or "
                    "remove some"
                )
        if lost := [name for name in own if own[name] and name not in self.tuning.regimes]:
            raise refuse(
                f"regimes.{lost[0]}.tuning_params: this regime has no trials; add it to tuning.regimes"
            )
        return self

    @model_validator(mode="after")
    def _data_and_reward_belong_together(self) -> Self:
        if self.math_data and self.gym_data:
            raise refuse("gym_data: there is a section math_data already; remove one")
        data, rewards = ("the procedural tasks need", ["exact"])
        if self.math_data:
            data, rewards = "math_data needs", ["math", "number"]
        if self.gym_data:
            data, rewards = "gym_data needs", ["reasoning_gym", "number"]
        if self.reward.name not in rewards:
            raise refuse(
                f"reward.name = {self.reward.name!r}: {data} {' or '.join(map(repr, rewards))}; change "
                "it, or the data"
            )
        if self.math_data and self.experiment.control:
            raise refuse(
                "experiment.control = True: real data sets have no worked solutions to train the "
                "control on; set it to false"
            )
        if self.math_data and not self.checkpoint:
            raise refuse("math_data needs a model that can read; add a section checkpoint")
        solved = self.experiment.control or not self.checkpoint
        if self.gym_data and solved and "warmup" not in self.gym_data.splits:
            raise refuse(
                "gym_data.splits.warmup: missing; add it, as base model or control are trained on it"
            )
        return self

    @model_validator(mode="after")
    def _splits_hold_what_is_asked_of_them(self) -> Self:
        where, data = "task.splits", (self.gym_data or self.task).splits
        if self.gym_data:
            where = "gym_data.splits"
        key, size = f"{where}.validation.size", data["validation"].size
        if self.math_data:
            where = "math_data.benchmarks"
            key, size = "math_data.validation", self.math_data.validation
        if self.validation.problems > size:
            raise refuse(
                f"validation.problems = {self.validation.problems} exceeds {key} = {size}; lower it or "
                "enlarge the split"
            )
        for split in self.evaluation.splits:
            if split not in self.split_names():
                raise refuse(f"evaluation.splits: no split {split!r} in {where}; add it there")
        return self

    def split_names(self) -> list[str]:
        """The splits that ``prepare_data`` makes."""
        if self.math_data:
            return ["train", "validation", *self.math_data.benchmarks]
        return [*(self.gym_data or self.task).splits]

    def tried(self, regime: str) -> dict[str, tuple[JsonDict, ...]]:
        """The sets of parameters among which a regime's trials choose, by method."""
        own = self.regimes[regime].tuning_params if regime in self.regimes else None
        return {**(self.tuning.params if self.tuning else {}), **(own or {})}

    def base_profile(self, name: str) -> Profile:
        """The configuration as a base model sees it.

        Raises:
            ConfigError: what differs for it does not fit the rest; names the base and the key.
        """
        if name == BASE:
            return self
        changes = plain(self.bases[name])
        if (self.checkpoint or "checkpoint" in changes) and changes.keys() & {"model", "pretrain"}:
            raise ConfigError(
                f"bases.{name}: a checkpoint has a model of its own; remove model and pretrain"
            )
        rest = {**plain(self), "bases": {other: {} for other in self.bases}}
        return parse(Profile, merged(rest, changes), f"bases.{name}: ")


def read_profile(paths: Sequence[str | Path]) -> Profile:
    """A profile from files, each merged over those before it, all over ``default.yaml`` beside them.

    Raises:
        ConfigError: as ``parse`` and ``read_yaml``.
    """
    files = [Path(path) for path in paths]
    config: JsonDict = {}
    for file in (files[0].with_name("default.yaml"), *files):
        config = merged(config, read_yaml(file))
    return check_profile(config, str(files[-1]))


def check_profile(config: Mapping[str, object], source: str) -> Profile:
    """A merged configuration, checked, also as every further base model sees it.

    Raises:
        ConfigError: one line with the file, the key, its value and the fix.
    """
    profile = parse(Profile, plain(config), f"{source}: ")
    for name in profile.bases:
        try:
            profile.base_profile(name)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
    return profile
