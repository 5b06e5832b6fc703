"""Configuration: bad input is one line with the fix; configs hold what their rule depends on."""

from __future__ import annotations

import copy
import json

import pytest

from sspo.config import reading
from sspo.config.describe import json_schema, settings_table
from sspo.config.errors import ConfigError
from sspo.config.profile import check_profile, read_yaml
from sspo.config.reading import load_json, parse, plain
from sspo.config.settings import (
    ComputeConfig,
    ControlConfig,
    ModelConfig,
    PretrainConfig,
    RunConfig,
    SupervisedConfig,
)
from sspo.config.study import EvaluationConfig, ExactStudyConfig
from sspo.experiment.expand import expand_profile
from sspo.objectives.losses import LOSSES
from support.packages import pretend_installed
from support.paths import PROFILES, ROOT
from support.profiles import (
    REMOVE,
    expand,
    merge,
    pinned,
    read,
    refusal,
)

SCHEMA = json_schema()

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


BELOW = {"paper_7b.yaml": ["paper.yaml"]}  # profiles that are used over another one


@pytest.mark.parametrize("overlay", [None, *sorted(OVERLAYS)])
def test_shipped_configurations_are_valid(overlay, monkeypatch):
    for package in ("vllm", "trl"):
        pretend_installed(monkeypatch, package, installed=True)
    monkeypatch.chdir(ROOT)
    config = read("default.yaml")
    for name in [*BELOW.get(overlay, []), overlay] if overlay else []:
        config = merge(config, read(name))
    places = expand_profile(check_profile(config, "mine.yaml"), "mine.yaml")
    names = config["experiment"]["methods"] + ["supervised"] * config["experiment"]["control"]
    runs = {f"runs/{name}-s{seed}" for name in names for seed in config["experiment"]["seeds"]}
    assert runs <= places.keys()
    if "regimes" in config:  # further runs: tests/test_runs.py
        return
    shared = {"data", "base", "evaluation", "tracking", "methods", "settings"}
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


# What a config holds


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


# The generated schema and table


def keys_of(schema: dict, path: str = ""):
    """(path, property) of everything a profile may hold, references resolved."""
    for name, part in schema.get("properties", {}).items():
        yield f"{path}{name}", part
        inner = next((one for one in part.get("anyOf", []) if one.get("type") != "null"), part)
        named = [*inner.get("patternProperties", {}).values()]
        for one, where in (
            (inner, f"{path}{name}."),
            *((n, f"{path}{name}.<name>.") for n in named),
        ):
            if "$ref" in one:
                yield from keys_of(SCHEMA["$defs"][one["$ref"].rpartition("/")[2]], where)


def test_every_key_has_a_meaning():
    found = [*keys_of(SCHEMA)]
    assert len(found) > 150
    sections = {path for path, part in found if "$ref" in part}  # described by their own keys
    assert [
        path for path, part in found if "description" not in part and path not in sections
    ] == []


def test_every_section_refuses_unknown_keys():
    assert all(part["additionalProperties"] is False for part in SCHEMA["$defs"].values())


def test_the_committed_schema_and_table_are_those_of_the_settings():
    committed = ROOT / "workflow" / "schemas" / "config.schema.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == SCHEMA, "run `make schema`"
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert settings_table(read("default.yaml")) in page, "run `make schema`"


