"""Generators and scorers of reasoning-gym (arXiv 2505.24760), a library of procedural problems.

Scorers read untrusted text, so ``full_score`` runs in the process of ``sspo.rewards.worker`` alone.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from typing import Any

from reasoning_gym.factory import create_dataset

# Generators that cannot be used, each with the reason.
_NO_GOLD = "its problems come without an answer that a response could be compared with"
REFUSED = {
    "ab": "its answers contain #, which marks where an answer begins",
    "boxnet": _NO_GOLD,
    "composite": "it is a mix of others; name those",
    "game_of_life_halting": "its scorer takes every text for right",
    "graph_color": _NO_GOLD,
    "propositional_logic": _NO_GOLD,
    "puzzle24": "its scorer takes 8*3*1*1 for right, whatever the numbers of the problem",
    "rubiks_cube": _NO_GOLD,
    "rush_hour": _NO_GOLD,
}

# Scorers that evaluate an answer as Python code get formulas of these words alone; they could run anything.
EVALUATING = {
    "binary_matrix",
    "countdown",
    "intermediate_integration",
    "n_queens",
    "polynomial_multiplication",
    "simple_integration",
    "spiral_matrix",
    "string_insertion",
}
_WORDS = "sin|cos|tan|sec|csc|cot|asin|acos|atan|sinh|cosh|tanh|exp|log|ln|sqrt|pi"
_FORMULA = re.compile(rf"(?:(?<![A-Za-z_])(?:{_WORDS}|[A-Za-z_])(?![A-Za-z_])|[0-9\s+\-*/^().,])*")
_OF_TUPLES = ("arc_agi", "rearc")  # their scorers compare tuples, which JSON does not have
TEMPLATES = "templates"  # our argument of gsm_symbolic: which of its templates to use


def make_dataset(name: str, arguments: Mapping[str, Any], seed: int = 0, size: int = 1) -> Any:
    """A generator of ``size`` problems.

    Args:
        name: of reasoning-gym.
        arguments: the generator's own; ``gsm_symbolic`` also takes ``templates``, a list of numbers.
        seed: of the problems.
        size: how many.
    """
    own = {key: value for key, value in arguments.items() if key != TEMPLATES}
    dataset = create_dataset(name, **own, seed=seed, size=size)
    if TEMPLATES in arguments:
        dataset.task_indices = random.Random(seed).choices(arguments[TEMPLATES], k=size)
    return dataset


def full_score(gold: str, answer: str) -> bool:
    """Whether the scorer gives an answer its full score; False where it fails on it.

    Args:
        gold: JSON with ``dataset`` (name of the generator), ``arguments``, ``question``, ``answer`` and
            ``metadata``, as ``sspo.data.gym`` writes it.
        answer: any text.
    """
    entry = json.loads(gold)
    return scores_fully(make_dataset(entry["dataset"], entry["arguments"]), entry, answer)


def scores_fully(scorer: Any, entry: Mapping[str, Any], answer: str) -> bool:
    """As ``full_score``, with a generator that is made already and the gold as a mapping."""
    name = entry["dataset"]
    if name in EVALUATING and answer != entry["answer"] and not _FORMULA.fullmatch(answer):
        return False
    if name in _OF_TUPLES:
        output = tuple(map(tuple, entry["metadata"]["output"]))
        entry = {**entry, "metadata": {**entry["metadata"], "output": output}}
    try:
        return bool(scorer.score_answer(answer, entry) >= 1.0)
    except MemoryError:
        raise
    except Exception:  # scorers raise many types
        return False
