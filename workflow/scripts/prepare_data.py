"""Make the problems of every split, check that no split leaks into another, write JSONL."""

from itertools import combinations

from sspo.cli import parse_paths, run
from sspo.config import ConfigError, from_dict, load_json
from sspo.datasets import overlap, write_jsonl
from sspo.files import write_json
from sspo.provenance import write_record
from sspo.tasks import SplitSpec, TraceStyle, make_splits


def main() -> None:
    paths = parse_paths(__doc__, config="data config", output="folder for the splits")
    config = load_json(paths.config)
    specs = {n: from_dict(SplitSpec, s, f"splits.{n}.") for n, s in config["splits"].items()}
    style = from_dict(TraceStyle, config["style"], "style.")
    splits = make_splits(config["name"], specs, style, config["seed"])
    for first, second in combinations(splits, 2):
        shared = overlap(splits[first], splits[second])
        if shared:
            raise ConfigError(
                f"{len(shared)} problems of split {first} occur in {second}, e.g. {shared[0]}"
            )
    for name, records in splits.items():
        write_jsonl(paths.output / f"{name}.jsonl", records)
    correct = [r["solution"].endswith(f"#{r['answer']}") for r in splits["warmup"]]
    summary = {
        "problems": {name: len(records) for name, records in splits.items()},
        "overlap": 0,
        "warmup_solutions_correct": sum(correct) / len(correct),
    }
    write_json(paths.output / "summary.json", summary)
    names = [*(f"{name}.jsonl" for name in splits), "summary.json"]
    write_record(
        paths.output / "provenance.json",
        __file__,
        inputs=[paths.config],
        outputs=[paths.output / name for name in names],
        seeds=[config["seed"]],
    )


if __name__ == "__main__":
    run(main)
