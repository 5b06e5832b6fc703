"""What every benchmark shares: the default pipeline's model, prompts and run config."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from sspo.config.reading import read
from sspo.config.run import RunConfig
from sspo.data.problems import Record, read_problems

RUN = "grpo-s0"
MODELS = {"start": "base/model", "end": f"runs/{RUN}/model"}


@dataclass(frozen=True)
class Setting:
    """Results of a finished default pipeline, and the policy to measure with."""

    results: Path
    policy: str = "start"  # the base model, or "end": after RL, when many groups have equal rewards

    @property
    def model(self) -> Path:
        return self.results / MODELS[self.policy]

    @property
    def config(self) -> RunConfig:
        return read(RunConfig, self.results / "runs" / RUN / "config.json")

    @property
    def problems(self) -> list[Record]:
        return read_problems(self.results / "data/train.jsonl")

    def prompts(self, tokenizer, count: int, group_size: int) -> list[list[int]]:
        """``count`` token lists, groups of equal ones, as in a rollout."""
        texts = [str(p["prompt"]) for p in self.problems[: count // group_size]]
        return [ids for ids in tokenizer(texts)["input_ids"] for _ in range(group_size)]


def spread(values: list[float]) -> dict[str, float]:
    """Median, and the smallest and largest value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def matmul_rate(side: int, device: str = "cpu", dtype: str = "float32", repeats: int = 20) -> float:
    """Floating-point operations per second of a product of two (side, side) matrices."""
    import torch  # here, so that benchmarks without a model start without it

    a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
    best = 0.0
    for _ in range(repeats):
        began = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the device
        best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    """Write rows to ``{name}.json`` and print them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(json.dumps(row), flush=True)
