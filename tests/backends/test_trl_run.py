"""The TRL backend: gradients and records of the native trainer, however a batch is shared out."""

import gzip
import json
import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

pytest.importorskip("trl", reason="TRL is not installed (`make trl`)")

from safetensors.torch import load_file

from sspo.backends.launch import check_launch
from sspo.backends.trl_run import RunTrainer, micro_batch_size, schedule
from sspo.config.errors import ConfigError
from sspo.config.reading import load_json, plain
from sspo.config.settings import LoraConfig, SupervisedConfig
from sspo.data.batching import batches
from sspo.data.problems import write_jsonl
from sspo.models.policy import load_model, save_model
from sspo.pipeline.files import write_json
from sspo.rewards.base import Reward
from sspo.rollout.vllm_server import ADDRESS
from sspo.training.errors import TrainingError
from sspo.training.metrics import RunLog
from sspo.training.supervised import encode_solutions, train_supervised
from support.paths import ROOT, SOURCE, TESTS
from support.runs import (
    PROBLEMS,
    TOKENIZER,
    make_actors,
    read_metrics,
    run_config,
    run_training,
    weights,
)
from support.trl_worker import VARIANTS, Gradients, drifting_actors, drifting_config
from support.vllm_serving import serving

pytestmark = pytest.mark.trl

# Largest micro-batch, processes, sharded or not: an update's 8 responses in one pass, in two passes, in two
# processes, in two processes of two passes each, and in two processes that hold half of each weight.
SPLITS = {
    "one": (8, 1, 0), "accumulated": (4, 1, 0), "processes": (4, 2, 0), "both": (2, 2, 0),
    "sharded": (4, 2, 1),
}  # fmt: skip


