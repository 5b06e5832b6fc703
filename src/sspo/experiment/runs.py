"""Which runs an experiment consists of: methods x seeds in every regime, tuning trials, controls.

The ``experiment`` section itself is the regime ``main``; ``regimes`` adds others, each with what it
changes. The base model of ``task``, ``model`` and ``pretrain`` is called ``base``; ``bases`` adds
others. A run's name says what is not the main thing: ``sspo-s0``, ``sspo-stale16-second-s0``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from sspo.config.comparison import Regime, Tuning
from sspo.config.names import BASE, CONTROL, MAIN, TUNING
from sspo.config.profile import Profile
from sspo.config.reading import JsonDict, merged, parse, plain
from sspo.config.rollout import SamplingConfig
from sspo.config.run import ControlConfig, RunConfig
from sspo.config.settings import ComputeConfig
from sspo.config.study import TuningConfig
from sspo.experiment.objectives import check_params

OVERRIDABLE = ("advantages", "rollout", "train")


def rl_runs(profile: Profile) -> list[RunConfig]:
    """Methods x bases x seeds of every regime.

    Raises:
        ConfigError: a combination that cannot run; names the key and the fix.
    """
    variants = {base: profile.base_profile(base) for base in (BASE, *profile.bases)}
    return [
        _rl_run(variants[base], method, (name, regime), base, seed)
        for name, regime in _regimes(profile).items()
        for method in regime.methods or profile.experiment.methods
        for base, seed in product(regime.bases, regime.seeds)
    ]


def tuning_runs(profile: Profile) -> tuple[list[RunConfig], dict[str, TuningConfig]]:
    """The runs of all trials, and by regime what chooses between them; nothing without a tuning section.

    Raises:
        ConfigError: a trial that cannot run.
    """
    runs: list[RunConfig] = []
    choices: dict[str, TuningConfig] = {}
    if tuning := profile.tuning:
        for regime in tuning.regimes:
            found, choices[regime] = _trials(profile, tuning, regime)
            runs += found
    return runs, choices


def _trials(profile: Profile, tuning: Tuning, name: str) -> tuple[list[RunConfig], TuningConfig]:
    """The runs of one regime's trials, and what chooses between them."""
    regime = _regimes(profile)[name]
    variant = profile.base_profile(tuning.base)
    runs: list[RunConfig] = []
    trials: dict[str, list[JsonDict]] = {}
    for method in regime.methods or profile.experiment.methods:
        pairs = product(tuning.learning_rates, profile.tried(name)[method])
        for i, (rate, params) in enumerate(pairs):
            found = [
                _rl_run(variant, method, (name, regime), tuning.base, seed, (i, rate, params))
                for seed in tuning.seeds
            ]
            trial = {"learning_rate": rate, "params": params, "runs": [run.run for run in found]}
            trials.setdefault(method, []).append(trial)
            runs += found
    choice = {"accuracy": tuning.accuracy, "validations": tuning.validations, "trials": trials}
    return runs, parse(TuningConfig, choice, "tuning.")


def control_runs(profile: Profile) -> list[ControlConfig]:
    """The supervised-only control of the main regime, on each of its bases and seeds."""
    experiment = profile.experiment
    if not experiment.control:
        return []
    pairs = product(experiment.bases, experiment.seeds)
    return [_control_run(profile.base_profile(base), base, seed) for base, seed in pairs]


def computing(profile: Profile) -> ComputeConfig:
    """Where and how scripts compute, without what only a scheduler is told: that changes no result."""
    return ComputeConfig(
        **{key: getattr(profile.compute, key) for key in ComputeConfig.model_fields}
    )


def sampling(profile: Profile) -> SamplingConfig:
    """What validation and evaluation need of the rollout section; the rest concerns RL alone."""
    return SamplingConfig(
        **{key: getattr(profile.rollout, key) for key in SamplingConfig.model_fields}
    )


def measures_kl(train: Mapping[str, float]) -> bool:
    """Whether a run with this ``train`` section records its KL to the initial policy at all."""
    return train["kl_coefficient"] > 0.0 or 0 < train["kl_every"] <= train["steps"]


def tries_gates(params: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
    """Whether trials with these parameters make a grid of gates and temperatures for some method."""
    keys = ("gate", "tau_pos")
    grids = ([{p[key] for p in sets if key in p} for key in keys] for sets in params.values())
    return any(min(map(len, grid)) > 1 for grid in grids)


def _regimes(profile: Profile) -> dict[str, Regime]:
    experiment = profile.experiment
    tuned = profile.tuning is not None and MAIN in profile.tuning.regimes
    main = Regime(bases=experiment.bases, seeds=experiment.seeds, tuned=tuned)
    return {MAIN: main, **profile.regimes}


def _rl_run(
    profile: Profile,
    method: str,
    regime: tuple[str, Regime],
    base: str,
    seed: int,
    trial: tuple[int, float, JsonDict] | None = None,
) -> RunConfig:
    """The common values, over them the regime's, over them the method's, over them a trial's."""
    (name, changes), entry = regime, profile.methods[method]
    sections: JsonDict = {key: plain(getattr(profile, key)) for key in OVERRIDABLE}
    for over in (changes, entry):
        sections = merged(sections, {k: plain(getattr(over, k) or {}) for k in OVERRIDABLE})
    params, special = entry.params, [part for part in (name, base) if part not in (MAIN, BASE)]
    if trial:
        number, rate, params = trial
        special = [*([] if name == MAIN else [name]), f"{TUNING}{number}"]
        sections["train"]["learning_rate"] = rate
    check_params(method, entry.objective, params)
    return parse(
        RunConfig,
        {
            "run": "-".join([method, *special, f"s{seed}"]),
            "method": method,
            "regime": TUNING if trial else name,
            "base": base,
            "seed": seed,
            "tuned": "nothing" if trial else _tuned(changes),
            "trainer": entry.trainer or profile.trainer,
            "objective": {"name": entry.objective, "params": params},
            **sections,
            "lora": plain(profile.lora),
            "validation": plain(profile.validation),
            "reward": plain(profile.reward),
            "compute": plain(computing(profile)),
        },
        f"methods.{method}: ",
    )


def _tuned(regime: Regime) -> str:
    """A learning rate that the regime states wins over the one that was chosen."""
    if not regime.tuned:
        return "nothing"
    return "params" if "learning_rate" in plain(regime.train or {}) else "everything"


def _control_run(profile: Profile, base: str, seed: int) -> ControlConfig:
    """As many updates as a reinforcement-learning run makes, on as many sequences each."""
    train, rollout = profile.train, profile.rollout
    updates = train.updates_per_rollout * train.epochs
    supervised = profile.pretrain.supervised.changed(
        steps=train.steps * updates,
        batch_size=rollout.prompts_per_step * rollout.group_size // train.updates_per_rollout,
        learning_rate=train.learning_rate,
        schedule="constant",
        warmup_steps=train.warmup_updates,
        betas=train.betas,
        weight_decay=train.weight_decay,
        log_every=updates * train.eval_every,
        eval_every=updates * train.eval_every,
    )
    special = [base] if base != BASE else []
    return ControlConfig(
        run="-".join([CONTROL, *special, f"s{seed}"]),
        method=CONTROL,
        regime=MAIN,
        base=base,
        seed=seed,
        supervised=supervised,
        updates_per_step=updates,
        sampling=sampling(profile),
        validation=profile.validation,
        reward=profile.reward,
        compute=computing(profile),
    )
