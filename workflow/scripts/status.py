"""A table over all runs of an experiment: step of steps, reward, accuracy, time left."""

import argparse
import json
import socket
import time
from pathlib import Path

from sspo.config.reading import load_json
from sspo.pipeline.locks import holder, is_held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder")
    results = parser.parse_args().results
    others = sorted(path for part in ("bases", "runs") for path in (results / part).glob("*"))
    folders = [results / "base", *others]
    rows = [row(folder) for folder in folders if (folder / "config.json").exists()]
    if not rows:
        raise SystemExit(f"{results}: no runs yet; start them with `make reproduce`")
    layout = "{:<18} {:>9} {:>8} {:>8} {:>10}  {}"
    print(layout.format("run", "step", "reward", "greedy", "time left", "state"))
    for cells in rows:
        print(layout.format(*cells))
    done = sum(cells[-1] == "done" for cells in rows)
    print(f"{done} of {len(rows)} done")


def row(folder: Path) -> tuple[str, ...]:
    """Cells of one run, from its progress file; a run killed while writing counts as waiting.

    An imported base model is done with its weights; nothing trained it.
    """
    trained = "checkpoint" not in load_json(folder / "config.json")
    records = [folder / "metrics.jsonl"] if trained else []
    done = all(path.exists() for path in (folder / "model" / "model.safetensors", *records))
    try:
        progress = json.loads((folder / "progress.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return (folder.name, "", "", "", "", "done" if done else "waiting")
    left = "" if done else f"{progress['seconds_left']:.0f} s"
    state = "done" if done else at_work(folder)
    step = f"{progress['step']}/{progress['steps']}"
    return (folder.name, step, share(progress, "reward"), share(progress, "greedy"), left, state)


def at_work(folder: Path) -> str:
    """Running or stopped; of a run on another node, whose lock may not reach here, its last sign."""
    who, here = holder(folder), socket.gethostname()
    if is_held(folder):
        return "running" if who in ("", here) else f"running on {who}"
    if who.split(",")[0] in ("", here):
        return "stopped"
    signs = [path.stat().st_mtime for path in (folder / "progress.json", folder / ".lock")]
    return f"on {who}, last sign {max(0.0, time.time() - max(signs)):.0f} s ago"


def share(progress: dict, key: str) -> str:
    return f"{progress[key]:.3f}" if key in progress else ""


if __name__ == "__main__":
    main()
