"""Problems of reasoning-gym (arXiv 2505.24760) in disjoint splits.

The same configuration gives the same bytes on any machine. Some generators draw from sets of strings, and
one from Python's common random numbers; so problems are drawn in a process of its own, whose hashes are
fixed, and the common random numbers are seeded for every problem.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context
from typing import Any

from sspo.config.errors import ConfigError, first_line
from sspo.config.gym import GymDataConfig
from sspo.config.settings import RewardConfig
from sspo.config.study import PROBLEM
from sspo.data.overlap import normalized
from sspo.data.problems import Record, is_text
from sspo.rewards.base import state_answer
from sspo.rewards.number import number_reward

CHUNK = 1000  # problems of one seed
SOLUTION = "answer_cot"  # where gsm_symbolic has its worked solution
MARK = "####"


def check_generators(config: GymDataConfig) -> None:
    """Refuse generators and arguments that cannot be used.

    Raises:
        ConfigError: names the key, the fix and the nearest names; also where the package is missing.
    """
    if importlib.util.find_spec("reasoning_gym") is None:
        raise ConfigError(
            "gym_data needs reasoning-gym, which is not installed; run `make gym` or remove the section"
        )
    for split, spec in config.splits.items():
        for name, arguments in spec.datasets.items():
            try:
                _check(name, arguments)
            except ConfigError as error:
                raise ConfigError(f"gym_data.splits.{split}.datasets.{name}{error}") from None


def make_gym_splits(config: GymDataConfig, reward: RewardConfig) -> dict[str, list[Record]]:
    """Disjoint splits; ``warmup`` also gets a ``solution`` per problem, which ends with its answer.

    Args:
        config: the generators of every split.
        reward: has to give a problem's own answer 1; ``reasoning_gym`` also needs a ``gold`` per problem.

    Returns:
        Split -> records with ``id``, ``prompt``, ``answer`` and ``dataset``, the generators taking turns.

    Raises:
        ConfigError: a generator has too few problems that were not drawn before.
    """
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(draw_splits, config, reward).result()
    finally:
        os.environ.pop("PYTHONHASHSEED")
        if before is not None:
            os.environ["PYTHONHASHSEED"] = before


def draw_splits(config: GymDataConfig, reward: RewardConfig) -> dict[str, list[Record]]:
    """As ``make_gym_splits``, in this process."""
    seen: set[str | None] = set()
    made: dict[str, list[Record]] = {}
    for split, spec in config.splits.items():
        place, shares = f"gym_data.splits.{split}", []
        for number, (name, arguments) in enumerate(spec.datasets.items()):
            share = len(range(number, spec.size, len(spec.datasets)))
            golds = _golds(name, arguments, f"gym/{config.seed}/{split}/{name}", reward)
            shares.append(_unseen(golds, share, seen, f"{place}.datasets.{name}"))
        turns = [shares[i % len(shares)][i // len(shares)] for i in range(spec.size)]
        made[split] = [
            {
                "id": f"{split}-{i:05d}",
                "prompt": config.prompt.replace(PROBLEM, gold["question"]),
                "answer": gold["answer"],
                "dataset": gold["dataset"],
            }
            for i, gold in enumerate(turns)
        ]
        for record, gold in zip(made[split], turns, strict=True):
            if split == "warmup":
                record["solution"] = worked_solution(gold)
            elif reward.name == "reasoning_gym":
                record["gold"] = json.dumps(gold, ensure_ascii=False)
    return made


def worked_solution(gold: Mapping[str, Any]) -> str:
    """The generator's worked solution, where it has one, and ``####`` with the answer."""
    steps = gold["metadata"].get(SOLUTION, "").partition(MARK)[0].strip()
    return f"{steps}\n{MARK} {gold['answer']}".lstrip()


def _golds(
    name: str, arguments: Mapping[str, Any], seed: str, reward: RewardConfig
) -> Iterator[dict[str, Any] | None]:
    """Problems of a generator without end, as ``sspo.rewards.scoring`` reads them; None is unusable."""
    from sspo.rewards.scoring import make_dataset

    chunk = 0
    while True:
        number = random.Random(f"{seed}/{chunk}").getrandbits(31)
        dataset = make_dataset(name, arguments, number, CHUNK)
        for i in range(CHUNK):
            random.seed(f"{seed}/{chunk}/{i}")
            found = dataset[i]
            gold = {
                "dataset": name,
                "arguments": dict(arguments),
                **{key: found[key] for key in ("question", "answer")},
                "metadata": json.loads(json.dumps(found["metadata"], default=str)),
            }
            yield gold if _earns_its_reward(dataset, gold, reward) else None
        chunk += 1


def _earns_its_reward(dataset: Any, gold: dict[str, Any], reward: RewardConfig) -> bool:
    from sspo.rewards.scoring import scores_fully

    answer = gold["answer"]
    if not is_text(answer) or len(answer) > reward.max_characters:
        return False
    if reward.name == "number":
        return number_reward(answer, state_answer(answer)).value == 1.0
    return scores_fully(dataset, gold, answer.strip())


def _unseen(
    golds: Iterable[dict[str, Any] | None], count: int, seen: set[str | None], place: str
) -> list[dict[str, Any]]:
    """So many usable problems that were not drawn before; ``seen`` is added to."""
    kept: list[dict[str, Any]] = []
    most = 20 * count + 1000
    for drawn, gold in enumerate(golds):
        if len(kept) == count:
            break
        if drawn == most:
            raise ConfigError(
                f"{place}: only {len(kept)} of {count} problems found that were not drawn before and have "
                f"an answer for this reward, among {most}; lower the split's size, or change the arguments"
            )
        problem = normalized(gold["question"]) if gold else None
        if gold and problem not in seen:
            seen.add(problem)
            kept.append(gold)
    return kept


def _check(name: str, arguments: Mapping[str, Any]) -> None:
    """Raises ``ConfigError`` with the rest of a line that begins with the generator's place."""
    from reasoning_gym.factory import DATASETS

    from sspo.rewards.scoring import REFUSED, TEMPLATES, make_dataset

    if name in REFUSED:
        raise ConfigError(f": this generator is not usable, {REFUSED[name]}; choose another one")
    if name not in DATASETS:
        raise ConfigError(f": unknown generator; {_nearest(name, {*DATASETS} - {*REFUSED})}")
    known = {field.name for field in fields(DATASETS[name][1])} - {"seed", "size"}
    known |= {TEMPLATES} if name == "gsm_symbolic" else set()
    for key in arguments:
        if key in ("seed", "size"):
            raise ConfigError(f".{key}: gym_data.seed and the split's size say this; remove it")
        if key not in known:
            raise ConfigError(f".{key}: unknown argument; {_nearest(key, known)}")
    _check_templates(arguments.get(TEMPLATES, [0]))
    try:
        make_dataset(name, arguments)
    except Exception as error:  # generators raise many types
        raise ConfigError(f": {dict(arguments)} refused ({first_line(error)}); change it") from None


def _check_templates(templates: object) -> None:
    from reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic import tasks_ok

    usable = isinstance(templates, list) and all(number in tasks_ok for number in templates)
    if not usable or not templates:
        raise ConfigError(
            f".templates = {templates!r}: must be a list of some of {', '.join(map(str, tasks_ok))}"
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"the nearest are {', '.join(near)}" if near else f"choose from {', '.join(known)}"
