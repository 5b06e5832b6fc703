"""Table T4: no printed source contradicts its value, and tuned values stand where runs had them."""

import copy
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sspo.config.reading import merged
from support.paths import ROOT

SCRIPT = ROOT / "workflow" / "scripts" / "settings.py"
T4 = runpy.run_path(str(SCRIPT))
PROFILES = {
    "default": [],
    "smoke": ["smoke"],
    "evidence": ["evidence"],
    "demo": ["demo"],
    "smollm2": ["smollm2"],
    "gpu": ["gpu"],
    "paper": ["paper"],
    "paper_7b": ["paper", "paper_7b"],
}


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8"))


SOURCES = yaml.safe_load((ROOT / "workflow/sources.yaml").read_text(encoding="utf-8"))


def settings_of(profile: str) -> dict:
    """What ``expand_config`` writes at ``settings``; it needs vLLM for some profiles."""
    config = read("default")
    for overlay in PROFILES[profile]:
        config = merged(config, read(overlay))
    methods = {name: config["methods"][name] for name in config["experiment"]["methods"]}
    return {**config, "methods": methods}


def last_choices(settings: dict) -> dict:
    """As if the last trial of every method were its best one."""
    if "tuning" not in settings:
        return {}
    rate = settings["tuning"]["learning_rates"][-1]
    found = {}
    for regime in settings["tuning"].get("regimes", ["main"]):
        own = settings["regimes"][regime].get("tuning_params", {}) if regime != "main" else {}
        params = {**settings["tuning"]["params"], **own}
        found[regime] = {
            m: {"learning_rate": rate, "params": params[m][-1]} for m in settings["methods"]
        }
    return found


def rows_of(settings: dict, choices: dict | None = None) -> dict:
    """(method, key) -> (value, source) of every row; of two rows of one key, the later one."""
    return {row[:2]: row[2:] for row in T4["table"](settings, SOURCES, choices or {})}


