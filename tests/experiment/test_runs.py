"""Which runs an experiment consists of: regimes, base models, trials, controls."""

import copy
import itertools

import pytest
import torch
import yaml

from sspo.config.errors import ConfigError
from sspo.config.profile import check_profile
from sspo.config.reading import merged, parse, plain
from sspo.config.run import RunConfig
from sspo.config.settings import ModelConfig
from sspo.experiment.expand import expand_profile
from sspo.experiment.runs import control_runs, rl_runs, tries_gates, tuning_runs
from sspo.models.policy import build_model
from support.paths import PROFILES

CLIPS = [{"clip_low": 0.2, "clip_high": 0.2}, {"clip_low": 0.1, "clip_high": 0.1}]
GATES = [{"gate": "sigmoid", "tau_pos": tau, "tau_neg": tau} for tau in (1.0, 2.0)]
STUDY = {
    "experiment": {"methods": ["grpo", "sspo"], "bases": ["base", "second"], "seeds": [3, 4]},
    "bases": {"second": {"pretrain": {"seed": 1}}, "letters": {"task": {"name": "count"}}},
    "regimes": {
        "stale": {
            "bases": ["second"],
            "seeds": [7],
            "tuned": True,
            "rollout": {"prompts_per_step": 128},
            "train": {"updates_per_rollout": 16, "steps": 20},
        },
        "slow": {
            "bases": ["base"],
            "seeds": [7],
            "tuned": True,
            "train": {"learning_rate": 1e-5},
        },
        "other": {"bases": ["letters"], "seeds": [7], "tuned": False},
    },
    "tuning": {
        "base": "base",
        "seeds": [9],
        "accuracy": "pass@1",
        "validations": 2,
        "learning_rates": [1e-4, 2e-4],
        "params": {"grpo": CLIPS, "sspo": GATES},
    },
}


def study(**changes) -> dict:
    default = yaml.safe_load((PROFILES / "default.yaml").read_text(encoding="utf-8"))
    return copy.deepcopy(merged(merged(default, STUDY), changes))


def expand(config: dict) -> dict:
    return expand_profile(check_profile(config, "mine.yaml"), "mine.yaml")


def runs_of(config: dict) -> list[dict]:
    return [plain(run) for run in rl_runs(check_profile(config, "mine.yaml"))]


def test_a_name_says_what_is_not_the_main_thing():
    names = {run["run"] for run in runs_of(study())}
    assert names == {
        *(f"{m}{b}-s{s}" for m in ("grpo", "sspo") for b in ("", "-second") for s in (3, 4)),
        *(
            f"{m}-{r}-s7"
            for m in ("grpo", "sspo")
            for r in ("stale-second", "slow", "other-letters")
        ),
    }


def test_every_method_meets_the_same_bases_seeds_and_settings_in_every_regime():
    runs = runs_of(study())
    differs = ("run", "method", "objective")
    shared = {
        method: [
            {k: v for k, v in run.items() if k not in differs}
            for run in runs
            if run["method"] == method
        ]
        for method in ("grpo", "sspo")
    }
    assert shared["grpo"] == shared["sspo"]
    assert len(shared["grpo"]) == 7


def test_a_regime_changes_what_it_names_and_nothing_else():
    runs = {run["run"]: parse(RunConfig, run) for run in runs_of(study())}
    main, stale = runs["sspo-second-s3"], runs["sspo-stale-second-s7"]
    assert (stale.regime, stale.base, stale.train.updates_per_rollout) == ("stale", "second", 16)
    assert stale.rollout.prompts_per_step == 128
    assert stale.rollout.group_size == main.rollout.group_size
    assert stale.train.learning_rate == main.train.learning_rate
    assert stale.objective == main.objective


def test_a_methods_own_override_wins_over_the_regimes():
    config = study(methods={"sspo": {"train": {"steps": 7}}})
    runs = {run["run"]: run for run in runs_of(config)}
    assert runs["sspo-stale-second-s7"]["train"]["steps"] == 7
    assert runs["grpo-stale-second-s7"]["train"]["steps"] == 20


def test_tuned_says_what_the_tuning_decides():
    tuned = {run["regime"]: run["tuned"] for run in runs_of(study())}
    assert tuned == {
        "main": "everything",
        "stale": "everything",
        "slow": "params",
        "other": "nothing",
    }
    untuned = study()
    del untuned["tuning"], untuned["regimes"]
    assert {run["tuned"] for run in runs_of(untuned)} == {"nothing"}


def test_trials_are_all_pairs_of_rates_and_parameters_for_every_method():
    runs, choices = tuning_runs(check_profile(study(), "mine.yaml"))
    choice = choices["main"]
    assert {len(trials) for trials in choice.trials.values()} == {4}
    by_name = {run.run: run for run in runs}
    assert len(by_name) == len(runs) == 8
    for method, params in (("grpo", CLIPS), ("sspo", GATES)):
        expected = itertools.product([1e-4, 2e-4], params)
        for trial, (rate, values) in zip(choice.trials[method], expected, strict=True):
            run = by_name[trial.runs[0]]
            assert len(trial.runs) == 1
            assert (run.regime, run.seed, run.train.learning_rate) == ("tuning", 9, rate)
            assert run.objective.params == values
    untuned = study()
    del untuned["tuning"], untuned["regimes"]
    assert tuning_runs(check_profile(untuned, "mine.yaml")) == ([], {})