def launch(processes, *command, file="ddp"):
    """Run a script in so many processes on CPU, by `accelerate launch` with a file of ours."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    accelerate = [
        sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch",
        "--config_file", str(ROOT / "profiles" / "accelerate" / f"{file}.yaml"),
        "--num_processes", str(processes), "--main_process_port", str(port),
    ]  # fmt: skip
    start = accelerate if processes > 1 else [sys.executable]
    paths = {
        "PYTHONPATH": f"{SOURCE}{os.pathsep}{TESTS}",
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    done = subprocess.run(
        [*start, *map(str, command)], capture_output=True, text=True, env={**os.environ, **paths}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def differing(ours, theirs, rel=1e-2, abs=1e-5):
    """Keys of two records whose values differ; null equals null alone."""
    assert list(ours) == list(theirs)
    return [
        key
        for key, value in ours.items()
        if theirs[key] != (value if value is None else pytest.approx(value, rel=rel, abs=abs))
    ]


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """Gradients and records of the native trainer: variant -> (gradients, records)."""
    found = {}
    for variant in VARIANTS:
        folder = tmp_path_factory.mktemp(variant)
        with Gradients() as gradients:
            run_training(folder, drifting_config(variant, micro_batch=8), drifting_actors(variant))
        found[variant] = gradients.kept, read_metrics(folder)
    return found


@pytest.fixture(scope="module", params=SPLITS)
def inside_trl(request, tmp_path_factory):
    """The same from TRL, for each way to split an update."""
    micro_batch, processes, sharded = SPLITS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    worker = TESTS / "support" / "trl_worker.py"
    file = "fsdp2" if sharded else "ddp"
    launch(processes, worker, folder, micro_batch, processes, sharded, file=file)
    return {
        variant: (
            load_file(folder / variant / "gradients.safetensors"),
            read_metrics(folder / variant),
        )
        for variant in VARIANTS
    }


def test_every_update_has_the_native_gradient_however_it_is_split(native, inside_trl):
    for variant in VARIANTS:
        expected, found = native[variant][0], inside_trl[variant][0]
        assert expected.keys() == found.keys() and len(found) == 4
        # Rounding to bfloat16 may change what is sampled later.
        compared = ["update-0", "update-1"] if variant == "bfloat16" else expected
        tolerance = 3e-2 if variant == "bfloat16" else 1e-3
        for update in compared:
            error = (found[update] - expected[update]).norm()
            assert error <= tolerance * expected[update].norm() + 1e-7, (variant, update)
        # The second update of the first rollout is off-policy.
        assert expected["update-0"].norm() > 0.01 and expected["update-1"].norm() > 0.01


def test_every_record_is_the_native_one_however_an_update_is_split(native, inside_trl):
    for variant in VARIANTS.keys() - {"bfloat16"}:
        expected, found = native[variant][1], inside_trl[variant][1]
        assert found[1]["log_ratio_var"] > 1e-4, "the policy did not drift: nothing was compared"
        for ours, theirs in zip(expected, found, strict=True):
            assert differing(ours, theirs) == [], variant


@pytest.mark.parametrize("updates", [1, 2])
def test_ratios_are_exactly_one_while_the_policy_stands_still(tmp_path, updates):
    # At this rate, float32 rounds every step away.
    config = run_config("sspo", steps=1, updates_per_rollout=updates, learning_rate=1e-30)
    RunTrainer(config, make_actors(), PROBLEMS, RunLog(tmp_path)).train()
    record = read_metrics(tmp_path)[1]
    assert record["grad_norm"] > 0.0
    assert record["log_ratio_min"] == record["log_ratio_max"] == 0.0
    assert record["sequence_weight_min"] == record["sequence_weight_max"] == 1.0


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_update(tmp_path):
    def reward(answer, completion):
        return Reward(float("nan"), "correct")

    actors = make_actors(reward)
    before = weights(actors)
    trainer = RunTrainer(run_config("grpo"), actors, PROBLEMS, RunLog(tmp_path))
    with pytest.raises(TrainingError, match="grpo-s0: step 1, update 1: gradient norm nan"):
        trainer.train()
    assert torch.equal(weights(actors), before)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_update_has_the_native_prompts_whatever_the_number_of_processes(processes):
    config = run_config("sspo", steps=3)
    rows = [row["id"] for row in schedule(config, PROBLEMS, processes)]
    order = batches(len(PROBLEMS), 4, config.seed)
    for step in range(3):
        chosen = [PROBLEMS[i]["id"] for i in next(order)]
        stretches = torch.arange(4).view(processes, -1) + 4 * step
        for update in range(2):
            parts = stretches.view(processes, 2, -1)[:, update].flatten().tolist()
            assert {rows[i] for i in parts} == set(chosen[2 * update : 2 * update + 2])


def test_micro_batches_are_equal_parts_of_a_share():
    config = run_config("sspo", micro_batch=5)  # 4 prompts of 4 responses in 2 updates
    assert [micro_batch_size(config, processes) for processes in (1, 2)] == [4, 4]
    assert micro_batch_size(run_config("sspo", micro_batch=64), 1) == 8


def test_prompts_that_cannot_be_shared_out_in_whole_groups_are_refused():
    with pytest.raises(ConfigError, match=r"prompts_per_step = 4 .* = 2 times 3 processes; change"):
        micro_batch_size(run_config("sspo"), 3)


@pytest.mark.parametrize(
    ("deepspeed", "fsdp", "rank", "message"),
    [
        ({"zero_stage": 3}, None, 0, "ZeRO-3 is not supported; shard parameters by FSDP"),
        (None, {"fsdp_version": 1}, 0, "FSDP needs fsdp_version: 2"),
        (None, {"cpu_ram_efficient_loading": True}, 0, "set fsdp_cpu_ram_efficient_loading: false"),
        (None, {}, 4, r"FSDP cannot shard adapters \(lora.rank\)"),
        ({"zero_stage": 2}, None, 4, None),
        (None, {}, 0, None),
    ],
)
def test_sharding_that_would_train_something_else_is_refused(deepspeed, fsdp, rank, message):
    usual = {"fsdp_version": 2, "cpu_ram_efficient_loading": False}
    state = SimpleNamespace(
        deepspeed_plugin=deepspeed and SimpleNamespace(**deepspeed),
        fsdp_plugin=None if fsdp is None else SimpleNamespace(**(usual | fsdp)),
        mixed_precision="no",
    )
    config = run_config("sspo").changed(lora=LoraConfig(rank=rank, alpha=8.0))
    expected = nullcontext()
    if message:
        expected = pytest.raises(ConfigError, match=f"backends.accelerate_config: .*{message}")
    with expected:
        check_launch(state, config)


@pytest.mark.parametrize(
    ("precision", "dtype", "agree"),
    [("no", "float32", True), ("bf16", "bfloat16", True), ("bf16", "float32", False)],
)
def test_a_launch_in_another_precision_than_the_configs_is_refused(precision, dtype, agree):
    state = SimpleNamespace(mixed_precision=precision, deepspeed_plugin=None)
    config = run_config("sspo")
    config = config.changed(compute={"dtype": dtype})
    message = "mixed_precision: bf16 beside compute.dtype: float32; write 'no'"
    with nullcontext() if agree else pytest.raises(ConfigError, match=message):
        check_launch(state, config)


# A complete run, script against script


def guessing_model():
    """A model that answers 7 or 3, so that rewards differ within a group."""
    policy = make_actors().policy
    problems = [{**p, "solution": f"#{answer}"} for p in PROBLEMS for answer in (7, 3)]
    settings = SupervisedConfig(
        steps=40, batch_size=8, micro_batch=8, learning_rate=1e-2, schedule="constant",
        warmup_steps=0, betas=(0.9, 0.99), weight_decay=0.0, max_grad_norm=1.0, log_every=40,
        eval_every=0,
    )  # fmt: skip
    examples = encode_solutions(problems, TOKENIZER)
    train_supervised(policy, examples, settings, 0, dict, lambda record: None)
    return policy


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with a native run and others inside TRL, in two processes."""
    folder = tmp_path_factory.mktemp("results")
    save_model(guessing_model(), TOKENIZER, folder / "base" / "model")
    write_json(folder / "tracking.json", {"service": "none", "project": ""})
    problems = [{**p, "answer": "7"} for p in PROBLEMS]
    for name in ("train", "validation"):
        write_jsonl(folder / "data" / f"{name}.jsonl", problems)
    scripts = ROOT / "workflow" / "scripts"
    run_script(folder, run_config("sspo"), "native", 1, scripts / "train.py")
    run_script(folder, run_config("sspo"), "trl", 2, scripts / "train_trl.py")
    sharding = (TESTS / "support" / "trl_worker.py", "run", scripts / "train_trl.py")
    run_script(folder, run_config("sspo"), "sharded", 2, *sharding, file="fsdp2")
    return folder


