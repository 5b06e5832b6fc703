"""Splits of real data sets: no problem of a benchmark stays in the training problems."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from sspo.config.errors import ConfigError
from sspo.config.study import PROBLEM, MathDataConfig
from sspo.data.context import Room
from sspo.data.overlap import find_overlaps, normalized
from sspo.data.problems import Record
from sspo.data.sources import load_data_set
from sspo.rewards.base import RewardFunction, check_golds, judge_gold


@dataclass
class Report:
    """What was read and what was left out, for summary.json.

    Attributes:
        rows: data set -> rows read.
        selected: data set -> rows of the levels that are used.
        repeated: data set -> problems that occurred before in the same split.
        unverifiable: training problems with a gold answer that no response could match.
        dropped: benchmark or "validation" -> training problems that equal or nearly equal one of it.
        shared: "a & b" -> problems of benchmark a that equal or nearly equal one of b.
        too_long: "train" or benchmark -> ids of the problems that leave no room for a response.
    """

    rows: dict[str, int] = field(default_factory=dict)
    selected: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    unverifiable: int = 0
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)
    too_long: dict[str, list[str]] = field(default_factory=dict)


def make_math_splits(
    config: MathDataConfig, reward: RewardFunction, room: Room
) -> tuple[dict[str, list[Record]], Report]:
    """Make ``train``, ``validation`` and one split per benchmark, with disjoint problems.

    A training problem is dropped if it repeats, if its gold answer does not verify against itself, if
    ``sspo.data.overlap`` finds it in a benchmark or, once that is drawn, in validation, or if its prompt
    does not leave the ``room``. A benchmark loses only exact repetitions and the prompts after which not
    even one token fits, so that its scores stay comparable; one that needs more is refused.

    Raises:
        ConfigError: data cannot be loaded or used, or no training problems are left.
    """
    report = Report()
    benchmarks = {name: _read_benchmark(name, config, reward, report) for name in config.benchmarks}
    for (a, first), (b, second) in combinations(benchmarks.items(), 2):
        if shared := sum(map(bool, _overlaps(first, second))):
            report.shared[f"{a} & {b}"] = shared
    train = _read_train(config, reward, report)
    train = _without(benchmarks, train, report)
    train = _fitting("train", train, room, report)
    if len(train) <= config.validation:
        long = len(report.too_long["train"])
        reason = f" (without {long} that leave no room for {room})" if long else ""
        raise ConfigError(
            f"math_data.train: {len(train)} problems are left{reason}, and math_data.validation = "
            f"{config.validation} are held out; add a training set or lower validation"
        )
    order = random.Random(f"validation/{config.seed}").sample(range(len(train)), len(train))
    # They stay in the order drawn, because a run may validate on the first of them only.
    validation = [train[i] for i in order[: config.validation]]
    train = [train[i] for i in sorted(order[config.validation :])]
    train = _without({"validation": validation}, train, report)
    one = replace(room, response=1)
    splits = {"train": train, "validation": validation}
    splits |= {name: _fitting(name, split, one, report) for name, split in benchmarks.items()}
    kept = ("id", "prompt", "answer")
    return {n: [{k: p[k] for k in kept} for p in split] for n, split in splits.items()}, report


def _read(name: str, config: MathDataConfig, report: Report) -> list[Record]:
    problems, report.rows[name] = load_data_set(name, config.source, config.revisions)
    report.selected[name] = len(problems)
    return [{**p, "prompt": config.prompt.replace(PROBLEM, str(p["problem"]))} for p in problems]


def _read_benchmark(
    name: str, config: MathDataConfig, reward: RewardFunction, report: Report
) -> list[Record]:
    """A benchmark without repetitions.

    Raises:
        ConfigError: a problem has two answers, or a gold answer that no response could match.
    """
    problems = _read(name, config, report)
    kept: dict[str, Record] = {}
    for problem in problems:
        first = kept.setdefault(normalized(str(problem["problem"])), problem)
        if first["answer"] != problem["answer"]:
            raise ConfigError(
                f"{name}: {first['id']} and {problem['id']} are one problem with two answers, "
                f"{first['answer']!r} and {problem['answer']!r}; fix one in the data set"
            )
    report.repeated[name] = len(problems) - len(kept)
    check_golds(list(kept.values()), reward, name)
    return list(kept.values())


def _read_train(config: MathDataConfig, reward: RewardFunction, report: Report) -> list[Record]:
    kept: dict[str, Record] = {}
    for name in config.train:
        problems, before = _read(name, config, report), len(kept)
        for problem in problems:
            kept.setdefault(normalized(str(problem["problem"])), problem)
        report.repeated[name] = len(problems) - (len(kept) - before)
    usable = [p for p in kept.values() if judge_gold(p, reward) == "correct"]
    report.unverifiable = len(kept) - len(usable)
    return usable


def _without(
    references: dict[str, list[Record]], problems: list[Record], report: Report
) -> list[Record]:
    """The problems that occur in none of the references; those dropped are counted in the report."""
    kinds = {name: _overlaps(problems, reference) for name, reference in references.items()}
    report.dropped |= {
        name: {"exact": found.count("exact"), "near": found.count("near")}
        for name, found in kinds.items()
    }
    return [p for p, *found in zip(problems, *kinds.values(), strict=True) if not any(found)]


def _fitting(name: str, problems: list[Record], room: Room, report: Report) -> list[Record]:
    """The problems of a split that leave the room; the ids of the others go into the report.

    Raises:
        ConfigError: none of them does.
    """
    report.too_long[name] = room.too_long(problems)
    long = {*report.too_long[name]}
    kept = [p for p in problems if p["id"] not in long]
    if problems and not kept:
        where, fix = f"math_data.benchmarks: {name}", f"take {name} out"
        if name == "train":
            where, fix = "math_data.train", "lower rollout.max_response_tokens"
        raise ConfigError(
            f"{where}: none of {len(problems)} prompts leaves room for {room}; {fix}, shorten "
            "math_data.prompt, or choose a checkpoint with a longer context"
        )
    return kept


def _overlaps(first: Sequence[Record], second: Sequence[Record]) -> Sequence[str | None]:
    return find_overlaps(*([str(p["problem"]) for p in problems] for problems in (first, second)))
