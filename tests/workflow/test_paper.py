"""The paper-scale profile for real, end to end, on a tiny published checkpoint and local problems."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from sspo.data.problems import write_jsonl
from sspo.models.policy import load_tokenizer
from support.pipelines import ROOT, TINY, Workspace
from support.profiles import merge, read
from support.published import saved

PROBLEMS = {  # as published: columns differ
    "math_lvl3to5": [
        {"problem": f"What is {n} + {n}?", "answer": str(2 * n), "level": 4} for n in range(24)
    ],
    "gsm8k_test": [{"question": f"One has {n} of 9.", "answer": f"so\n#### {n}"} for n in (3, 4)],
    "math500": [
        {"problem": f"Find x if x = {n}/7.", "answer": rf"\frac{{{n}}}{{7}}"} for n in (1, 2)
    ],
    "aime24": [{"problem": "Find the remainder.", "answer": "025"}],
    "aime25": [{"problem": "Find the other one.", "answer": "70"}],
    "amc23": [{"question": "How many are there?", "answer": 142.0}],
    "minerva": [{"question": "Which energy?", "answer": ["9.6\n"]}],
    "olympiadbench": [{"question": "Find all.", "final_answer": ["$(1,2)$"]}],
}
# Too long for the checkpoint's context of 320 tokens: after the first no response of 12 fits, after the
# second not even a token. They are left out of all that tests count.
LONG = {
    "math_lvl3to5": {"problem": f"What is {'1 + ' * 130}1?", "answer": "131", "level": 4},
    "olympiadbench": {"question": f"Find {'all, ' * 90}.", "final_answer": ["7"]},
}
SMALL = {
    "experiment": {"methods": ["grpo", "sspo"], "seeds": [0]},
    "math_data": {"validation": 4},
    "rollout": {
        "engine": "torch",
        "prompts_per_step": 4,
        "group_size": 2,
        "max_response_tokens": 12,
    },
    "train": {
        "steps": 2,
        "updates_per_rollout": 2,
        "micro_batch_tokens": 500,
        "chunk_tokens": 16,
        "eval_every": 2,
        "kl_every": 1,
    },
    "validation": {"problems": 4},
    "evaluation": {"engine": "torch", "samples": 8, "pass_at": [1, 8]},
    "exact_study": TINY["exact_study"],
    "compute": {"device": "cpu", "threads": 1},
}


def paper(folder, **changes) -> dict:
    """The profile with everything but its sizes, over problems and a checkpoint in ``folder``."""
    for name, rows in PROBLEMS.items():
        more = [LONG[name]] if name in LONG else []
        write_jsonl(folder / "data/paper" / f"{name}.jsonl", [*rows, *more])
    saved(folder / "published")
    local = {"checkpoint": {"source": "published", "revision": ""}}
    return merge(merge(read("paper.yaml"), merge(SMALL, local)), changes)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    made = Workspace(tmp_path_factory.mktemp("paper"), fake=False)
    made.write(paper(made.folder))
    made.run("--cores", "2")
    return made


@pytest.mark.slow
def test_the_profile_trains_and_evaluates_a_published_checkpoint(workspace):
    results = workspace.folder / "results/paper"
    assert not (results / "base/metrics.jsonl").exists()  # nothing was pretrained
    for run in ("grpo-s0", "sspo-s0"):
        records = [json.loads(x) for x in (results / f"runs/{run}/metrics.jsonl").open()]
        assert [r["step"] for r in records] == [0, 1, 2]
        assert records[1]["kl"] == 0.0
        assert records[1]["engine_logprob_gap"] > 0.0  # bfloat16 engine, float32 weights
        evaluation = json.loads((results / f"runs/{run}/eval.json").read_text())
        assert evaluation["splits"].keys() == PROBLEMS.keys() - {"math_lvl3to5"}
        assert "maj@8" in evaluation["splits"]["aime24"]


@pytest.mark.slow
def test_prompts_too_long_for_the_checkpoint_are_left_out_with_their_ids_before_training(workspace):
    results = workspace.folder / "results/paper"
    summary = json.loads((results / "data/summary.json").read_text())
    left_out = {name: ids for name, ids in summary["too_long"].items() if ids}
    assert left_out == {"train": ["math_lvl3to5-00024"], "olympiadbench": ["olympiadbench-00001"]}
    assert summary["prompts"]["results/paper/base/model"]["context"] == 320
    for place in ("base", "runs/grpo-s0"):
        evaluation = json.loads((results / place / "eval.json").read_text())
        assert evaluation["left_out"] == {"olympiadbench": 1}
    table = (workspace.folder / "figures/paper/t1_benchmarks.md").read_text()
    assert "Left out, as their prompts fill the context: olympiadbench 1." in table


@pytest.mark.slow
def test_problems_wait_for_the_checkpoint_that_reads_them_and_training_waits_for_both(tmp_path):
    made = Workspace(tmp_path / "made", fake=True)
    other = {"checkpoint": {"source": "published", "revision": ""}}
    made.write(merge(paper(made.folder), {"bases": {"other": other}}))
    text = made.run("--dry-run", "--cores", "2", "--", "results/paper/data/train.jsonl")
    # One of the other base models that share the data must be able to read them as well.
    jobs = re.findall(r"^rule (\w+):\n((?: {4}.*\n)+)", text, flags=re.MULTILINE)
    inputs = {rule: re.search(r"input: (.*)", body)[1] for rule, body in jobs}
    assert [rule for rule, _ in jobs].count("import_base") == 2
    for base in ("base", "bases/other"):
        assert f"results/paper/{base}/model/model.safetensors" in inputs["prepare_data"]
    assert "train" not in inputs


@pytest.mark.slow
def test_checkpoints_of_the_profile_are_in_the_precision_they_were_published_in(workspace):
    results = workspace.folder / "results/paper"
    for place in ("base", "runs/sspo-s0"):
        model = AutoModelForCausalLM.from_pretrained(results / place / "model")
        assert model.dtype == torch.bfloat16
        assert load_tokenizer(results / place / "model").chat_template


@pytest.mark.slow
def test_the_model_reads_the_chat_format_that_its_template_writes(workspace):
    data = workspace.folder / "results/paper/data"
    problem = json.loads(next((data / "aime24.jsonl").open()))
    tokenizer = load_tokenizer(workspace.folder / "published")
    system = r"Please reason step by step, and put your final answer within \boxed{}."
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": "Find the remainder."},
    ]
    assert problem["prompt"] == tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert problem["answer"] == "25"


@pytest.mark.slow
def test_every_completion_of_the_evaluation_is_kept_for_audit(workspace):
    path = workspace.folder / "results/paper/runs/sspo-s0/completions.jsonl.gz"
    records = [json.loads(x) for x in gzip.decompress(path.read_bytes()).splitlines()]
    assert len(records) == sum(
        len(rows) for name, rows in PROBLEMS.items() if name != "math_lvl3to5"
    )
    assert all(len(r["texts"]) == 1 + 8 for r in records)


@pytest.mark.slow
def test_claims_are_judged_on_the_pooled_benchmarks(workspace):
    results = workspace.folder / "results/paper"
    evaluations = pd.read_csv(results / "summary/evaluations.csv")
    length = evaluations[evaluations["metric"] == "response_tokens"]
    by_split = length[length["run"] == "sspo-s0"].set_index("split")["value"]
    pool = read("paper.yaml")["evaluation"]["pools"]["test"]
    sizes = {split: len(PROBLEMS[split]) for split in pool}
    expected = sum(by_split[split] * n for split, n in sizes.items()) / sum(sizes.values())
    assert by_split["test"] == pytest.approx(expected)
    assert by_split["hard"] == pytest.approx(by_split[["aime24", "aime25"]].mean())
    verdicts = json.loads((results / "claims.json").read_text())["comparisons"]
    assert {v["verdict"] for v in verdicts} == {"undecided"}  # one seed decides nothing


@pytest.mark.slow
@pytest.mark.vllm
def test_the_evaluation_runs_in_vllm_as_well(workspace, tmp_path):
    pytest.importorskip("vllm")
    results = workspace.folder / "results/paper"
    config = json.loads((results / "evaluation/config.json").read_text())
    config["evaluation"]["engine"] = "vllm"
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = [
        sys.executable, ROOT / "workflow/scripts/evaluate.py", "--config", tmp_path / "config.json",
        "--model", results / "base/model", "--data", results / "data", "--output", tmp_path,
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "SSPO_PIPELINE": ""})
    by_vllm, by_torch = (
        json.loads((folder / "eval.json").read_text())["splits"]
        for folder in (tmp_path, results / "base")
    )
    assert by_vllm.keys() == by_torch.keys()
    # Both sample from one model: responses of random weights are about as long.
    lengths = [sum(s["response_tokens"] for s in found.values()) for found in (by_vllm, by_torch)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.3)


def test_the_7b_variant_changes_what_seven_billion_parameters_need():
    seven = merge(read("paper.yaml"), read("paper_7b.yaml"))
    assert seven["checkpoint"]["source"].endswith("7B")
    assert (ROOT / seven["backends"]["accelerate_config"]).is_file()
    launch = yaml.safe_load((ROOT / seven["backends"]["accelerate_config"]).read_text())
    prompts, updates = seven["rollout"]["prompts_per_step"], seven["train"]["updates_per_rollout"]
    assert prompts % (updates * launch["num_processes"]) == 0
    assert launch["mixed_precision"] == "no" and seven["compute"]["dtype"] == "bfloat16"


def test_deepspeed_clips_gradients_where_the_native_trainer_does():
    launch = yaml.safe_load((ROOT / "profiles" / "accelerate" / "zero2.yaml").read_text())
    clipped = read("default.yaml")["train"]["max_grad_norm"]
    assert launch["deepspeed_config"]["gradient_clipping"] == clipped
