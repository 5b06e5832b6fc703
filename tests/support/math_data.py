"""Files of real data sets in small, and the splits that are made of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sspo.config.study import MathDataConfig
from sspo.data.context import Room
from sspo.data.problems import write_jsonl
from sspo.data.splits import make_math_splits
from sspo.rewards.base import Reward
from sspo.rollout.engine import Completion
from support.paths import ROOT

SYSTEM = r"Please reason step by step, and put your final answer within \boxed{}."
PROMPT = (
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{{problem}}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
ANY_LENGTH = Room((), 1)  # no model reads the prompts


def believe(answer: str, completion: Completion) -> Reward:
    """A reward that finds any gold answer right, to keep the checker out of what does not need it."""
    return Reward(1.0, "correct")


def word_problem(number: int, who: str = "Natalia") -> str:
    """Problems that share no 13 words in a row unless their number is the same."""
    count = " ".join(f"w{number}x{i}" for i in range(20))
    return f"{who} has {number} clips. {count}. How many are left?"


def gsm8k(*numbers: int, who: str = "Natalia") -> list[dict[str, str]]:
    return [{"question": word_problem(n, who), "answer": f"...\n#### {n}"} for n in numbers]


def make(
    folder,
    train,
    benchmarks,
    *,
    validation=1,
    reward=believe,
    seed=0,
    prompt=PROMPT,
    room=ANY_LENGTH,
):
    """Splits and report of ``{data set: rows}``."""
    for name, rows in (train | benchmarks).items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    config = MathDataConfig(
        source=str(folder),
        revisions={},
        train=tuple(train),
        benchmarks=tuple(benchmarks),
        validation=validation,
        seed=seed,
        prompt=prompt,
    )
    return make_math_splits(config, reward, room)


def ids(problems) -> list[str]:
    return [p["id"] for p in problems]


def data_config(folder: Path, train: list[str], benchmarks: list[str], validation: int) -> dict:
    """What the workflow writes for ``prepare_data``."""
    math_data = {
        "source": str(folder),
        "revisions": {},
        "train": train,
        "benchmarks": benchmarks,
        "validation": validation,
        "seed": 0,
        "prompt": PROMPT,
    }
    reward = {"name": "math", "time_limit": 5.0, "memory_mb": 1024, "max_characters": 1000}
    return {"math_data": math_data, "reward": reward, "max_response_tokens": 20}


def prepare(folder: Path, config: dict, *models: Path) -> subprocess.CompletedProcess:
    """Run ``prepare_data`` as the workflow does, into the folder ``made``."""
    (folder / "config.json").write_text(json.dumps(config))
    script = ROOT / "workflow" / "scripts" / "prepare_data.py"
    command = [sys.executable, script, "--config", folder / "config.json", "--models", *models]
    return subprocess.run(
        [*command, "--output", folder / "made"], capture_output=True, text=True, check=False
    )
