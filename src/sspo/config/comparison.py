"""What is compared: methods, base models, regimes, and how every method is tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sspo.config.names import DECIDING, MAIN
from sspo.config.reading import JsonDict, Section, optional_setting, partial, setting
from sspo.config.rollout import RolloutConfig
from sspo.config.settings import AdvantageConfig, TrainConfig
from sspo.config.study import Names, Rates
from sspo.config.types import Name, Seeds

Trainer = Literal["native", "trl"]
TRAINER = "the training loop: the native one, or the same inside TRL (`make trl`)"


if TYPE_CHECKING:
    RolloutChanges = Section
    AdvantageChanges = Section
    TrainChanges = Section
else:
    RolloutChanges, AdvantageChanges = partial(RolloutConfig), partial(AdvantageConfig)
    TrainChanges = partial(TrainConfig)


# Method -> sets of its objective's parameters.
ParamSets = dict[Name, Annotated[tuple[JsonDict, ...], Field(min_length=1)]]


class Experiment(Section):
    """Which runs the experiment consists of."""

    methods: Names = setting("names of entries under methods")
    bases: Names = setting("base models to start from, entries of bases or base itself")
    seeds: Seeds = setting("one run per method and seed")
    control: bool = setting("also run the supervised-only control")
    deciding_regimes: dict[str, Names] = optional_setting(
        "regimes in which the claims are decided, under a heading for each kind", default=DECIDING
    )


class BaseChanges(Section):
    """What differs for a further base model; checked again once merged."""

    task: JsonDict | None = setting("differences of the task", default=None)
    gym_data: JsonDict | None = setting("differences of gym_data", default=None)
    model: JsonDict | None = setting("differences of the model", default=None)
    pretrain: JsonDict | None = setting("differences of the warm-up", default=None)
    rollout: JsonDict | None = setting(
        "differences of rollout for this base model and its runs, such as longer responses",
        default=None,
    )
    checkpoint: JsonDict | None = setting("another published model to start from", default=None)


class Regime(Section):
    """A further setting in which the methods are compared."""

    bases: Names = setting("base models to start from")
    seeds: Seeds = setting("one run per method and seed")
    tuned: bool = setting("with the learning rate and parameters that the tuning chose")
    methods: Names | None = setting(
        "which of the experiment's methods it has; left out, all of them", default=None
    )
    tuning_params: ParamSets | None = setting(
        "what its trials try instead of tuning.params, for the methods that it names", default=None
    )
    rollout: RolloutChanges | None = setting("what differs of rollout", default=None)
    advantages: AdvantageChanges | None = setting("what differs of advantages", default=None)
    train: TrainChanges | None = setting("what differs of train", default=None)


class Method(Section):
    """An objective with its parameters, its look, and what it overrides."""

    label: str = setting("name in figures", min_length=1)
    color: str = setting("colour in figures, #rrggbb", pattern="^#[0-9A-Fa-f]{6}$")
    objective: str = setting("a key of LOSSES in src/sspo/objectives/losses.py")
    params: JsonDict = setting("the objective's keyword arguments")
    trainer: Trainer | None = setting(TRAINER, default=None)
    optional: bool | None = setting(
        "leave the method out, and say so, where a package that it needs is not installed",
        default=None,
    )
    rollout: RolloutChanges | None = setting("what differs of rollout", default=None)
    advantages: AdvantageChanges | None = setting("what differs of advantages", default=None)
    train: TrainChanges | None = setting("what differs of train", default=None)


class Tuning(Section):
    """Every method's learning rate and parameters are chosen among equally many trials.

    A method with a single set of parameters has nothing but its learning rate to choose.
    """

    base: Name = setting("base model of the trials")
    seeds: Seeds = setting("seeds of every trial")
    regimes: Names = optional_setting(
        "regimes that have trials of their own; the other tuned ones take what those of main chose",
        default=(MAIN,),
    )
    accuracy: Literal["pass@1", "greedy"] = setting("what is compared")
    validations: int = setting("how many of a run's last validations are averaged", ge=1)
    learning_rates: Rates = setting("each is tried with each set of parameters")
    params: ParamSets = setting("method -> sets of its objective's parameters")
