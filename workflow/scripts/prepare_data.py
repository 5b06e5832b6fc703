"""Make the problems of every split, check that no split leaks into another, write JSONL."""

from dataclasses import asdict
from itertools import combinations

from sspo.config.errors import ConfigError
from sspo.config.reading import JsonDict, load_json, parse
from sspo.config.study import RealDataConfig, TaskConfig
from sspo.data.overlap import overlap
from sspo.data.problems import Record, write_jsonl
from sspo.pipeline.files import write_json
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import parse_paths, run
from sspo.rewards.factory import make_reward


def main() -> None:
    paths = parse_paths(__doc__, config="data config", output="folder for the splits")
    config = load_json(paths.config)
    if "math_data" in config:
        from sspo.data.sources import source_files

        real = parse(RealDataConfig, config, f"{paths.config}: ")
        names = [*real.math_data.train, *real.math_data.benchmarks]
        inputs, seed = source_files(real.math_data.source, names), real.math_data.seed
        splits, summary = real_data(real)
    else:
        task = parse(TaskConfig, config, f"{paths.config}: ")
        inputs, seed = [], task.seed
        splits, summary = procedural(task)
    for name, records in splits.items():
        write_jsonl(paths.output / f"{name}.jsonl", records)
    problems = {name: len(records) for name, records in splits.items()}
    write_json(paths.output / "summary.json", {"problems": problems, **summary})
    names = [*(f"{name}.jsonl" for name in splits), "summary.json"]
    write_record(
        paths.output / "provenance.json",
        __file__,
        inputs=[paths.config, *inputs],
        outputs=[paths.output / name for name in names],
        seeds=[seed],
        config=config,
    )


def procedural(task: TaskConfig) -> tuple[dict[str, list[Record]], JsonDict]:
    """The splits of a task of ``sspo.data.tasks``."""
    from sspo.data.tasks import make_splits

    splits = make_splits(task.name, task.splits, task.style, task.seed)
    for first, second in combinations(splits, 2):
        shared = overlap(splits[first], splits[second])
        if shared:
            raise ConfigError(
                f"{len(shared)} problems of split {first} occur in {second}, e.g. {shared[0]}"
            )
    correct = [r["solution"].endswith(f"#{r['answer']}") for r in splits["warmup"]]
    return splits, {"overlap": 0, "warmup_solutions_correct": sum(correct) / len(correct)}


def real_data(config: RealDataConfig) -> tuple[dict[str, list[Record]], JsonDict]:
    """The splits of real data sets, and what was dropped on the way."""
    from sspo.data.splits import make_math_splits

    splits, report = make_math_splits(config.math_data, make_reward(config.reward))
    return splits, asdict(report)


if __name__ == "__main__":
    run(main)
