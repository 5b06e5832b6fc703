"""After an edit of a profile: which keys differ from those of the results, and which models are stale."""

from __future__ import annotations

import pytest

from sspo.config.profile import check_profile
from sspo.experiment.expand import expand_profile
from sspo.experiment.stale import changed_keys, describe, read_changes, stale_models
from sspo.experiment.tuning import apply_choice
from sspo.pipeline.files import write_json
from support.paths import PROFILES
from support.pipelines import STUDY
from support.profiles import expand, merge, read

RL = {f"runs/{method}-s{seed}" for method in ("grpo", "gspo", "sapo", "sspo") for seed in range(3)}
CONTROLS = {f"runs/supervised-s{seed}" for seed in range(3)}


@pytest.fixture
def results(tmp_path):
    """The configs of the pinned profile, as its results have them."""
    for place, config in expand().items():
        write_json(tmp_path / place / "config.json", config)
    return tmp_path


def test_without_an_edit_nothing_has_changed(results):
    assert changed_keys(expand(), results) == {}
    assert describe({}, "mine.yaml") == []
    assert stale_models(expand(), {}) == set()


@pytest.mark.parametrize(
    ("edit", "place", "said"),
    [
        ({"train.steps": 90}, "runs/sspo-s0", ["train.steps = 90, was 80"]),
        ({"methods.sspo.params.tau_pos": 2.0}, "runs/sspo-s1", ["objective.params.tau_pos = 2.0, was 1.0"]),
        ({"methods.sspo.params.tau_pos": 2.0}, "settings", ["methods.sspo.params.tau_pos = 2.0, was 1.0"]),
        ({"train.betas": [0.9, 0.999]}, "runs/grpo-s0", ["train.betas = [0.9, 0.999], was [0.9, 0.99]"]),
        ({"methods.sspo.train": {"steps": 80}}, "settings", ["methods.sspo.train.steps = 80, new"]),
        ({"methods.grpo.params": {"clip_low": 0.2, "clip_high": 0.3}}, "runs/grpo-s2",
         ["objective.params.clip_high = 0.3, was 0.2"]),
        ({"methods.sspo.label": "x" * 99}, "methods",
         [f'sspo.label = "{"x" * 59} ..., was "SSPO (sigmoid)"']),
    ],
)  # fmt: skip
def test_a_change_is_named_by_its_key_with_both_values(results, edit, place, said):
    assert changed_keys(expand(edit), results)[place] == said


def test_a_key_that_is_gone_is_named_with_what_it_was(results):
    config = expand()["runs/sspo-s0"]
    write_json(results / "runs/sspo-s0/config.json", {**config, "lora": {"rank": 0, "old": 1}})
    assert changed_keys(expand(), results) == {
        "runs/sspo-s0": ["lora.alpha = 32.0, new", "lora.old is gone, was 1"]
    }


@pytest.mark.parametrize(
    ("edit", "stale"),
    [
        ({"methods.sspo.params.tau_pos": 2.0}, {f"runs/sspo-s{seed}" for seed in range(3)}),
        ({"train.steps": 90}, RL | CONTROLS),
        ({"rollout.group_size": 4}, RL | CONTROLS),
        ({"pretrain.seed": 1}, {"base"} | RL | CONTROLS),
        ({"task.style.slip": 0.5}, {"base"} | RL | CONTROLS),
        ({"evaluation.samples": 16}, set()),
        ({"methods.sspo.color": "#123456"}, set()),
        ({"tracking.project": "elsewhere"}, set()),
    ],
)
def test_stale_are_the_models_that_would_be_trained_anew(results, edit, stale):
    configs = expand(edit)
    assert stale_models(configs, changed_keys(configs, results)) == stale


def test_where_curves_are_shown_makes_nothing_stale(results):
    assert changed_keys(expand({"tracking.project": "x"}), results).keys() == {"settings"}


