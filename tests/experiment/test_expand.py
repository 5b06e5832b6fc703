"""A profile becomes one config per rule, which holds what the rule depends on and nothing else."""

from __future__ import annotations

import copy
import json

import pytest

from sspo.config.profile import check_profile
from sspo.config.reading import parse, plain
from sspo.config.run import ControlConfig, PretrainConfig, RunConfig
from sspo.experiment.expand import expand_profile
from support.profiles import expand, pinned


def changes_between(first: dict, second: dict) -> set[str]:
    assert first.keys() == second.keys()
    return {place for place in first if first[place] != second[place]}


@pytest.mark.parametrize(
    "change, places",
    [
        (
            {"methods.sspo.params.tau_pos": 2.0},
            {"settings", "exact_study", *(f"runs/sspo-s{i}" for i in range(3))},
        ),
        (
            {"methods.sspo.train": {"learning_rate": 1e-3}},
            {"settings", *(f"runs/sspo-s{i}" for i in range(3))},
        ),
        ({"methods.sspo.label": "ours"}, {"methods", "settings", "exact_study/methods"}),
        ({"methods.sspo.color": "#123456"}, {"methods", "settings", "exact_study/methods"}),
        # defined, and not part of the experiment
        ({"methods.dapo.params.clip_high": 0.3}, set()),
        ({"methods.dr_grpo.params.clip_high": 0.3}, {"exact_study"}),
        ({"methods.dapo.label": "other"}, set()),
        ({"methods.dr_grpo.label": "other"}, {"exact_study/methods"}),
        ({"exact_study.draws": 2}, {"exact_study", "settings"}),
        ({"figures_dir": "figures/other"}, {"settings"}),
        ({"evaluation.samples": 16}, {"evaluation", "settings"}),
        ({"task.style.slip": 0.5}, {"data", "settings"}),
        ({"pretrain.seed": 1}, {"base", "settings"}),
        ({"model.layers": 4}, {"base", "settings"}),
        ({"tracking.project": "sspo"}, {"tracking", "settings"}),
    ],
)
def test_an_edit_touches_only_the_configs_that_depend_on_it(change, places):
    assert changes_between(expand(), expand(change)) == places


def test_the_config_of_a_run_says_all_of_its_method():
    places = expand({"methods.sspo.train": {"learning_rate": 5e-4}})
    run = parse(RunConfig, places["runs/sspo-s2"])
    assert (run.run, run.method, run.seed) == ("sspo-s2", "sspo", 2)
    assert (run.objective.name, run.objective.params["gate"]) == ("sspo", "sigmoid")
    assert run.train.learning_rate == 5e-4
    assert run.train.steps == 80
    other = parse(RunConfig, places["runs/grpo-s2"])
    assert other.train.learning_rate == 1e-4
    assert other.rollout == run.rollout


def test_seeds_change_nothing_but_the_seed():
    places = expand()
    first, second = places["runs/sspo-s0"], places["runs/sspo-s1"]
    assert {k for k in first if first[k] != second[k]} == {"run", "seed"}


def test_an_override_of_a_method_wins_over_the_common_value():
    places = expand({"experiment.methods": ["dr_grpo", "grpo"]})
    assert places["runs/dr_grpo-s0"]["advantages"] == {"normalize_std": False}
    assert places["runs/grpo-s0"]["advantages"] == {"normalize_std": True}


def test_the_control_makes_as_many_updates_on_as_many_sequences_as_reinforcement_learning():
    config = pinned()
    control = parse(ControlConfig, expand()["runs/supervised-s1"])
    assert control.supervised.steps == 80 * 4
    assert control.updates_per_step == 4
    assert control.supervised.batch_size * 4 == 32 * 8
    assert control.supervised.schedule == "constant"
    assert control.supervised.learning_rate == config["train"]["learning_rate"]
    assert control.supervised.warmup_steps == config["train"]["warmup_updates"]
    assert control.supervised.eval_every == 4 * config["train"]["eval_every"]
    assert control.seed == 1


def test_every_config_survives_json_and_its_model():
    kinds = {"base": PretrainConfig, "runs/sspo-s0": RunConfig, "runs/supervised-s0": ControlConfig}
    places = json.loads(json.dumps(expand(), allow_nan=False))
    for place, kind in kinds.items():
        parsed = parse(kind, places[place])
        assert json.loads(json.dumps(plain(parsed))) == places[place]


def test_mappings_of_another_kind_expand_to_plain_data():
    class Foreign(dict):
        """As a workflow engine may hand over."""

    def wrap(value):
        return Foreign({k: wrap(v) for k, v in value.items()}) if isinstance(value, dict) else value

    config = wrap(pinned())
    places = expand_profile(check_profile(config, "mine.yaml"), "mine.yaml")
    assert places == expand()

    def kinds(value):
        yield type(value)
        for inner in value.values() if isinstance(value, dict) else []:
            yield from kinds(inner)

    assert Foreign not in set(kinds(places))


def test_expanding_leaves_the_configuration_alone():
    config = copy.deepcopy(pinned())
    expand_profile(check_profile(config, "mine.yaml"), "mine.yaml")
    assert config == pinned()
