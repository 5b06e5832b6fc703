"""Memory and disk of a job, and the keys to change where they do not suffice."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sspo.config.launch_file import Launch
from sspo.config.reading import merged
from sspo.config.settings import ModelConfig
from sspo.models.policy import ScoreBatch, build_model, score
from sspo.planning.jobs import EVALUATE, PRETRAIN, by_kind
from sspo.planning.memory import (
    GIB,
    Machine,
    activations,
    by_memory,
    disk_bytes,
    memory_parts,
    refusals,
    total,
)
from sspo.planning.model_size import ModelSize, base_size
from support.packages import pretend_installed
from support.paths import ROOT
from support.plans import (
    BILLION,
    GPU,
    NOWHERE,
    SMALL_GPU,
    TINY,
    expand,
    jobs_of,
    parts_of,
    read,
    rl_job,
    scratch_size,
)


def test_the_weights_of_a_run_take_what_its_precisions_say():
    parts = parts_of(rl_job({"rollout": {"max_batch": 1}}))
    assert parts["weights"] == parts["gradients"] == parts["initial policy"] == 4 * 1.5e9
    assert parts["Adam's moments"] == 8 * 1.5e9
    assert parts["copy of the weights to sample from"] == 2 * 1.5e9
    without = parts_of(rl_job({"rollout": {"max_batch": 1}, "train": {"kl_every": 0}}))
    assert "initial policy" not in without
    rounding = {"max_batch": 1, "weights_dtype": "int8"}
    rounded = parts_of(rl_job({"rollout": rounding, "compute": {"dtype": "float32"}}))
    assert rounded["copy of the weights to sample from"] == 4 * 1.5e9
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
