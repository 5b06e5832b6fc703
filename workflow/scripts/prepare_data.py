"""Make the problems of every split, check that no split leaks into another, write JSONL.

Prompts that leave no room for a response in the context of a published base model are found here, with
its tokenizer, and not by the training that would come to them.
"""

import argparse
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.gym import GymProblemsConfig
from sspo.config.reading import JsonDict, load_json, parse
from sspo.config.study import RealDataConfig, TaskDataConfig
from sspo.data.overlap import overlap
from sspo.data.problems import Record, write_jsonl
from sspo.pipeline.files import write_json
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import run
from sspo.rewards.factory import make_reward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="data config")
    parser.add_argument(
        "--models", type=Path, nargs="*", default=[], help="published base models that read them"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the splits")
    paths = parser.parse_args()
    config = load_json(paths.config)
    if "math_data" in config:
        from sspo.data.sources import source_files

        real = parse(RealDataConfig, config, f"{paths.config}: ")
        names = [*real.math_data.train, *real.math_data.benchmarks]
        inputs, seed = source_files(real.math_data.source, names), real.math_data.seed
        splits, summary = real_data(real, paths.models)
    elif "gym_data" in config:
        gym = parse(GymProblemsConfig, config, f"{paths.config}: ")
        inputs, seed = [], gym.gym_data.seed
        splits, summary = reasoning_gym(gym, paths.models)
    else:
        task = parse(TaskDataConfig, config, f"{paths.config}: ")
        inputs, seed = [], task.seed
        splits, summary = procedural(task, paths.models)
    for name, records in splits.items():
        write_jsonl(paths.output / f"{name}.jsonl", records)
    problems = {name: len(records) for name, records in splits.items()}
    write_json(paths.output / "summary.json", {"problems": problems, **summary})
    names = [*(f"{name}.jsonl" for name in splits), "summary.json"]
    read = [f for m in paths.models for f in sorted(m.iterdir()) if f.suffix != ".safetensors"]
    write_record(
        paths.output / "provenance.json",
        __file__,
        inputs=[paths.config, *inputs, *read],
        outputs=[paths.output / name for name in names],
        seeds=[seed],
        config=config,
    )


def procedural(
    task: TaskDataConfig, models: list[Path]
) -> tuple[dict[str, list[Record]], JsonDict]:
    """The splits of a task of ``sspo.data.tasks``."""
    from sspo.data.tasks import make_splits

    splits = make_splits(task.name, task.splits, task.style, task.seed)
    refuse_overlap(splits)
    if models and task.max_response_tokens:
        refuse_too_long(splits, models, task.max_response_tokens, "task")
    correct = [r["solution"].endswith(f"#{r['answer']}") for r in splits["warmup"]]
    return splits, {"overlap": 0, "warmup_solutions_correct": sum(correct) / len(correct)}


def reasoning_gym(
    config: GymProblemsConfig, models: list[Path]
) -> tuple[dict[str, list[Record]], JsonDict]:
    """The splits of generators of reasoning-gym, whose answers verify against themselves."""
    from sspo.data.gym import make_gym_splits

    splits = make_gym_splits(config.gym_data, config.reward)
    refuse_overlap(splits)
    if models and config.max_response_tokens:
        refuse_too_long(splits, models, config.max_response_tokens, "gym_data")
    return splits, {"overlap": 0}


def refuse_overlap(splits: dict[str, list[Record]]) -> None:
    """Raise ``ConfigError`` for a problem that two splits share."""
    for first, second in combinations(splits, 2):
        shared = overlap(splits[first], splits[second])
        if shared:
            raise ConfigError(
                f"{len(shared)} problems of split {first} occur in {second}, e.g. {shared[0]}"
            )


def refuse_too_long(
    splits: dict[str, list[Record]], models: list[Path], response: int, section: str
) -> None:
    """Raise ``ConfigError`` for a generated problem that leaves no room: its length is a setting."""
    from sspo.data.context import Room, load_reader

    room = Room([load_reader(model) for model in models], response)
    for name, records in splits.items():
        if found := room.too_long(records):
            raise ConfigError(
                f"{section}.splits.{name}: {len(found)} problems, such as {found[0]}, leave no room for "
                f"{room}; make them shorter ({'max_operations' if section == 'task' else 'datasets'}), or "
                "lower rollout.max_response_tokens"
            )


def real_data(
    config: RealDataConfig, models: list[Path]
) -> tuple[dict[str, list[Record]], JsonDict]:
    """The splits of real data sets, and what was dropped on the way."""
    from sspo.data.context import Room, describe_prompts, load_reader
    from sspo.data.splits import make_math_splits

    room = Room([load_reader(model) for model in models], config.max_response_tokens)
    splits, report = make_math_splits(config.math_data, make_reward(config.reward), room)
    for name, ids in report.too_long.items():
        if ids:
            print(f"{name}: left out {len(ids)} problems with too long prompts: {', '.join(ids)}")
    prompts = [record for records in splits.values() for record in records]
    read = {str(reader.folder): describe_prompts(reader, prompts) for reader in room.readers}
    return splits, {**asdict(report), "prompts": read}


if __name__ == "__main__":
    run(main)
