"""Find out which bits repeat when sampling and training are done again.

    python benchmarks/determinism.py --results results --output results/bench

For each engine, two fresh processes sample one rollout of the default run and then train a few steps,
on the device of the run's config. The first process samples again, in another order and in smaller
batches. Each row of the result counts the responses with the same tokens, and those whose
log-probabilities have the same bits as well. The gap is the largest difference between the
log-probabilities of responses with the same tokens, in nats.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

from setting import Setting, write
from worker_native import train_steps

from sspo.models.torch_setup import set_up_torch
from sspo.rewards.exact import exact_reward
from sspo.rollout.engine import Sampling
from sspo.training.setup import load_actors

RESPONSES, STEPS = 256, 5
Responses = list[tuple[list[int], list[float]]]  # token ids and log-probabilities


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="finished default pipeline")
    parser.add_argument("--output", type=Path, required=True, help="folder for determinism.json")
    paths = parser.parse_args()
    rows = []
    for engine in ("torch", "vllm"):
        if importlib.util.find_spec(engine) is None:
            continue
        first, second = (fresh_process(engine, paths.results) for _ in range(2))
        reference = first["samples"].pop("once")
        others = {**first["samples"], "in another process": second["samples"]["once"]}
        rows += [compared(engine, how, reference, found) for how, found in others.items()]
        same = first["weights"] == second["weights"]
        what = f"{STEPS} steps of training in another process"
        rows.append({"engine": engine, "compared": what, "same_weights": same})
        write(paths.output, "determinism", rows)


def fresh_process(engine: str, results: Path) -> dict:
    done = subprocess.run(
        [sys.executable, __file__, engine, results], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def compared(engine: str, how: str, reference: Responses, found: Responses) -> dict[str, object]:
    pairs = [(a[1], b[1]) for a, b in zip(reference, found, strict=True) if a[0] == b[0]]
    gaps = [abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True)]
    return {
        "engine": engine,
        "compared": f"sampled {how}",
        "responses": len(reference),
        "same_tokens": len(pairs),
        "same_bits": sum(a == b for a, b in pairs),
        "largest_gap": max(gaps),
    }


def child(engine: str, results: Path) -> dict[str, object]:
    """Samples of one engine, by the way they were asked for, and a hash of the weights after training."""
    setting = Setting(results)
    config = setting.config
    config = config.changed(rollout={"engine": engine})
    set_up_torch(config.compute)
    actors = load_actors(config, setting.model, exact_reward)
    actors.sync_engine()
    samples = sampled(actors, setting, config)
    for _ in train_steps(config, actors, setting.problems, STEPS):
        pass
    values = [p.detach().float().cpu().numpy().tobytes() for p in actors.policy.parameters()]
    return {"samples": samples, "weights": hashlib.sha256(b"".join(values)).hexdigest()}


def sampled(actors, setting: Setting, config) -> dict[str, Responses]:
    prompts = setting.prompts(actors.tokenizer, RESPONSES, config.rollout.group_size)
    order = random.Random(0).sample(range(RESPONSES), RESPONSES)
    back = sorted(range(RESPONSES), key=order.__getitem__)
    quarters = [list(range(i, i + RESPONSES // 4)) for i in range(0, RESPONSES, RESPONSES // 4)]

    def ask(rows: list[int]) -> Responses:
        # The seed of a row is its number, so a row has the same seed in every order and batch.
        asked = Sampling(config.rollout.max_response_tokens, 1.0, rows)
        completions = actors.engine.generate([prompts[i] for i in rows], asked)
        return [(c.token_ids, c.logprobs) for c in completions]

    shuffled = ask(order)
    return {
        "once": ask(list(range(RESPONSES))),
        "again": ask(list(range(RESPONSES))),
        "in another order": [shuffled[i] for i in back],
        "in four batches": [response for rows in quarters for response in ask(rows)],
    }


if __name__ == "__main__":
    if sys.argv[1] in ("torch", "vllm"):
        print(json.dumps(child(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
