"""Procedural problems with a worked solution and an exact answer.

``chain``: a chain of one-digit additions and subtractions whose running total never goes below zero,
``7+8-3+9=``. A response works through it one operation at a time, each followed by the new running
total, and ends with ``#`` and the answer: ``+8=15-3=12+9=21#21``. An operation can be written in two ways:

- plain, ``+9=21``: this is short. In the warm-up solutions it is often wrong where the total crosses a
  ten: the carry is forgotten (``12+9=11``), or the smaller digit is taken from the larger (``15-8=13``).
  These are the two classic slips of column arithmetic. In long chains they can be kept to large operands;
- careful, ``+9:20+1=21``: first to the next ten, then the rest. This is longer and almost always right.

A model that imitates these solutions prefers the plain way and slips, so its most likely answer is
wrong, but it also knows the careful way. Reinforcement learning has to discover, from the final
reward alone, where more steps are worth their length.

``count``: how often a letter occurs in a text, ``abacbbc?b=``. A response ends with ``#`` and the answer,
and can get there in two ways:

- plain, ``b1b2b3#3``: only the matches are written, and numbered. In the warm-up solutions a match right
  after another one is often overlooked (``b1b2#2``);
- careful, ``a0b1a1c1b2b3c3#3``: every letter of the text is written with the count so far.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from sspo.config.study import SplitSpec, TraceStyle
from sspo.data.problems import Record

CHARACTERS = "0123456789+-=:#"
COUNT_CHARACTERS = "0123456789abc?=#"


def make_chain(rng: random.Random, operations: int) -> Record:
    """One ``chain`` problem with its exact answer.

    Returns:
        ``{"prompt": "7+8-3=", "answer": "12", "operations": 2}``.
    """
    total = rng.randint(1, 9)
    text = str(total)
    for _ in range(operations):
        operand = rng.randint(1, 9)
        sign = rng.choice("+-") if operand <= total else "+"
        total = _apply(total, sign, operand)
        text += f"{sign}{operand}"
    return {"prompt": f"{text}=", "answer": str(total), "operations": operations}


def solve_chain(prompt: str, rng: random.Random, style: TraceStyle) -> str:
    """A worked solution of ``7+8-3=`` in the given style, right or wrong: ``+8:10+5=15-3=12#12``.

    A slip stays in the running total, as in human work. A solution whose total would fall below zero is
    written afresh.
    """
    while True:
        solution = _try_to_solve(prompt, rng, style)
        if solution is not None:
            return solution


def parse_chain(prompt: str) -> tuple[int, list[tuple[str, int]]]:
    """``"7+8-3="`` -> (7, [("+", 8), ("-", 3)]).

    Raises:
        ValueError: the prompt is not a chain of one-digit operations.
    """
    if not re.fullmatch(r"[0-9]([+-][0-9])*=", prompt):
        raise ValueError(f"{prompt!r} is not a chain such as '7+8-3='")
    return int(prompt[0]), [(prompt[i], int(prompt[i + 1])) for i in range(1, len(prompt) - 1, 2)]


def crosses_ten(total: int, sign: str, operand: int) -> bool:
    """Whether the operation needs a carry or a borrow."""
    units = total % 10
    return units + operand >= 10 if sign == "+" else units < operand


def make_count(rng: random.Random, operations: int) -> Record:
    """One ``count`` problem over a text of that many letters, with its exact answer.

    Returns:
        ``{"prompt": "abacb?b=", "answer": "2", "operations": 5}``.
    """
    text = "".join(rng.choice("abc") for _ in range(operations))
    letter = rng.choice("abc")
    prompt, answer = f"{text}?{letter}=", str(text.count(letter))
    return {"prompt": prompt, "answer": answer, "operations": operations}


def solve_count(prompt: str, rng: random.Random, style: TraceStyle) -> str:
    """A worked solution of ``abacb?b=`` in the given style, right or wrong: ``b1c1b2#2``.

    Raises:
        ValueError: the prompt is not a count problem.
    """
    if not re.fullmatch(r"[abc]+\?[abc]=", prompt):
        raise ValueError(f"{prompt!r} is not a count problem such as 'abacb?b='")
    text, wanted = prompt[:-3], prompt[-2]
    careful_share = 1.0 if rng.random() < style.careful_author else style.careful_step
    count, previous, lines = 0, "", []
    for letter in text:
        careful = rng.random() < careful_share
        second_in_a_row = letter == previous == wanted
        overlooked = second_in_a_row and not careful and rng.random() < style.slip
        matched = letter == wanted and not overlooked
        count += matched
        if rng.random() < style.noise:
            count = max(0, count + rng.choice((-1, 1)))
        if careful or matched:
            lines.append(f"{letter}{count}")
        previous = letter
    return "".join(lines) + f"#{count}"


@dataclass(frozen=True)
class Task:
    """An entry of ``TASKS``.

    Attributes:
        make: (generator, operations or letters) -> problem.
        solve: (prompt, generator, style) -> worked solution.
        prompt_tokens: operations -> length of the longest prompt in tokens, which are characters here.
        characters: all that prompts and solutions are made of.
    """

    make: Callable[[random.Random, int], Record]
    solve: Callable[[str, random.Random, TraceStyle], str]
    prompt_tokens: Callable[[int], int]
    characters: str


TASKS: dict[str, Task] = {
    "chain": Task(make_chain, solve_chain, lambda operations: 2 + 2 * operations, CHARACTERS),
    "count": Task(make_count, solve_count, lambda letters: letters + 3, COUNT_CHARACTERS),
}


def make_splits(
    task: str, splits: dict[str, SplitSpec], style: TraceStyle, seed: int
) -> dict[str, list[Record]]:
    """Disjoint splits of one task; the one called ``warmup`` also gets a ``solution`` per problem.

    Splits are drawn in their given order. A prompt that has been drawn before, in any split, is replaced
    by another draw, so no problem of one split occurs in another.

    Raises:
        ValueError: the task is unknown, or a split is too large for the number of distinct problems.
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; choose one of {', '.join(TASKS)}")
    seen: set[str] = set()
    made: dict[str, list[Record]] = {}
    for name, spec in splits.items():
        rng = random.Random(f"{task}/{seed}/{name}")
        made[name] = _draw_split(TASKS[task], name, spec, rng, seen)
    rng = random.Random(f"{task}/{seed}/solutions")
    for record in made.get("warmup", []):
        record["solution"] = TASKS[task].solve(str(record["prompt"]), rng, style)
    return made