# What a recipe has, as the sources quote it: a value that is not its own must not claim to be.
RECIPES = {
    "rollout.prompts_per_step": ("128", "GMPO's recipe has 128"),
    "rollout.group_size": ("8", "GMPO's recipe has 8"),
    "rollout.temperature": ("1", "GMPO's recipe has 1"),
    "rollout.max_response_tokens": ("3000", "GMPO's recipe has 3,000"),
    "train.steps": ("500", "GMPO's recipe has 500"),
    "train.learning_rate": ("1e-06", "GMPO's recipe has 1e-6"),
    "math_data.train": ("math_lvl3to5", "GMPO's recipe has MATH"),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_no_source_contradicts_its_value(profile):
    settings = settings_of(profile)
    rows = rows_of(settings, last_choices(settings))
    for key, (published, otherwise) in RECIPES.items():
        value, source = rows.get(("", key), (None, ""))
        if value == published:
            assert source.startswith("GMPO (arXiv 2507.20673)"), key
        elif value is not None:
            assert source.startswith(f"ours; {otherwise}"), key
    updates, source = rows["", "train.updates_per_rollout"]
    start = {"4": "GSPO (arXiv", "8": "GMPO (arXiv"}.get(updates, "ours; GSPO has 4")
    assert source.startswith(start)
    assert ("off" in rows["", "rollout.correction"][1]) == (
        settings["rollout"]["correction"] == "none"
    )
    assert ("no KL term" in rows["", "train.kl_coefficient"][1].split("ours;")[0]) == (
        settings["train"]["kl_coefficient"] == 0
    )
    assert not any("M parameters" in source for _, source in rows.values())
    assert ("math-verify" in rows["", "reward.name"][1]) == (settings["reward"]["name"] == "math")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_setting_of_a_shipped_profile_has_a_source_of_its_own(profile):
    settings = settings_of(profile)
    rows = rows_of(settings, last_choices(settings))
    expected = {"train.weight_decay", "evaluation.temperature", "compute.dtype", "validation"}
    expected |= {"rollout.old_logprobs"}
    sizes = {"math_data": "validation", "gym_data": "splits", "task": "splits"}
    problems = next(f"{data}.{key}" for data, key in sizes.items() if data in settings)
    scratch = {"pretrain.supervised.learning_rate", "model"}
    published = {"checkpoint.source", "checkpoint.revision"}
    mine, others = (published, scratch) if "checkpoint" in settings else (scratch, published)
    keys = {key for method, key in rows if not method}
    assert expected | mine | {problems} <= keys
    assert not others & keys
    assert not {f"{data}.{key}" for data, key in sizes.items()} & keys - {problems}
    rows.pop(("", "checkpoint.revision"), None)  # empty for a folder or a file
    assert all(value and source for value, source in rows.values())
    assert {f"methods.{method}.params" for method in settings["methods"]} <= SOURCES.keys()


@pytest.mark.parametrize(
    ("key", "value", "source"),
    [
        ("rollout.old_logprobs", "policy", "scored by the policy"),
        ("rollout.old_logprobs", "engine", "taken from the sampler"),
        ("rollout.correction", "token", "after TRL and verl"),
        ("advantages.normalize_std", True, "GRPO (arXiv 2402.03300)"),
        ("advantages.normalize_std", False, "Dr. GRPO (arXiv 2503.20783)"),
        ("train.kl_coefficient", 0.0, "Dr. GRPO, GMPO; no KL term"),
        ("train.kl_coefficient", 0.1, "ours; Dr. GRPO and GMPO have no KL term"),
        ("train.learning_rate", 1e-6, "GMPO (arXiv 2507.20673)"),
        ("methods.gspo.params", {"clip_low": 3e-4, "clip_high": 4e-4}, "GSPO (arXiv"),
        ("methods.gspo.params", {"clip_low": 3e-2, "clip_high": 4e-2}, "ours; GSPO has 0.0003"),
        ("methods.unknown.params", {"a": 1}, "ours"),
    ],
)
def test_a_source_may_depend_on_the_value(key, value, source):
    assert source in T4["source_of"](SOURCES, key, T4["show"](value))


def test_a_source_that_depends_on_the_value_says_what_holds_for_others():
    assert all("default" in source for source in SOURCES.values() if isinstance(source, dict))


CHOSEN = {
    "grpo": {"learning_rate": 1e-4, "params": {"clip_low": 0.2, "clip_high": 0.2}},
    "gspo": {"learning_rate": 5e-5, "params": {"clip_low": 0.03, "clip_high": 0.04}},
}
CHOICES = {"main": CHOSEN}


REGIMES = {
    "stale1": {
        "bases": ["base"],
        "seeds": [20],
        "tuned": True,
        "rollout": {"prompts_per_step": 8},
        "train": {"steps": 320, "updates_per_rollout": 1},
    },
    "stale16_fast": {"bases": ["base"], "tuned": True, "train": {"learning_rate": 2e-4}},
    "count": {"bases": ["letters"], "seeds": [20], "tuned": True},
}


def small_study(**changes) -> dict:
    """The evidence with two methods, three tuned regimes and the default's learning rate."""
    settings = copy.deepcopy(settings_of("evidence"))
    settings |= {"regimes": copy.deepcopy(REGIMES)}
    settings["train"]["learning_rate"] = 1e-4
    settings["methods"] = {name: settings["methods"][name] for name in CHOSEN}
    return merged(settings, changes)


def test_a_tuned_study_shows_what_was_chosen():
    rows = rows_of(small_study(), CHOICES)
    assert rows["gspo", "gspo"] == (
        "clip_low 0.03, clip_high 0.04",
        "tuned (T3); ours; GSPO has 0.0003 and 0.0004",
    )
    assert rows["gspo", "train.learning_rate"] == ("5e-05", "tuned (T3)")
    assert rows["grpo", "grpo"][1].startswith("tuned (T3); GRPO (arXiv 2402.03300)")
    value, source = rows["", "train.learning_rate"]
    assert value == "0.0001"
    assert "only for the supervised control, tuned ones are below" in source


def test_a_shared_learning_rate_that_nothing_uses_is_left_out():
    assert ("", "train.learning_rate") not in rows_of(
        small_study(experiment={"control": False}), CHOICES
    )


def test_regimes_say_what_they_change_and_what_of_the_tuning_they_keep():
    rows = rows_of(small_study(), CHOICES)
    value, source = rows["", "regimes.stale16_fast"]
    assert "learning_rate 0.0002" in value
    assert source == "ours; learning rate as stated here, parameters tuned (T3)"
    value, source = rows["", "regimes.stale1"]
    assert value.startswith("bases base, rollout (prompts_per_step 8), train (steps 320, ")
    assert source == "ours; learning rate and parameters tuned (T3)"
    assert rows["", "regimes.count"][0] == "bases letters"


def test_a_regime_that_is_not_tuned_shows_the_written_values_too():
    settings = small_study(regimes={"plain": {"bases": ["base"], "seeds": [0], "tuned": False}})
    table = T4["table"](settings, SOURCES, CHOICES)
    assert ("", "regimes.plain", "bases base", "ours; not tuned") in table
    own = [row[2:] for row in table if row[:2] == ("gspo", "gspo")]
    assert [value for value, _ in own] == [
        "clip_low 0.03, clip_high 0.04",
        "clip_low 0.0003, clip_high 0.0004",
    ]
    assert own[1][1] == "GSPO (arXiv 2507.18071); in regimes that are not tuned"
    shared = next(row for row in table if row[1] == "train.learning_rate")
    assert "the supervised control and regimes that are not tuned" in shared[3]


def test_every_regime_with_trials_of_its_own_shows_what_they_chose():
    other = {name: {**choice, "learning_rate": 2e-5} for name, choice in CHOSEN.items()}
    table = T4["table"](small_study(), SOURCES, {**CHOICES, "stale16": other})
    rates = [row[2:] for row in table if row[:2] == ("gspo", "train.learning_rate")]
    assert rates == [("5e-05", "tuned (T3); in main"), ("2e-05", "tuned (T3); in stale16")]


def test_a_methods_own_learning_rate_yields_to_the_tuned_one():
    settings = small_study(methods={"gspo": {"train": {"learning_rate": 1e-3}}})
    rows = rows_of(settings, CHOICES)
    assert rows["gspo", "train.learning_rate"][0] == "5e-05"
    value, source = rows["gspo", "train"]
    assert value == "learning_rate 0.001"
    assert "the tuned learning rate replaces it unless a regime states one" in source


def run_script(folder: Path, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, "--sources", ROOT / "workflow/sources.yaml"]
    command += ["--settings", folder / "config.json", "--output", folder / "settings.csv"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True)


@pytest.mark.slow
def test_the_script_takes_the_choices_and_refuses_a_tuned_study_without_them(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(small_study()))
    chosen = tmp_path / "tuning/main/choices.json"
    chosen.parent.mkdir(parents=True)
    chosen.write_text(json.dumps(CHOSEN))
    refused = run_script(tmp_path, "--choices")  # as the rule writes it where there are none
    assert refused.returncode != 0
    assert "give --choices" in refused.stderr
    done = run_script(tmp_path, "--choices", chosen)
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(tmp_path / "settings.csv")
    assert (frame["source"] == "tuned (T3)").sum() == 2
    record = json.loads((tmp_path / "settings.provenance.json").read_text())
    assert str(chosen) in record["inputs"]
