"""Optional methods, and what else needs packages that may not be installed."""

from __future__ import annotations

import pytest

from sspo.config.errors import ConfigError
from sspo.config.profile import check_profile, read_profile
from sspo.experiment.expand import expand_profile
from sspo.experiment.packages import without_missing
from support.packages import pretend_installed
from support.paths import PROFILES
from support.profiles import changed

VLLM = {"rollout": {"engine": "vllm"}}
NOTE = "rollout.engine = 'vllm' but vLLM is not installed; run `make vllm` or choose engine torch"


@pytest.fixture(params=[False, True], ids=["without vLLM", "with vLLM"])
def vllm(request, monkeypatch):
    pretend_installed(monkeypatch, "vllm", installed=request.param)
    return request.param


def test_the_smoke_profile_runs_what_it_can_and_says_what_it_leaves_out(vllm):
    profile, notes = without_missing(read_profile([PROFILES / "smoke.yaml"]), "smoke.yaml")
    methods = ["grpo", "gspo", "gmpo", "sapo", "sspo", "sspo_arctan"]
    assert list(profile.experiment.methods) == methods + ["sspo_vllm"] * vllm
    assert notes == [f"sspo_vllm is left out: methods.sspo_vllm: {NOTE}"] * (not vllm)
    configs = expand_profile(profile, "smoke.yaml")
    assert ("runs/sspo_vllm-s0" in configs) is vllm
    assert ("sspo_vllm" in configs["settings"]["methods"]) is vllm


def test_a_method_that_is_not_optional_is_refused(monkeypatch):
    pretend_installed(monkeypatch, "vllm", installed=False)
    config = changed({"methods.sspo.rollout": VLLM["rollout"]})
    profile, notes = without_missing(check_profile(config, "mine.yaml"), "mine.yaml")
    assert notes == []
    with pytest.raises(ConfigError, match="methods.sspo: rollout.engine = 'vllm' but vLLM is not"):
        expand_profile(profile, "mine.yaml")


def test_an_optional_method_leaves_with_its_trials(monkeypatch):
    pretend_installed(monkeypatch, "vllm", installed=False)
    config = changed({"methods.sspo.rollout": VLLM["rollout"], "methods.sspo.optional": True})
    methods = config["experiment"]["methods"]
    config["tuning"] = {
        "base": "base", "seeds": [9], "accuracy": "pass@1", "validations": 1, "learning_rates": [1e-4],
        "params": {name: [config["methods"][name]["params"]] for name in methods},
    }  # fmt: skip
    config["tuning"]["regimes"] = ["main", "slow"]
    config["regimes"] = {
        "slow": {
            "bases": ["base"], "seeds": [9], "tuned": True, "methods": ["grpo", "sspo"],
            "tuning_params": {"sspo": config["tuning"]["params"]["sspo"]},
        }
    }  # fmt: skip
    profile, notes = without_missing(check_profile(config, "mine.yaml"), "mine.yaml")
    assert len(notes) == 1
    assert not any("sspo" in place for place in expand_profile(profile, "mine.yaml"))


def test_a_profile_of_which_nothing_is_left_is_refused(monkeypatch):
    pretend_installed(monkeypatch, "vllm", installed=False)
    config = changed({"rollout.engine": "vllm"})
    for name in config["experiment"]["methods"]:
        config["methods"][name]["optional"] = True
    with pytest.raises(ConfigError, match="^mine.yaml: methods.grpo: rollout.engine = 'vllm' but"):
        without_missing(check_profile(config, "mine.yaml"), "mine.yaml")


@pytest.mark.parametrize("name", ["smoke", "paper", "paper_7b"])
def test_a_plan_needs_no_package(monkeypatch, name):
    for package in ("vllm", "trl", "peft"):
        pretend_installed(monkeypatch, package, installed=False)
    profile = read_profile([PROFILES / "paper.yaml", PROFILES / f"{name}.yaml"])
    assert expand_profile(profile, name, installed=False)
