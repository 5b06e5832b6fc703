"""Train the first run of a profile and show it live; at the end, a figure and a table of before and after.

Everything is done by the pipeline's own rules. Ctrl-C stops it, and the same command goes on.
"""

import argparse
import gzip
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.profile import read_profile
from sspo.experiment.runs import rl_runs
from sspo.pipeline.script import run

POLL_SECONDS = 0.5
TAIL = 20  # lines of the log, where the pipeline fails
WIDTH = 58  # letters of a sample answer
RULE = re.compile(r"^(?:local)?rule (\w+):", re.MULTILINE)
WILDCARDS = re.compile(r"^ +wildcards: (.*)$", re.MULTILINE)
LAST = "\n    resources:"  # its last line
PHASES = {  # rule, and its wildcards where it says more -> what is being done
    "import_base": "unpacking the model",
    "prepare_data": "drawing problems",
    "evaluate place=base": "asking the untrained model the held-out problems",
    "train": "training: all that it learns from is the reward of whole answers",
    "evaluate": "asking the trained model the held-out problems",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a profile")
    parser.add_argument("--cores", default="all", help="as Snakemake is given")
    arguments = parser.parse_args()
    profile = read_profile([arguments.config])
    results, figures = Path(profile.results_dir), Path(profile.figures_dir)
    first = rl_runs(profile)[0].run
    results.mkdir(parents=True, exist_ok=True)
    log = results / "demo.log"
    began = time.monotonic()
    with log.open("wb") as output:
        pipeline = subprocess.Popen(
            ["snakemake", "--cores", arguments.cores, "--configfile", str(arguments.config),
             "--", str(figures / "before_after.png")],
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            for line in live(log, results / "runs" / first, profile.train.steps, pipeline):
                print(f"{time.monotonic() - began:5.0f} s  {line}", flush=True)
        except KeyboardInterrupt:
            pipeline.wait()  # the terminal has interrupted it, too
            sys.exit("\nstopped; the same command goes on from the last saved step")
    if pipeline.returncode:
        print("", *log.read_text(errors="replace").splitlines()[-TAIL:], sep="\n")
        raise ConfigError(f"the pipeline failed; above are the last lines of {log}")
    print(f"\n{(figures / 'before_after.md').read_text()}")
    print(f"figure: {figures / 'before_after.png'}")
    print(
        f"every metric: {results / 'runs' / first / 'metrics.jsonl'}, or tensorboard --logdir {results}"
    )
    print("what next:")
    print(f"  - edit {arguments.config} and run this again: experiment.methods (the names are in")
    print("    config/default.yaml), train.learning_rate, or other problems under gym_data")
    print(
        "  - read docs/results.md for how the methods compare, docs/reproducing.md for larger models"
    )


def live(log: Path, folder: Path, steps: int, pipeline: subprocess.Popen) -> Iterator[str]:
    """A line for every phase and step of the run in ``folder``, until the pipeline is done."""
    said, shown, since = list[str](), 0, time.time()
    done = False
    while not done:
        done = pipeline.poll() is not None
        for text in phases(log.read_text(errors="replace"))[len(said) :]:
            said.append(text)
            yield text
        for record in read_steps(folder, since)[shown:]:
            shown += 1
            yield step_line(record, steps)
        time.sleep(0 if done else POLL_SECONDS)


def phases(log: str) -> list[str]:
    """What the pipeline has begun so far, by its log, in which a paragraph announces a job."""
    found = []
    for paragraph in log.split("\n\n"):
        rule = RULE.search(paragraph)
        if rule and LAST in paragraph:
            wildcards = WILDCARDS.search(paragraph)
            whole = f"{rule[1]} {wildcards[1] if wildcards else ''}"
            found.append(PHASES.get(whole, PHASES.get(rule[1])))
    return [text for text in found if text]


def read_steps(folder: Path, since: float) -> list[dict]:
    """The steps of a run, finished or at work: their metrics, each with its first response.

    Files last written before ``since`` are of another config; a run that goes on writes them anew.
    """
    at_work = [folder / "checkpoint" / f"{name}.jsonl" for name in ("metrics", "rollouts")]
    for files in ([folder / "metrics.jsonl", folder / "rollouts.jsonl.gz"], at_work):
        if all(file.exists() and file.stat().st_mtime >= since for file in files):
            metrics, rollouts = (rows(file) for file in files)
            first: dict[int, str] = {}
            for kept in rollouts:
                first.setdefault(kept["step"], kept["response"])
            return [{**r, "response": first[r["step"]]} for r in metrics if r["step"] in first]
    return []


def rows(file: Path) -> list[dict]:
    """The JSON objects of whole lines; the last line may still be written."""
    content = file.read_bytes()
    text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def step_line(record: dict, steps: int) -> str:
    """What a step earned, how long its responses were, and the first of them."""
    sample = " ".join(record["response"].split())
    shown = sample if len(sample) <= WIDTH else sample[: WIDTH - 3] + "..."
    reward, tokens = record["reward"], record["response_tokens"]
    said = json.dumps(shown, ensure_ascii=False)
    return (
        f"step {record['step']:>2}/{steps}  reward {reward:.2f}  {tokens:4.1f} tokens  e.g. {said}"
    )


if __name__ == "__main__":
    run(main)