def test_what_is_not_made_yet_or_unreadable_is_left_out(results):
    (results / "runs/sspo-s0/config.json").unlink()
    (results / "runs/sspo-s1/config.json").write_text("{")
    configs = expand({"methods.sspo.train": {"eval_every": 10}})
    runs = {place for place in changed_keys(configs, results) if place.startswith("runs/")}
    assert runs == {"runs/sspo-s2"}
    assert changed_keys(configs, results / "nowhere") == {}


@pytest.fixture(scope="module")
def study():
    """A study with two tuned regimes that have trials of their own, and what these chose."""
    tuning = {**STUDY["tuning"], "regimes": ["main", "stale"]}
    changes = {**STUDY, "tuning": tuning, "experiment": {"methods": ["grpo", "sspo"]}}
    profile = check_profile(merge(read("default.yaml"), changes), "mine.yaml")
    params = {name: profile.methods[name].params for name in profile.experiment.methods}
    choices = {name: {"learning_rate": 0.5, "params": {**p, "x": 1}} for name, p in params.items()}
    return expand_profile(profile, "mine.yaml"), choices


@pytest.fixture
def studied(study, tmp_path):
    configs, choices = study
    for place, config in configs.items():
        tuned = config.get("tuned", "nothing") != "nothing"
        write_json(
            tmp_path / place / "config.json", apply_choice(config, choices) if tuned else config
        )
    for regime in ("main", "stale"):
        write_json(tmp_path / f"tuning/{regime}/choices.json", choices)
    return tmp_path


def test_a_tuned_run_is_compared_with_what_its_trials_chose(study, studied):
    configs, choices = study
    assert changed_keys(configs, studied) == {}
    write_json(
        studied / "tuning/main/choices.json",
        {**choices, "grpo": {**choices["grpo"], "learning_rate": 0.4}},
    )
    assert changed_keys(configs, studied) == {
        f"runs/grpo-s{seed}": ["train.learning_rate = 0.4, was 0.5"]
        for seed in read("default.yaml")["experiment"]["seeds"]
    }
    (studied / "tuning/main/choices.json").unlink()
    assert changed_keys(configs, studied) == {}


def test_a_changed_trial_makes_every_run_stale_that_is_tuned_by_it(study):
    configs, _ = study
    trial = "runs/sspo-tuning0-s9"
    tuned = {
        p for p, c in configs.items() if c.get("tuned") == "everything" and c["regime"] == "main"
    }
    assert tuned
    assert stale_models(configs, {trial: ["train.steps = 90, was 80"]}) == {trial} | tuned
    assert stale_models(configs, {"tuning/main": ["validations = 1, was 2"]}) == tuned
    assert stale_models(configs, {"bases/letters/data": ["seed = 1, was 0"]}) == {
        "bases/letters"
    } | {place for place, config in configs.items() if config.get("base") == "letters"}


def test_a_key_is_told_once_with_the_places_that_it_concerns(results):
    lines = describe(changed_keys(expand({"train.steps": 90}), results), "mine.yaml")
    assert lines[0] == "mine.yaml: changed since the results were made"
    steps = [line for line in lines if "train.steps = 90, was 80" in line]
    assert steps == [
        "  train.steps = 90, was 80 (settings, runs/grpo-s0, runs/grpo-s1, runs/grpo-s2, runs/gspo-s0, "
        "runs/gspo-s1, runs/gspo-s2, runs/sapo-s0 and 5 more)"
    ]
    many = describe({"base": [f"key{i} = 1, was 0" for i in range(30)]}, "mine.yaml")
    assert len(many) == 10
    assert many[-1] == "  and 22 more keys"


def test_without_a_profile_there_is_nothing_to_compare(tmp_path):
    assert read_changes([], tmp_path) == ({}, {})
    configs, changed = read_changes([PROFILES / "default.yaml"], tmp_path)
    assert "runs/sspo-s0" in configs
    assert changed == {}