def test_a_regime_may_have_some_of_the_methods_alone():
    config = study()
    config["regimes"]["stale"]["methods"] = ["sspo"]
    config["tuning"]["regimes"] = ["main", "stale"]
    profile = check_profile(config, "mine.yaml")
    assert {run.method for run in rl_runs(profile) if run.regime == "stale"} == {"sspo"}
    assert {run.method for run in rl_runs(profile) if run.regime == "slow"} == {"grpo", "sspo"}
    _, choices = tuning_runs(profile)
    assert [*choices["stale"].trials] == ["sspo"]
    config["regimes"]["stale"]["methods"] = ["gmpo"]
    with pytest.raises(
        ConfigError, match="regimes.stale.methods: 'gmpo' is none of experiment.methods"
    ):
        check_profile(config, "mine.yaml")


def test_a_regime_with_trials_of_its_own_tries_its_own_settings():
    config = study()
    config["tuning"]["regimes"] = ["stale"]
    with pytest.raises(
        ConfigError, match=r"regimes.slow.tuned: neither this regime nor main has trials"
    ):
        check_profile(config, "mine.yaml")
    del config["regimes"]["slow"]
    profile = check_profile(config, "mine.yaml")
    runs, choices = tuning_runs(profile)
    assert [*choices] == ["stale"]
    assert {run.train.updates_per_rollout for run in runs} == {
        config["regimes"]["stale"]["train"]["updates_per_rollout"]
    }
    assert {run.regime for run in runs} == {"tuning"}
    assert {run.tuned for run in runs} == {"nothing"}
    assert runs[0].run == "grpo-stale-tuning0-s9"
    tuned = {run.regime: run.tuned for run in rl_runs(profile)}
    assert (tuned["main"], tuned["stale"]) == ("nothing", "everything")
    config["tuning"]["regimes"] = ["main", "stale"]
    runs, choices = tuning_runs(check_profile(config, "mine.yaml"))
    assert [*choices] == ["main", "stale"]
    assert len({run.run for run in runs}) == 16


def test_a_regime_may_try_parameters_of_its_own():
    config = study()
    config["tuning"]["regimes"] = ["main", "stale"]
    config["regimes"]["stale"]["tuning_params"] = {
        "grpo": [{"clip_low": 0.5, "clip_high": 0.5}] * 2
    }
    _, choices = tuning_runs(check_profile(config, "mine.yaml"))
    tried = {
        (regime, method): [trial.params for trial in trials]
        for regime, choice in choices.items()
        for method, trials in choice.trials.items()
    }
    assert tried["main", "grpo"] == CLIPS * 2
    assert tried["stale", "grpo"] == [{"clip_low": 0.5, "clip_high": 0.5}] * 4
    assert tried["main", "sspo"] == tried["stale", "sspo"] == GATES * 2


@pytest.mark.parametrize(
    "params, message",
    [
        ({"grpo": [*CLIPS, CLIPS[0]]}, "regimes.stale.tuning_params: every method needs the same"),
        ({"sapo": CLIPS}, "regimes.stale.tuning_params.sapo: no regime runs this method"),
        ({"grpo": [{"clip": 1}, {"clip": 2}]}, "grpo has no parameter 'clip'"),
    ],
)
def test_parameters_that_a_regime_cannot_try_are_refused(params, message):
    config = study(regimes={"stale": {"tuning_params": params}})
    config["tuning"]["regimes"] = ["main", "stale"]
    with pytest.raises(ConfigError, match=message):
        expand(config)


def test_parameters_for_a_regime_without_trials_are_refused():
    config = study(regimes={"stale": {"tuning_params": {"grpo": CLIPS}}})
    with pytest.raises(
        ConfigError, match=r"regimes.stale.tuning_params: this regime has no trials"
    ):
        expand(config)


def test_a_grid_has_several_gates_and_several_temperatures_for_one_method():
    other = [{"gate": "log_tanh", "tau_pos": 1.0, "tau_neg": 1.0}]
    assert tries_gates({"grpo": CLIPS, "sspo": [*GATES, *other]})
    assert not tries_gates({"grpo": CLIPS, "sspo": GATES, "sspo_arctan": other})
    assert not tries_gates({"sspo": [GATES[0], GATES[0]]})


def test_the_control_accompanies_the_main_regime_on_each_base():
    names = [run.run for run in control_runs(check_profile(study(), "mine.yaml"))]
    assert names == [
        "supervised-s3",
        "supervised-s4",
        "supervised-second-s3",
        "supervised-second-s4",
    ]


def test_a_base_model_differs_from_the_main_one_in_what_it_names():
    places = expand(study())
    base, second, letters = (places[p] for p in ("base", "bases/second", "bases/letters"))
    assert {k for k in base if base[k] != second[k]} == {"seed"}
    assert {k for k in base if base[k] != letters[k]} == {"characters"}
    assert places["bases/letters/data"] == {**places["data"], "name": "count"}
    assert not any(f"bases/{name}" in places for name in ("second/data", "letters/evaluation"))


