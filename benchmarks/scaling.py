"""Measure how sampling and training scale with model size, response length and batch, and draw it.

    python benchmarks/scaling.py --output results/bench --figure docs/performance-scaling.png

Every point has a fresh process and a random model whose responses never end by themselves. The limits are
those of the machine, measured in the same process. A token of training costs 6 floating-point operations
per weight at the rate of a large matrix product. A decoding step reads all weights and the cache at the
rate of a large copy, or computes 2 operations per weight and token, whichever takes longer.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.ticker import NullLocator
from setting import matmul_rate, write
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from sspo.config.settings import ModelConfig
from sspo.figures import style
from sspo.models.policy import ScoreBatch, build_model, score
from sspo.rollout.engine import Sampling
from sspo.rollout.torch_engine import TorchEngine

THREADS, PROMPT = 2, 16
REPEATS, LONG_ENOUGH = 3, 5.0  # seconds after which a rate is not measured again
SHAPES = {  # hidden size, layers, heads, size of the MLP, vocabulary
    "default": (64, 3, 2, 192, 100),
    "words": (128, 4, 4, 384, 1000),
    "7 M": (256, 8, 4, 768, 1000),
    "gpu": (512, 8, 8, 1536, 1000),
    "SmolLM2": (576, 30, 9, 1536, 49152),
}
BASE = {"shape": "default", "response_tokens": 100, "batch": 64}
AXES = {
    "shape": list(SHAPES),
    "response_tokens": [50, 100, 200, 500, 1000],
    "batch": [4, 16, 64, 256],
}
LABELS = {"shape": "parameters", "response_tokens": "tokens of a response", "batch": "responses"}
KINDS = {"sampled": ("sampling", "#0072B2"), "trained": ("training", "#D55E00")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for scaling.json")
    parser.add_argument("--figure", type=Path, required=True, help="image to draw")
    given = parser.parse_args()
    rows = []
    for axis, values in AXES.items():
        for value in values:
            command = [sys.executable, __file__, json.dumps(BASE | {axis: value})]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append({"axis": axis, **json.loads(done.stdout)})
            print(json.dumps(rows[-1]), flush=True)
    write(given.output, "scaling", rows)
    draw(rows, given.figure)


def measure(point: dict[str, object]) -> dict[str, object]:
    """Rates, limits and peak memory of one point."""
    torch.set_num_threads(THREADS)
    hidden, layers, heads, mlp, vocabulary = SHAPES[str(point["shape"])]
    batch, length = int(point["batch"]), int(point["response_tokens"])
    config = ModelConfig(
        hidden_size=hidden, layers=layers, heads=heads, mlp_size=mlp, context=PROMPT + length
    )
    model = build_model(config, vocabulary, seed=0)
    prompts = torch.randint(2, vocabulary, (batch, PROMPT)).tolist()
    engine = TorchEngine(model, numbered_tokens(vocabulary), shares_policy=True)
    engine.ends = [vocabulary]  # which no model samples

    def sample() -> list[list[int]]:
        found = engine.generate(prompts, Sampling(length, 1.0, list(range(batch))))
        return [completion.token_ids for completion in found]

    responses = sample()

    def train() -> None:
        for i in range(0, batch, 16):
            rows = slice(i, i + 16)
            logprobs, _ = score(model, ScoreBatch.collate(prompts[rows], responses[rows], "cpu"))
            logprobs.sum().backward()
        model.zero_grad()

    sampled, trained = (batch * length / fastest(work) for work in (sample, train))
    # Before the limits are measured, which copies large tensors.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    weights = sum(p.numel() for p in model.parameters())
    flops, copied = matmul_rate(1536), copy_rate()
    cache = 2 * 4 * layers * hidden * batch * (PROMPT + length / 2)  # bytes, half full
    step = max((4 * weights + cache) / copied, 2 * weights * batch / flops)
    return {
        **point,
        "parameters": weights,
        "sampled_per_s": sampled,
        "sampled_limit": batch / step,
        "trained_per_s": trained,
        "trained_limit": length / (PROMPT + length) * flops / (6 * weights),
        "memory_mib": memory,
        "matmul_gflops": flops / 1e9,
        "copy_gb_per_s": copied / 1e9,
    }


def numbered_tokens(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of so many words."""
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(vocabulary)}, unk_token="t0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="t0", eos_token="t1")


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few repeats."""
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < LONG_ENOUGH:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def copy_rate(count: int = 2**26) -> float:
    """Bytes read per second while a large tensor is copied, which writes as many."""
    a, b = torch.ones(count), torch.zeros(count)
    return 2 * 4 * count / min(fastest(lambda: b.copy_(a)) for _ in range(3))


def draw(rows: list[dict], path: Path) -> None:
    """Rates as points with their limit as a line, and below them the peak memory of the process."""
    with style.matplotlib.rc_context(style.STYLE):
        figure = style.new_figure(3.8)
        panels = figure.subplots(2, 3, sharex="col", sharey="row", height_ratios=(2, 1))
        for (upper, lower), axis in zip(panels.T, AXES, strict=True):
            found = [row for row in rows if row["axis"] == axis]
            x = [row["parameters" if axis == "shape" else axis] for row in found]
            for kind, (label, color) in KINDS.items():
                upper.plot(x, [r[f"{kind}_per_s"] for r in found], "o-", color=color, label=label)
                limit = [row[f"{kind}_limit"] for row in found]
                upper.plot(x, limit, ":", color=color, label=f"{label}: limit of the machine")
            lower.plot(x, [row["memory_mib"] for row in found], "s-", color="0.3")
            for panel in (upper, lower):
                panel.set(xscale="log", yscale="log")
            lower.set_xlabel(LABELS[axis])
            if axis != "shape":
                lower.set_xticks(x, [f"{value:,}" for value in x])
                lower.xaxis.set_minor_locator(NullLocator())
        panels[0, 0].set_ylabel("response tokens per second")
        panels[1, 0].set_yticks(
            [500, 1000, 2000, 4000, 8000], ["500", "1,000", "2,000", "4,000", "8,000"]
        )
        panels[1, 0].yaxis.set_minor_locator(NullLocator())
        panels[1, 0].set_ylabel("peak memory of\nthe process (MiB)")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        figure.savefig(path, dpi=200)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    else:
        main()
