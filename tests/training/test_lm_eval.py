"""Our evaluation against lm-eval's on one benchmark: its own loading, decoding and answer matching."""

from __future__ import annotations

import pytest

from sspo.config.settings import ModelConfig, RewardConfig, SupervisedConfig
from sspo.data.problems import write_jsonl
from sspo.data.sources import load_data_set
from sspo.models.policy import build_model, load_model, load_tokenizer, save_model
from sspo.rewards.factory import make_reward
from sspo.rollout.torch_engine import TorchEngine
from sspo.training.grading import evaluate_problems
from sspo.training.supervised import encode_solutions, train_supervised
from support.published import chat_tokenizer

pytest.importorskip("lm_eval", reason="lm-eval is not installed (`pip install lm-eval==0.4.13`)")

PROMPT = "Problem: {problem}\nAnswer: "
ROWS = [
    {"question": f"One has {n} and gets {n + 1}.", "answer": f"{n} + {n + 1}\n#### {2 * n + 1}"}
    for n in range(1, 9)
]
WRONG = {2, 5, 6}  # problems that the model learns a wrong answer to


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """A model that has learnt to answer some problems of a file in GSM8K's columns, and the problems."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_jsonl(folder / "gsm8k_test.jsonl", ROWS)
    problems, _ = load_data_set("gsm8k_test", str(folder), {})
    for i, problem in enumerate(problems):
        problem["prompt"] = PROMPT.replace("{problem}", str(problem["problem"]))
        shown = int(str(problem["answer"])) + (i in WRONG)
        problem["solution"] = rf"so \boxed{{{shown}}}"
    tokenizer = chat_tokenizer()
    model = build_model(
        ModelConfig(hidden_size=64, layers=2, heads=2, mlp_size=128, context=320),
        len(tokenizer),
        seed=0,
    )
    settings = SupervisedConfig(
        steps=150,
        batch_size=8,
        micro_batch=8,
        learning_rate=3e-3,
        schedule="cosine",
        warmup_steps=10,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        max_grad_norm=1.0,
        log_every=60,
        eval_every=0,
    )
    examples = encode_solutions(problems, tokenizer)
    train_supervised(model, examples, settings, 0, dict, lambda record: None)
    save_model(model, tokenizer, folder / "model")
    write_jsonl(folder / "prompts.jsonl", problems)
    return folder, problems


def by_lm_eval(folder) -> list[tuple[str, float]]:
    """Greedy response and exact match of every problem, as lm-eval has them."""
    from lm_eval import simple_evaluate
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    pattern = r"\\boxed\{(.*?)\}"
    task = ConfigurableTask(
        config={
            "task": "local_gsm8k",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / "prompts.jsonl")}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "{{answer}}",
            "target_delimiter": "",
            "generation_kwargs": {
                "until": ["<|endoftext|>"],
                "do_sample": False,
                "max_gen_toks": 24,
            },
            "filter_list": [
                {
                    "name": "boxed",
                    "filter": [
                        {"function": "regex", "regex_pattern": pattern},
                        {"function": "take_first"},
                    ],
                }
            ],
            "metric_list": [{"metric": "exact_match", "higher_is_better": True}],
        }
    )
    model = HFLM(
        pretrained=load_model(folder / "model"),
        tokenizer=load_tokenizer(folder / "model"),
        device="cpu",
        batch_size=4,
    )
    found = simple_evaluate(model=model, tasks=[task], bootstrap_iters=0)
    samples = sorted(found["samples"]["local_gsm8k"], key=lambda s: s["doc_id"])
    return [(s["resps"][0][0], s["exact_match"]) for s in samples]


def test_greedy_accuracy_and_responses_equal_those_of_lm_eval(benchmark):
    folder, problems = benchmark
    model, tokenizer = load_model(folder / "model"), load_tokenizer(folder / "model")
    records = evaluate_problems(
        problems,
        TorchEngine(model, tokenizer),
        tokenizer,
        make_reward(RewardConfig(name="math", time_limit=5.0, memory_mb=1024, max_characters=1000)),
        samples=1,
        temperature=1.0,
        max_tokens=24,
        seed=0,
    )
    ours = [(record["texts"][0], record["greedy"]) for record in records]
    assert ours == by_lm_eval(folder)
    assert [i for i, (_, right) in enumerate(ours) if not right] == sorted(WRONG)