def _draw_split(
    task: Task, name: str, spec: SplitSpec, rng: random.Random, seen: set[str]
) -> list[Record]:
    records: list[Record] = []
    rejected = 0
    while len(records) < spec.size:
        problem = task.make(rng, rng.randint(spec.min_operations, spec.max_operations))
        if problem["prompt"] in seen:
            rejected += 1
            if rejected > 20 * spec.size + 1000:
                raise ValueError(
                    f"split {name!r}: only {len(records)} distinct unseen problems found for size "
                    f"{spec.size}; lower the size or raise max_operations"
                )
            continue
        seen.add(str(problem["prompt"]))
        records.append({"id": f"{name}-{len(records):05d}", **problem})
    return records


def _apply(total: int, sign: str, operand: int) -> int:
    return total + operand if sign == "+" else total - operand


def _slip(total: int, sign: str, operand: int) -> int:
    """12+9 -> 11 (the carry is forgotten); 15-8 -> 13 (the smaller digit is taken from the larger)."""
    units = total % 10
    return total + operand - 10 if sign == "+" else total - units + operand - units


def _try_to_solve(prompt: str, rng: random.Random, style: TraceStyle) -> str | None:
    total, steps = parse_chain(prompt)
    careful_share = 1.0 if rng.random() < style.careful_author else style.careful_step
    lines = []
    for sign, operand in steps:
        result = _apply(total, sign, operand)
        careful = rng.random() < careful_share
        if careful:
            middle = f":{_through_ten(total, sign, operand)}"
        else:
            middle = ""
            can_slip = operand >= style.slip_from and crosses_ten(total, sign, operand)
            if can_slip and rng.random() < style.slip:
                result = _slip(total, sign, operand)
        if rng.random() < style.noise:
            result += rng.choice((-1, 1))
        if result < 0:
            return None
        lines.append(f"{sign}{operand}{middle}={result}")
        total = result
    return "".join(lines) + f"#{total}"


def _through_ten(total: int, sign: str, operand: int) -> str:
    """``12+9`` -> ``20+1``, ``15-8`` -> ``10-3``; an operation that crosses no ten is repeated."""
    if not crosses_ten(total, sign, operand):
        return f"{total}{sign}{operand}"
    if sign == "+":
        ten = total - total % 10 + 10
        return f"{ten}+{operand - (ten - total)}"
    ten = total - total % 10
    return f"{ten}-{operand - (total - ten)}"