def run_script(folder, config, name, processes, *command, file="ddp"):
    output = folder / "runs" / name
    write_json(output / "config.json", plain(config.changed(run=name, method=name)))
    launch(
        processes, *command,
        "--config", output / "config.json", "--base", folder / "base" / "model",
        "--problems", folder / "data/train.jsonl", "--output", output,
        "--validation", folder / "data/validation.jsonl", "--tracking", folder / "tracking.json",
        file=file,
    )  # fmt: skip


def test_a_run_under_deepspeed_leaves_what_a_native_run_leaves(results):
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed (the extra deepspeed)")
    config = run_config("sspo")
    launched = (TESTS / "support" / "trl_worker.py", "run", ROOT / "workflow/scripts/train_trl.py")
    run_script(results, config, "zero", 2, *launched, file="zero2")
    clipped = [record["grad_norm_max"] for record in read_metrics(results / "runs/zero")[1:]]
    assert min(clipped) < config.train.max_grad_norm < max(clipped)
    check_like_native(results, "zero")


@pytest.mark.parametrize("name", ["trl", "sharded"])
def test_a_complete_run_leaves_what_a_native_run_leaves(results, name):
    check_like_native(results, name)


def check_like_native(results, name):
    """Files and records of a run in two processes are those of the native run."""
    native, inside = results / "runs/native", results / "runs" / name
    events = "events.out.tfevents.*"  # named after their time, by the first process alone
    assert len([*inside.rglob(events)]) == len([*native.rglob(events)]) == 1
    names = [{p.name for p in f.rglob("*") if not p.match(events)} for f in (inside, native)]
    assert names[0] == names[1]
    assert load_json(inside / "provenance.json")["processes"] == 2
    ours, theirs = read_metrics(native), read_metrics(inside)
    assert any(0.0 < record["reward"] < 1.0 for record in ours[1:])
    for expected, found in zip(ours, theirs, strict=True):
        assert differing(expected, found, abs=1e-4) == []
    assert _rollouts(inside) == _rollouts(native)