def test_longer_responses_of_a_base_model_reach_its_warm_up_its_runs_and_their_evaluation_alone():
    cap = {"max_response_tokens": 100}
    changes = {"bases": {"second": {"rollout": cap}}, "experiment": {"control": True}}
    before, after = expand(study(experiment={"control": True})), expand(study(**changes))
    own = {place for place in after if "-second-" in place} | {"bases/second"}
    evaluation = after.pop("bases/second/evaluation")
    assert {place for place in after if after[place] != before[place]} == own | {"settings"}
    for place in own:
        section = "rollout" if "rollout" in after[place] else "sampling"
        assert after[place][section]["max_response_tokens"] == 100
    assert evaluation["sampling"] == {**after["evaluation"]["sampling"], **cap}
    assert evaluation["evaluation"] == after["evaluation"]["evaluation"]


BAD = [
    ({"experiment": {"bases": ["second"]}}, "experiment.bases: figures show runs from 'base'"),
    ({"experiment": {"bases": ["base", "third"]}}, "experiment.bases: 'third' is not defined"),
    ({"regimes": {"other": {"bases": ["nowhere"]}}}, "regimes.other.bases: 'nowhere'"),
    ({"regimes": {"second": STUDY["regimes"]["other"]}}, "regimes.second: this name is taken"),
    (
        {"tuning": {"params": {"grpo": [*CLIPS, CLIPS[0]]}}},
        "every method needs the same number of trials",
    ),
    ({"tuning": {"params": {"grpo": [{"clip": 1}, {"clip": 2}]}}}, "grpo has no parameter 'clip'"),
    ({"tuning": {"params": {"sapo": CLIPS}}}, "tuning.params.sapo: no regime runs this method"),
    ({"tuning": {"validations": 99}}, "tuning.validations = 99 exceeds the"),
    (
        {"regimes": {"tuning0": {"bases": ["base"], "seeds": [9], "tuned": False}}},
        "two runs are called",
    ),
    ({"tuning": {"regimes": ["lost"]}}, "tuning.regimes: 'lost' is no tuned regime"),
    ({"tuning": {"base": "third"}}, "tuning.base: 'third' is not defined"),
    ({"bases": {"second": {"pretrain": {"seed": -1}}}}, "bases.second: pretrain.seed = -1"),
    ({"bases": {"second": {"task": {"surprise": 1}}}}, "bases.second: task"),
    ({"bases": {"second": {"model": {"context": 20}}}}, "bases.second: model.context = 20"),
    ({"regimes": {"stale": {"rollout": {"max_response_tokens": 999}}}}, "regimes.stale.rollout"),
    ({"regimes": {"stale": {"train": {"updates_per_rollout": 3}}}}, "128 is not divisible"),
]


@pytest.mark.parametrize("changes, message", BAD, ids=[message for _, message in BAD])
def test_a_study_that_cannot_run_is_one_line_with_file_and_key(changes, message):
    with pytest.raises(ConfigError) as caught:
        expand(study(**changes))
    text = str(caught.value)
    assert text.startswith("mine.yaml: ")
    assert message in text
    assert "\n" not in text


def test_tuned_regimes_need_a_tuning_section():
    config = study()
    del config["tuning"]
    with pytest.raises(ConfigError, match=r"regimes.stale.tuned: there is no tuning section"):
        expand(config)


def test_a_method_without_anything_to_try_is_named():
    config = study()
    del config["tuning"]["params"]["sspo"]
    with pytest.raises(ConfigError, match=r"tuning.params: nothing to try for sspo"):
        expand(config)


@pytest.mark.parametrize("profile", ["evidence.yaml", "gpu.yaml"])
def test_the_shipped_studies_compare_equal_numbers_of_updates_and_minibatches(profile):
    default = yaml.safe_load((PROFILES / "default.yaml").read_text(encoding="utf-8"))
    overlay = yaml.safe_load((PROFILES / profile).read_text(encoding="utf-8"))
    runs = [parse(RunConfig, run) for run in runs_of(merged(default, overlay))]
    sizes = {
        (
            run.train.steps * run.train.updates_per_rollout,
            run.rollout.prompts_per_step / run.train.updates_per_rollout,
        )
        for run in runs
    }
    assert len(sizes) == 1
    assert {run.regime for run in runs} == {"main", *overlay["regimes"]}


def test_the_gpu_profile_trains_a_model_of_ten_to_fifty_million_parameters():
    default = yaml.safe_load((PROFILES / "default.yaml").read_text(encoding="utf-8"))
    overlay = yaml.safe_load((PROFILES / "gpu.yaml").read_text(encoding="utf-8"))
    model = parse(ModelConfig, expand(merged(default, overlay))["base"]["model"])
    with torch.device("meta"):
        policy = build_model(model, vocab_size=20, seed=0)
    assert 10e6 < sum(p.numel() for p in policy.parameters()) < 50e6