@pytest.mark.parametrize("profile", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_names_the_schema_for_editors(profile):
    first = profile.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../workflow/schemas/config.schema.json"


def test_a_key_given_twice_is_refused_with_its_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("train:\n  steps: 3\n  steps: 4\n")
    with pytest.raises(ConfigError, match=r"'steps' is given twice; remove one.* line 3"):
        read_yaml(file)


# Sections

COMPUTE = {"device": "cpu", "dtype": "float32", "threads": 1}
EVALUATION = {
    "splits": ["a", "b"],
    "pools": {"both": ["a", "b"]},
    "engine": "torch",
    "vllm_memory": 0.9,
    "samples": 8,
    "temperature": 1,
    "pass_at": [1, 8],
    "seed": 0,
}


def mistake(kind, data, where="") -> str:
    with pytest.raises(ConfigError) as caught:
        parse(kind, data, where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_parse_builds_what_plain_takes_apart():
    evaluation = parse(EvaluationConfig, EVALUATION)
    assert evaluation == EvaluationConfig(
        splits=("a", "b"),
        pools={"both": ("a", "b")},
        engine="torch",
        vllm_memory=0.9,
        samples=8,
        temperature=1.0,
        pass_at=(1, 8),
        seed=0,
    )
    assert parse(EvaluationConfig, plain(evaluation)) == evaluation
    assert parse(EvaluationConfig, json.loads(json.dumps(plain(evaluation)))) == evaluation


def test_an_integer_is_a_number_and_becomes_a_float():
    temperature = parse(EvaluationConfig, EVALUATION).temperature
    assert isinstance(temperature, float) and temperature == 1.0


@pytest.mark.parametrize("key", EVALUATION)
def test_a_missing_key_is_named(key):
    data = {k: v for k, v in EVALUATION.items() if k != key}
    assert f"evaluation.{key}: missing; add it" in mistake(EvaluationConfig, data, "evaluation.")


def test_an_unknown_key_is_named_with_the_known_ones():
    message = mistake(ComputeConfig, {**COMPUTE, "cores": 2}, "compute.")
    assert message == "compute.cores: unknown key; known keys: device, dtype, threads"


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("samples", True, "integer"),
        ("samples", 8.5, "integer"),
        ("samples", "8", "integer"),
        ("samples", None, "integer"),
        ("temperature", True, "number"),
        ("temperature", "1", "number; YAML takes 1e-4 for text, write 1.0e-4"),
        ("splits", "ab", "array"),
        ("pass_at", 1, "array"),
        ("splits", {"a": 1}, "array"),
    ],
)
def test_a_value_of_another_type_is_named_with_the_type_it_should_have(key, value, expected):
    message = mistake(EvaluationConfig, {**EVALUATION, key: value}, "x.")
    assert f"x.{key} = {value!r}: Input should be a valid {expected}" in message


def test_entries_of_a_list_are_checked_one_by_one():
    message = mistake(EvaluationConfig, {**EVALUATION, "pass_at": [1, 2.5]})
    assert message.startswith("pass_at[1] = 2.5: Input should be a valid integer")


@pytest.mark.parametrize("betas", [[0.9], [0.9, 0.99, 0.999], [0.9, "x"], 0.9])
def test_betas_are_two_numbers(betas):
    data = expand()["base"]["supervised"]
    assert mistake(SupervisedConfig, {**data, "betas": betas}).startswith("betas")


def test_a_choice_is_named_with_what_can_be_chosen():
    message = mistake(ComputeConfig, {**COMPUTE, "dtype": "float16"})
    assert message.startswith("dtype = 'float16': Input should be 'float32' or 'bfloat16' (")


def test_errors_inside_nested_configs_give_the_whole_path():
    data = expand()["runs/sspo-s0"]
    message = mistake(RunConfig, {**data, "train": {**data["train"], "steps": "3"}})
    assert message == "train.steps = '3': Input should be a valid integer (rollouts)"
    assert mistake(RunConfig, {**data, "train": 3}).startswith(
        "train = 3: Input should be an object"
    )


def test_a_run_whose_updates_cannot_share_its_prompts_is_refused():
    data = expand()["runs/sspo-s0"]
    message = mistake(RunConfig, {**data, "rollout": {**data["rollout"], "prompts_per_step": 6}})
    for fragment in ("prompts_per_step = 6", "updates_per_rollout = 4"):
        assert fragment in message


# JSON files


def test_read_names_the_file_once_and_the_key(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(COMPUTE))
    assert reading.read(ComputeConfig, path) == ComputeConfig(
        device="cpu", dtype="float32", threads=1
    )
    path.write_text(json.dumps({**COMPUTE, "threads": "1"}))
    with pytest.raises(ConfigError) as caught:
        reading.read(ComputeConfig, path)
    assert str(caught.value).startswith(f"{path}: threads = '1': Input should be a valid integer")


@pytest.mark.parametrize("content", [None, "", '{"a": 1', "[1]", "3", b"\xff\xfe"])
@pytest.mark.parametrize("load", [load_json, lambda path: reading.read(ModelConfig, path)])
def test_a_file_that_is_no_json_object_is_one_line_that_names_it_once(tmp_path, content, load):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.count(str(path)) == 1
    assert "\n" not in message