def test_a_saved_model_is_the_trained_one_and_loads_as_any_other(results):
    base, native, *trained = (
        torch.cat([p.flatten() for p in load_model(results / place / "model").parameters()])
        for place in ("base", "runs/native", "runs/trl", "runs/sharded")
    )
    moved = (native - base).norm()
    assert moved > 0.0
    for found in trained:
        assert (found - native).norm() < 0.05 * moved


@pytest.mark.vllm
def test_every_process_samples_with_a_vllm_that_follows_the_policy(results):
    pytest.importorskip("vllm", reason="vLLM is not installed (`make vllm`)")
    check_followed(results, "vllm", "train_trl", 2)


@pytest.mark.vllm
def test_processes_share_a_vllm_server_that_follows_the_policy(results, tmp_path, monkeypatch):
    pytest.importorskip("vllm", reason="vLLM is not installed (`make vllm`)")
    with serving(results / "base/model", tmp_path / "log") as address:
        monkeypatch.setenv(ADDRESS, address)
        check_followed(results, "vllm_server", "train_trl", 2)
        check_followed(results, "vllm_server", "train", 1)


def check_followed(results, engine, script, processes):
    """A run with an engine of another process's, or one that computes otherwise, samples as it learns."""
    config = run_config("sspo", learning_rate=3e-2)
    config = config.changed(rollout={"engine": engine})
    name = f"{script}-{engine}"
    run_script(results, config, name, processes, ROOT / "workflow" / "scripts" / f"{script}.py")
    folder = results / "runs" / name
    records = read_metrics(folder)
    assert len(records) == 4
    assert records[-1]["kl"] > 1e-3, "the policy did not move: nothing was followed"
    for record in records[1:]:
        assert record["engine_logprob_gap"] < 1e-4
    saved = load_model(folder / "model").state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in saved.values())
    assert not (folder / "engine").exists()


def test_summarize_reads_a_run_as_any_other(results, tmp_path):
    write_json(results / "evaluation/config.json", {"evaluation": {"pools": {}}})
    scores = gzip.compress(b"split,problem,greedy,pass@1\ntest,a,1.0,1.0\n")
    for folder in ("base", "runs/native", "runs/trl"):
        (results / folder / "scores.csv.gz").write_bytes(scores)
        write_json(results / folder / "eval.json", {"splits": {}})
    output = tmp_path / "summary"
    output.mkdir()
    launch(
        1, ROOT / "workflow/scripts/summarize.py", "--results", results, "--output", output,
        "--runs", "native", "trl",
    )  # fmt: skip
    table = pd.read_csv(output / "metrics.csv")
    rewards = table.pivot(index="step", columns="run", values="reward").dropna()
    assert len(rewards) == 3
    assert rewards["trl"].to_numpy() == pytest.approx(rewards["native"].to_numpy(), abs=0.1)


def _rollouts(folder):
    with gzip.open(folder / "rollouts.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["response"] for line in file]
