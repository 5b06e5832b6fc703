"""A table over all runs of an experiment: step of steps, reward, accuracy, time left.

With --config, it also says which runs are stale: trained with other settings than the profile has now.
"""

import argparse
import json
import socket
import time
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.reading import load_json
from sspo.experiment.stale import describe, read_changes, stale_models
from sspo.pipeline.locks import holder, is_held
from sspo.pipeline.script import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--config", type=Path, nargs="*", default=[], help="profiles to merge")
    parser.add_argument("--remake", default="make reproduce", help="what makes the results")
    arguments = parser.parse_args()
    results = arguments.results
    others = sorted(path for part in ("bases", "runs") for path in (results / part).glob("*"))
    folders = [path for path in (results / "base", *others) if (path / "config.json").exists()]
    if not folders:
        raise ConfigError(f"{results}: no runs yet; start them with `{arguments.remake}`")
    configs, changed = read_changes(arguments.config, results)
    stale = {results / place for place in stale_models(configs, changed)} if configs else set()
    rows = [row(folder, folder in stale) for folder in folders]
    layout = "{:<18} {:>9} {:>8} {:>8} {:>10}  {}"
    print(layout.format("run", "step", "reward", "greedy", "time left", "state"))
    for cells in rows:
        print(layout.format(*cells))
    done = sum(cells[-1] == "done" for cells in rows)
    print(f"{done} of {len(rows)} done")
    if changed:
        print("\n".join(describe(changed, str(arguments.config[-1]))))
        print(f"`{arguments.remake}` makes again what depends on that")


def row(folder: Path, stale: bool) -> tuple[str, ...]:
    """Cells of one run, from its progress file; a run killed while writing counts as waiting.

    An imported base model is done with its weights; nothing trained it.
    """
    trained = "checkpoint" not in load_json(folder / "config.json")
    records = [folder / "metrics.jsonl"] if trained else []
    done = all(path.exists() for path in (folder / "model" / "model.safetensors", *records))
    finished = "stale" if stale else "done"
    try:
        progress = json.loads((folder / "progress.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return (folder.name, "", "", "", "", finished if done else "waiting")
    left = "" if done else f"{progress['seconds_left']:.0f} s"
    state = finished if done else at_work(folder)
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
    run(main)
