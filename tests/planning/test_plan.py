"""What an experiment costs before it runs: sizes, jobs, tokens, hours, memory, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sspo.config.errors import ConfigError
from sspo.config.launch_file import Launch, read_launch
from sspo.config.profile import check_profile
from sspo.config.reading import merged, parse, plain
from sspo.config.settings import LoraConfig, ModelConfig, RunConfig
from sspo.data.tasks import CHARACTERS, SplitSpec, TraceStyle, make_splits
from sspo.experiment.expand import expand_profile
from sspo.models.lora import add_adapters
from sspo.models.policy import ScoreBatch, build_model, save_model, score
from sspo.models.tokenizer import character_tokenizer
from sspo.planning.calibration import MOST_RESPONSES, measure_step, shortened
from sspo.planning.cost import device_memory, read_cost
from sspo.planning.jobs import (
    EVALUATE,
    PRETRAIN,
    TRAIN,
    TRAIN_CONTROL,
    Rates,
    by_kind,
    hours,
    jobs_at_once,
    list_jobs,
    tokens,
)
from sspo.planning.memory import (
    GIB,
    Machine,
    activations,
    adapters,
    by_memory,
    disk_bytes,
    memory_parts,
    refusals,
    total,
)
from sspo.planning.model_size import ModelSize, base_folder, base_size, checkpoint_size
from support.packages import pretend_installed
from support.paths import PROFILES, ROOT

RATES = Rates(
    sampled_per_second=1000.0,
    trained_per_second=500.0,
    start_seconds=10.0,
    response_tokens=20.0,
    learned=True,
    parameters=27_488,
    memory_gib=0.5,
)
NOWHERE = Path("nowhere")  # no results
TORCH = {"engine": "torch"}


def read(name):
    return yaml.safe_load((PROFILES / name).read_text(encoding="utf-8"))


def expand(*changes):
    config = read("default.yaml")
    for change in changes:
        config = merged(config, change)
    return expand_profile(check_profile(copy.deepcopy(config), "test"), "test")


def jobs_of(configs):
    return list_jobs(configs, NOWHERE)


def bases(configs):
    return [p for p in configs if p == "base" or (p.startswith("bases/") and p.count("/") == 1)]


TINY = {
    "experiment": {"methods": ["grpo", "sspo"], "seeds": [0, 1], "control": True},
    "model": {"hidden_size": 32, "layers": 2, "heads": 1, "mlp_size": 64},
    "pretrain": {"supervised": {"steps": 10, "batch_size": 6}},
    "rollout": {"prompts_per_step": 4, "group_size": 3, "max_response_tokens": 50},
    "train": {"steps": 7, "updates_per_rollout": 2, "eval_every": 3},
    "validation": {"problems": 5, "samples": 2},
    "task": {"splits": {"test": {"size": 11}, "hard": {"size": 9}}},
    "evaluation": {"samples": 8},
}


def scratch_size(model):
    return base_size({"model": plain(model), "characters": CHARACTERS}, NOWHERE)


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(hidden_size=32, layers=2, heads=1, mlp_size=64, context=128),
        ModelConfig(hidden_size=96, layers=1, heads=3, mlp_size=40, context=64),
    ],
)
def test_parameters_of_a_model_from_scratch_are_counted_exactly(model):
    built = build_model(model, len(character_tokenizer(CHARACTERS)), seed=0)
    size = scratch_size(model)
    assert size.parameters == built.num_parameters()
    assert size.vocab_size == built.config.vocab_size
    assert size.query_size == size.key_size == model.hidden_size
    assert (size.layers, size.mlp_size) == (model.layers, model.mlp_size)


def test_adapters_are_counted_exactly():
    pytest.importorskip("peft", reason="peft is not installed (`make lora`)")
    config = ModelConfig(hidden_size=64, layers=3, heads=2, mlp_size=96, context=64)
    model = build_model(config, 18, seed=0)
    add_adapters(model, LoraConfig(rank=4, alpha=8.0), seed=0)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert adapters(scratch_size(config), 4) == trained


def test_adapters_need_neither_gradients_nor_moments_of_all_weights(monkeypatch):
    pretend_installed(monkeypatch, "peft", installed=True)  # what they cost is known without it
    few = {"max_batch": 1}
    whole, adapters = (
        parts_of(rl_job({"rollout": few, "lora": {"rank": rank, "alpha": 8.0}})) for rank in (0, 8)
    )
    assert adapters["weights"] == whole["weights"] / 4 * 2
    assert "Adam's moments" in whole and "Adam's moments" not in adapters
    assert sum(adapters.values()) < 0.5 * sum(whole.values())


ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def tiny_checkpoint(kind, folder, **changes):
    settings, model = ARCHITECTURES[kind]
    built = model(
        settings(
            vocab_size=96, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, intermediate_size=96, **changes,
        )
    )  # fmt: skip
    built.save_pretrained(folder)
    return built


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_parameters_of_a_checkpoint_are_counted_from_its_config_alone(tmp_path, kind, tied):
    built = tiny_checkpoint(kind, tmp_path, tie_word_embeddings=tied)
    (tmp_path / "model.safetensors").unlink()
    size = checkpoint_size(tmp_path)
    assert size.parameters == built.num_parameters()
    head = built.config.head_dim if kind == "qwen3" else 16
    assert (size.query_size, size.key_size, size.mlp_size) == (4 * head, 2 * head, 96)


@pytest.mark.parametrize(
    "text", [None, "no json!", "{}", '{"model_type": "unheard_of"}', '{"model_type": "mamba"}']
)
def test_a_checkpoint_without_a_usable_config_has_no_size(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json: no model of known size") as caught:
        checkpoint_size(tmp_path)
    assert "\n" not in str(caught.value)


HUB = {"source": "Qwen/Qwen2.5-Math-1.5B", "revision": "4a" * 20}


def test_a_repository_that_is_not_here_has_no_size_and_is_not_fetched(tmp_path, monkeypatch):
    def fetch(*arguments, **keywords):
        raise AssertionError("a plan fetches nothing")

    monkeypatch.setattr("socket.socket.connect", fetch)
    assert base_size({"checkpoint": HUB}, tmp_path) is None
    jobs = jobs_of(expand({"checkpoint": HUB}))
    assert by_kind(jobs)["import base"]
    assert by_memory(jobs, {}, Machine("cpu", 1.0, 1.0, 2)) == []


def test_the_config_of_a_repository_in_the_cache_is_enough_for_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--Qwen--Qwen2.5-Math-1.5B" / "snapshots" / HUB["revision"]
    built = tiny_checkpoint("qwen2", snapshot)
    (snapshot / "model.safetensors").unlink()
    assert base_folder({"checkpoint": HUB}, tmp_path / "base") == snapshot
    assert base_size({"checkpoint": HUB}, tmp_path).parameters == built.num_parameters()
    with pytest.raises(ConfigError, match=r"checkpoint\.source"):
        base_size({"checkpoint": {**HUB, "source": "a/b/c"}}, tmp_path)


def test_what_another_config_made_is_no_base_model(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_text("")
    (tmp_path / "config.json").write_text('{"seed": 0}')
    assert base_folder({"seed": 0}, tmp_path) == tmp_path / "model"
    assert base_folder({"seed": 1}, tmp_path) is None


@pytest.mark.parametrize("profile", ["default.yaml", "evidence.yaml", "gpu.yaml"])
def test_every_run_and_base_model_is_planned_once(profile):
    configs = expand({} if profile == "default.yaml" else read(profile))
    jobs = jobs_of(configs)
    runs = {p for p in configs if p.startswith("runs/")}
    trained = [job.place for job in jobs if job.kind in (TRAIN, TRAIN_CONTROL)]
    assert sorted(trained) == sorted(runs)
    trials = {p for p in runs if configs[p]["regime"] == "tuning"}
    assert {job.place for job in by_kind(jobs).get("train tuning", [])} == trials
    evaluated = [job.place for job in jobs if job.kind == EVALUATE]
    assert sorted(evaluated) == sorted([*bases(configs), *runs - trials])


def test_the_tokens_of_a_tiny_experiment_are_those_counted_by_hand():
    groups = {key: jobs[0] for key, jobs in by_kind(jobs_of(expand(TINY))).items()}
    run = groups["train main"]
    # Validated before step 1 and after steps 3, 6 and 7: 5 problems, greedy and 2 samples each.
    assert (run.trained, run.sampled) == (7 * 4 * 3, 7 * 4 * 3 + 4 * 5 * 3)
    assert tokens([run]) == tokens([run], length=70.0) == (144 * 50, 84 * 50)
    assert tokens([run], length=20.0) == (144 * 20, 84 * 20)
    base = groups[PRETRAIN]
    assert (base.trained, base.sampled) == (10 * 6, 2 * 5 * 3)
    control = groups["train control main"]
    # 14 updates on 6 solutions each; validated at the start, after updates 6, 12 and 14.
    assert (control.trained, control.sampled) == (14 * 6, 4 * 5 * 3)
    assert groups[EVALUATE].sampled == (11 + 9) * (1 + 8)


def test_memory_for_the_scheduler_is_part_of_no_config():
    assert expand() == expand({"compute": {"memory_mb": 64_000}})
    assert not any("memory_mb" in config.get("compute", {}) for config in expand().values())


def test_prompts_of_real_data_are_taken_to_be_as_long_as_those_that_are_known():
    jobs = jobs_of(expand(read("paper.yaml"), {"rollout": TORCH, "evaluation": TORCH}))
    assert min(job.prompt for job in jobs) >= 1126


def test_hours_grow_by_as_much_with_every_step():
    def of(steps):
        configs = expand(TINY, {"train": {"steps": steps, "eval_every": 1}})
        return hours([jobs_of(configs)[1]], RATES, {})

    assert of(20) - of(10) == pytest.approx(of(30) - of(20))
    assert of(20) - of(10) == pytest.approx(10 * (12 * 50 / 500 + 27 * 50 / 1000) / 3600)


def test_hours_count_every_start_and_a_larger_model_by_its_parameters():
    run = by_kind(jobs_of(expand(TINY)))["train main"][0]
    once, twice = hours([run], RATES, {}), hours([run, run], RATES, {})
    assert twice == pytest.approx(2 * once)
    larger = hours([run], RATES, {"base": 3 * RATES.parameters})
    assert larger * 3600 - 10.0 == pytest.approx(3 * (once * 3600 - 10.0))


BILLION = ModelSize(1_500_000_000, 1536, 28, 8960, 1536, 256, 151_936)


GPU = Machine("cuda", 80 * GIB, 1e15)
SMALL_GPU = Machine("cuda", 8 * GIB, 1e15)


def rl_job(*changes):
    configs = expand({"compute": {"device": "cuda", "dtype": "bfloat16"}}, *changes)
    return next(job for job in jobs_of(configs) if job.kind == TRAIN)


def parts_of(job, size=BILLION):
    return {part.name: part.size for part in memory_parts(job, size, GPU)}


def test_the_weights_of_a_run_take_what_its_precisions_say():
    parts = parts_of(rl_job({"rollout": {"max_batch": 1}}))
    assert parts["weights"] == parts["gradients"] == parts["initial policy"] == 4 * 1.5e9
    assert parts["Adam's moments"] == 8 * 1.5e9
    assert parts["copy of the weights to sample from"] == 2 * 1.5e9
    without = parts_of(rl_job({"rollout": {"max_batch": 1}, "train": {"kl_every": 0}}))
    assert "initial policy" not in without
    shared = parts_of(rl_job({"rollout": {"max_batch": 1}, "compute": {"dtype": "float32"}}))
    assert not any("copy" in name for name in shared)


def test_memory_is_that_of_the_fuller_phase():
    sampling = parts_of(rl_job({"rollout": {"max_response_tokens": 96, "prompts_per_step": 512}}))
    assert "sampling" in sampling and "gradients" not in sampling
    updating = parts_of(rl_job({"rollout": {"max_batch": 1}}))
    assert "gradients" in updating and "sampling" not in updating


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activations_are_those_that_the_backward_pass_keeps(dtype):
    config = ModelConfig(hidden_size=128, layers=4, heads=2, mlp_size=384, context=128)
    model, size = build_model(config, 18, seed=0), scratch_size(config)
    batch = ScoreBatch.collate([[3] * 10] * 16, [[4] * 50] * 16, "cpu")
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs, _ = score(model, batch, dtype=dtype)
    cast = 2 * size.parameters if dtype == "bfloat16" else 0
    found = sum(kept.values()) - cast
    assert logprobs.requires_grad
    assert found == pytest.approx(activations(size, 16 * 60, dtype, False), rel=0.3)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"train": {"micro_batch": 512}}, "train.micro_batch_tokens"),
        ({"train": {"micro_batch": 512}}, "train.gradient_checkpointing to true"),
        ({"train": {"micro_batch": 64}}, "train.chunk_tokens"),
        ({"train": {"micro_batch": 1}}, "train.kl_every to 0"),
        ({"train": {"micro_batch": 1}}, "a smaller model"),
        ({"train": {"micro_batch": 1}}, "compute.dtype to float32"),
        ({"rollout": {"prompts_per_step": 512}}, "rollout.max_batch"),
    ],
)
def test_a_run_that_cannot_fit_is_refused_with_the_key_to_change(changes, key):
    job = rl_job({"rollout": {"max_batch": 4096}}, changes)
    if "prompts_per_step" not in changes.get("rollout", {}):
        job = dataclasses.replace(job, config=merged(job.config, {"rollout": {"max_batch": 1}}))
    (reason,) = refusals([job], {"base": BILLION}, SMALL_GPU)
    assert key in reason
    assert job.place in reason
    assert "\n" not in reason


def test_what_is_set_already_is_not_advised():
    job = rl_job({"train": {"micro_batch": 512, "gradient_checkpointing": True, "kl_every": 0}})
    (reason,) = refusals([job], {"base": BILLION}, SMALL_GPU)
    assert "gradient_checkpointing" not in reason
    assert "kl_every" not in reason


def test_a_run_inside_trl_is_advised_what_it_can_change(monkeypatch):
    pretend_installed(monkeypatch, "trl", installed=True)
    for checkpointing in (True, False):
        train = {"micro_batch": 512, "micro_batch_tokens": 0}
        job = rl_job(
            {"trainer": "trl", "train": {**train, "gradient_checkpointing": checkpointing}}
        )
        (reason,) = refusals([job], {"base": BILLION}, SMALL_GPU)
        assert "lower train.micro_batch (" in reason or "lower train.micro_batch, or" in reason
        assert "micro_batch_tokens" not in reason
        assert ("gradient_checkpointing to true" in reason) is not checkpointing


SHARDED = {
    "ddp": set(),
    "zero2": {"gradients", "Adam's moments"},
    "fsdp2": {"weights", "gradients", "Adam's moments"},
}


def trl_job(launch, *changes):
    train = {"trainer": "trl", "train": {"micro_batch": 64, "micro_batch_tokens": 0}}
    return rl_job({"backends": {"accelerate_config": str(launch)}}, train, *changes)


@pytest.mark.parametrize("name", SHARDED)
def test_what_an_accelerate_file_shards_is_divided_by_its_processes(monkeypatch, name):
    pretend_installed(monkeypatch, "trl", installed=True)
    few = {"rollout": {"max_batch": 1, "engine": "vllm_server"}}
    one, eight = (
        parts_of(trl_job(file, few))
        for file in ("", ROOT / "profiles" / "accelerate" / f"{name}.yaml")
    )
    divided = {part for part in one if eight.get(part) == one[part] / 8}
    assert divided == SHARDED[name]
    assert all(eight[part] == one[part] for part in one.keys() - divided)
    # Processes on the CPU share its memory.
    cpu = Machine("cpu", None, 1e15)
    job = trl_job(ROOT / "profiles" / "accelerate" / f"{name}.yaml", few)
    alone = dataclasses.replace(job, launch=Launch())
    assert memory_parts(job, BILLION, cpu) == memory_parts(alone, BILLION, cpu)


def test_engines_of_sharded_policies_need_the_whole_weights(monkeypatch):
    pretend_installed(monkeypatch, "trl", installed=True)
    sampling = {
        "rollout": {"max_batch": 4096, "prompts_per_step": 2048},
        "train": {"micro_batch": 1},
    }
    parts = parts_of(trl_job(ROOT / "profiles/accelerate/fsdp2.yaml", sampling))
    assert parts["whole weights for the engine"] == 4 * BILLION.parameters
    assert parts["copy of the weights to sample from"] == 2 * BILLION.parameters


@pytest.mark.parametrize(
    ("text", "launch"),
    [
        ("num_processes: 2", Launch(2)),
        (
            "{num_processes: 2, distributed_type: DEEPSPEED, deepspeed_config: {zero_stage: 1}}",
            Launch(2, frozenset({"moments"})),
        ),
        ("{num_processes: 2, distributed_type: DEEPSPEED}", Launch(2)),
        (
            "{num_processes: 4, distributed_type: FSDP, "
            "fsdp_config: {fsdp_reshard_after_forward: false}}",
            Launch(4, frozenset({"moments", "gradients"})),
        ),
    ],
)
def test_a_launch_is_read_from_its_file(tmp_path, text, launch):
    (tmp_path / "launch.yaml").write_text(text)
    assert read_launch(tmp_path / "launch.yaml") == launch
    assert read_launch("") == Launch()


@pytest.mark.parametrize("text", ["", "num_processes: many", "num_processes: 0", "a: [", "- 1"])
def test_a_launch_that_says_no_processes_is_refused(tmp_path, text):
    (tmp_path / "launch.yaml").write_text(text)
    with pytest.raises(ConfigError, match="backends.accelerate_config: .*launch.yaml"):
        read_launch(tmp_path / "launch.yaml")


SEVEN = ModelSize(7_615_616_512, 3584, 28, 18_944, 3584, 512, 152_064)  # Qwen2.5-Math-7B


def test_the_shipped_7b_profile_fits_the_hardware_that_it_names(monkeypatch):
    for package in ("trl", "vllm"):
        pretend_installed(monkeypatch, package, installed=True)
    monkeypatch.chdir(ROOT)
    configs = expand(read("paper.yaml"), read("paper_7b.yaml"))
    jobs, machine = jobs_of(configs), Machine("cuda", 79 * GIB, 1e15)
    assert refusals(jobs, {"base": SEVEN}, machine) == []
    unsharded = [dataclasses.replace(job, launch=Launch()) for job in jobs]
    assert refusals(unsharded, {"base": SEVEN}, machine) != []


def test_the_gpu_profile_needs_the_size_that_it_names():
    configs = expand(read("gpu.yaml"))
    size = {"base": base_size(configs["base"], NOWHERE)}
    machine = Machine("cuda", 79 * GIB, 1e15)
    assert refusals(jobs_of(configs), size, machine) == []
    _, parts = by_memory(jobs_of(configs), size, machine)[0]
    assert 54 * GIB < total(parts) < 56 * GIB


def with_vllm(share):
    job = rl_job({"train": {"micro_batch": 1}})
    changes = {"rollout": {"engine": "vllm", "vllm_memory": share}}
    return dataclasses.replace(job, config=merged(job.config, changes))


@pytest.mark.parametrize(
    ("share", "key"), [(0.9, "lower rollout.vllm_memory"), (0.01, "raise rollout.vllm_memory")]
)
def test_vllms_share_of_the_gpu_leaves_room_for_training_and_holds_the_weights(share, key):
    (reason,) = refusals([with_vllm(share)], {"base": BILLION}, GPU)
    assert key in reason
    assert refusals([with_vllm(0.3)], {"base": BILLION}, GPU) == []


def test_a_server_takes_memory_only_where_weights_wait_for_it(monkeypatch):
    pretend_installed(monkeypatch, "peft", installed=True)

    def parts(device, engine, **changes):
        job = rl_job({"rollout": {"engine": engine}, "train": {"micro_batch": 1}, **changes})
        return {p.name: p.size for p in memory_parts(job, BILLION, Machine(device, 80 * GIB, 1e15))}

    assert parts("cuda", "torch").keys() - parts("cuda", "vllm_server").keys() == {
        "copy of the weights to sample from"
    }
    # With adapters an update takes little, so what is shown is the fuller phase, sampling.
    waiting = parts("cpu", "vllm_server", lora={"rank": 8, "alpha": 8})
    assert waiting["copy of the weights to sample from"] == 2 * BILLION.parameters


def test_evaluation_and_the_warm_up_are_refused_by_their_own_keys():
    jobs = by_kind(jobs_of(expand()))
    machine = Machine("cpu", 4 * GIB, 1e15)
    (evaluation,) = refusals(jobs[EVALUATE][:1], {"base": BILLION}, machine)
    assert "compute.dtype to bfloat16" in evaluation
    assert "rollout.max_batch" in evaluation
    large = ModelSize(10**8, 4096, 8, 16384, 4096, 4096, 18)
    (warm_up,) = refusals(jobs[PRETRAIN], {"base": large}, machine)
    assert "pretrain.supervised.micro_batch" in warm_up


def test_jobs_that_fit_one_by_one_but_not_together_ask_for_fewer_cores():
    jobs = jobs_of(expand())
    size = base_size(expand()["base"], NOWHERE)
    assert refusals(jobs, {"base": size}, Machine("cpu", 4 * GIB, 1e15, 2)) == []
    (reason,) = refusals(jobs, {"base": size}, Machine("cpu", 4 * GIB, 1e15, 8))
    assert "lower CORES" in reason
    assert "so that 2 run at once" in reason


def test_jobs_on_gpus_run_side_by_side_as_the_limit_of_gpus_allows():
    jobs = jobs_of(expand())
    assert jobs_at_once(jobs, 16, 1) == 16
    assert jobs_at_once(jobs, 16, 1, gpus=1) == 1
    assert jobs_at_once(jobs, 16, 4, gpus=8) == 4
    wide = [dataclasses.replace(job, launch=Launch(8)) for job in jobs]
    assert jobs_at_once(wide, 16, 1, gpus=8) == 1
    assert jobs_at_once(wide, 16, 1, gpus=16) == 2
    assert jobs_at_once(wide, 16, 1, gpus=1) == 1  # Snakemake gives it what there is


def test_a_plan_counts_gpus_as_a_local_run_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = profile(tmp_path, {"compute": {"device": "cuda"}})
    limits = yaml.safe_load((ROOT / "profiles" / "default" / "config.yaml").read_text())
    assert "gpu=1" in limits["resources"]
    assert read_cost([file], 16).machine.at_once == 1
    assert read_cost([file], 16, gpus=2).machine.at_once == 2


def test_jobs_that_share_a_gpu_too_small_for_them_ask_for_fewer_gpus():
    jobs = [rl_job({"rollout": {"max_batch": 1}, "train": {"micro_batch": 1}})] * 2
    (reason,) = refusals(jobs, {"base": BILLION}, Machine("cuda", 40 * GIB, 1e15, 2))
    assert "lower GPUS" in reason and "CORES" not in reason


def test_a_full_disk_is_refused_before_it_is_full():
    jobs = by_kind(jobs_of(expand(TINY)))["train main"]
    needed = disk_bytes(jobs, {"base": BILLION}, 2)
    assert needed["final models"] == 4 * 4 * 1.5e9
    assert needed["states to resume from"] == 2 * 2 * 12 * 1.5e9
    room = sum(needed.values())
    assert refusals(jobs, {"base": BILLION}, Machine("cuda", None, room, 2)) == []
    (reason,) = refusals(jobs, {"base": BILLION}, Machine("cuda", None, room - 1, 2))
    assert reason.startswith("disk: ")
    assert "experiment.seeds" in reason


def test_total_is_the_sum_of_the_parts():
    parts = memory_parts(rl_job(), BILLION, GPU)
    assert total(parts) == sum(part.size for part in parts)


def profile(folder, changes):
    """A workflow folder with a tiny profile; results go below the current folder."""
    target = folder / "config"
    target.mkdir(parents=True)
    (target / "default.yaml").write_text((PROFILES / "default.yaml").read_text())
    (target / "tiny.yaml").write_text(yaml.safe_dump(merged(TINY, changes)))
    return target / "tiny.yaml"


def script(name, folder, *arguments):
    command = [sys.executable, ROOT / "workflow" / "scripts" / f"{name}.py", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


def plan(folder, file):
    """The script that ``make plan`` runs, on the CPU."""
    command = [sys.executable, ROOT / "workflow" / "scripts" / "plan.py"]
    return subprocess.run(
        [*command, "--config", file, "--rates", folder / "rates.json", "--cores", "2"],
        cwd=folder, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


def test_without_the_device_there_are_no_hours(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_memory("cuda") is None
    done = plan(tmp_path, profile(tmp_path, {"compute": {"device": "cuda"}}))
    assert (done.returncode, (tmp_path / "rates.json").exists()) == (0, False)
    assert "not calibrated: no CUDA device here" in done.stdout
    assert "memory is not compared" in done.stdout
    assert "GPU hours" not in done.stdout


def test_a_measured_step_gives_hours_and_is_not_measured_twice(tmp_path):
    file, rates = profile(tmp_path, {}), tmp_path / "rates.json"
    done = plan(tmp_path, file)
    assert done.returncode == 0, done.stderr
    assert "measuring one step" in done.stdout
    assert "with 2 jobs at once" in done.stdout
    assert "as measured" not in done.stdout  # lengths of an untrained model say nothing
    written = rates.read_bytes()
    again = plan(tmp_path, file)
    assert "measuring" not in again.stdout and "with 2 jobs at once" in again.stdout
    assert rates.read_bytes() == written


def test_a_measured_step_of_another_run_gives_no_hours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, other = (
        read_cost([profile(tmp_path / name, {"train": {"micro_batch": size}})], 1)
        for name, size in (("a", 4), ("b", 8))
    )
    file = tmp_path / "rates.json"
    file.write_text(json.dumps({"rates": plain(RATES), "measured": first.measured}))
    assert first.rates(file) == RATES
    assert other.rates(file) is None


def test_a_plan_that_cannot_fit_ends_with_one_line_and_an_error(tmp_path):
    changes = {
        "model": {"hidden_size": 65536, "heads": 64, "layers": 400, "mlp_size": 65536},
        "experiment": {"control": False},
    }
    done = plan(tmp_path, profile(tmp_path, changes))
    assert done.returncode == 1
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())
    assert "a smaller model" in done.stderr
    assert "tiny.yaml" in done.stderr
    assert "not calibrated: the plan does not fit" in done.stdout
    assert not (tmp_path / "rates.json").exists()


def test_rates_of_a_step_are_positive(tmp_path):
    tokenizer = character_tokenizer(CHARACTERS)
    model = build_model(
        ModelConfig(hidden_size=32, layers=2, heads=1, mlp_size=64, context=128),
        len(tokenizer),
        seed=0,
    )
    save_model(model, tokenizer, tmp_path)
    style, split = (
        TraceStyle(careful_author=0.1, careful_step=0.2, slip=0.8, noise=0.0),
        {"train": SplitSpec(size=3, min_operations=3, max_operations=5)},
    )
    problems = make_splits("chain", split, style, 0)["train"]
    rates = measure_step(
        parse(RunConfig, expand(TINY)["runs/sspo-s0"]), tmp_path, problems, learned=False
    )
    assert min(rates.sampled_per_second, rates.trained_per_second, rates.start_seconds) > 0
    assert 1 <= rates.response_tokens <= 50
    assert rates.parameters == model.num_parameters()
    assert rates.memory_gib > 0.1


@pytest.mark.parametrize(
    ("prompts", "updates", "group"),
    [(32, 4, 8), (512, 64, 8), (512, 1, 16), (512, 4, 16), (4, 1, 300)],
)
def test_the_measured_step_is_short_and_of_equal_shares(prompts, updates, group):
    changes = {
        "rollout": {"prompts_per_step": prompts, "group_size": group},
        "train": {"updates_per_rollout": updates},
    }
    short = shortened(parse(RunConfig, expand(changes)["runs/sspo-s0"]))
    count = short.rollout.prompts_per_step
    assert count * group <= max(MOST_RESPONSES, 2 * group)
    assert count % short.train.updates_per_rollout == 0
    assert short.train.updates_per_rollout >= min(updates, 2)
