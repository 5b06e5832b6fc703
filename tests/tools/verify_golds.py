"""Verify every gold answer of a folder's JSONL files against itself and against perturbed copies.

A record needs a field ``answer``: text (GSM8K's solution with ``####`` too), a number, or a list of
either, of which each entry is a gold of its own. ``self`` and ``rewritten`` (the same in another
notation) should be 100 % correct; ``digit``, ``letter`` and ``operator`` (one of them changed), ``sign``
(flipped) and ``other`` (another problem's answer) 0 %, save where the perturbed text means the same.

    python tests/tools/verify_golds.py FOLDER [--time-limit 5] [--seed 0] [--show 20]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import string
import time
from collections import Counter, defaultdict
from pathlib import Path

from sspo.config.settings import RewardConfig
from sspo.rewards.answers import find_answer, normalize
from sspo.rewards.base import state_answer
from sspo.rewards.factory import make_reward

LIMIT = 1000
SAME = ("self", "rewritten")
DIGITS = frozenset("0123456789")
OTHER = ("digit", "letter", "operator", "sign", "other")
# One piece of LaTeX: an environment, a command, an escaped sign or a character.
PIECE = re.compile(r"\\(?:begin|end)\{[^}]*\}(?:\{[clr|]*\})?|\\[a-zA-Z]+|\\.|.", re.DOTALL)
SWAPPED = {
    "+": "-", "-": "+", "*": "+", "/": "*", "=": "<", "<": ">", ">": "<", r"\cdot": "+", r"\times": "+",
    r"\div": "+", r"\pm": "+", r"\leq": r"\geq ", r"\geq": r"\leq ", r"\le": r"\ge ", r"\ge": r"\le ",
    r"\cup": r"\cap ", r"\cap": r"\cup ", r"\neq": "=",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with JSONL files")
    parser.add_argument("--time-limit", type=float, default=5.0, help="CPU seconds per comparison")
    parser.add_argument("--seed", type=int, default=0, help="seed of the perturbations")
    parser.add_argument("--show", type=int, default=20, help="unexpected verdicts listed per cell")
    arguments = parser.parse_args()
    reward = make_reward(
        RewardConfig(
            name="math", time_limit=arguments.time_limit, memory_mb=1024, max_characters=LIMIT
        )
    )
    print(
        f"file golds | {' '.join((*SAME, *OTHER))}: share judged correct | other reasons | slowest (s)"
    )
    for path in sorted(arguments.folder.glob("*.jsonl")):
        report(path, reward, random.Random(arguments.seed), arguments.show)


def report(path: Path, reward, rng: random.Random, show: int) -> None:
    """One line of the table, then the verdicts that were not expected."""
    rows = [golds_of(row, record) for row, record in read(path)]
    golds = [
        (row, gold, following[0][1])
        for own, following in zip(rows, rows[1:] + rows[:1], strict=True)
        for row, gold in own
    ]
    reasons, odd, slowest = defaultdict(Counter), defaultdict(list), 0.0
    for row, gold, neighbour in golds:
        for kind, text in perturbations(gold, neighbour, rng).items():
            began = time.perf_counter()
            try:
                reason = reward(gold, state_answer(text)).reason
            except Exception as error:  # the reward promises none: report it by row
                reason = f"exception {error!r}"
            slowest = max(slowest, time.perf_counter() - began)
            reasons[kind][reason] += 1
            if (reason == "correct") != (kind in SAME):
                odd[kind].append(f"  {path.name}:{row} {kind}: {gold!r} <- {text!r}: {reason}")
    shares = " ".join(
        f"{reasons[k]['correct'] / max(reasons[k].total(), 1):.2%}" for k in (*SAME, *OTHER)
    )
    rest = sum(reasons.values(), Counter())
    rest = {k: n for k, n in rest.items() if k not in ("correct", "wrong")}
    print(f"{path.name} {len(golds)} | {shares} | {rest} | {slowest:.1f}", flush=True)
    for kind, lines in odd.items():
        lines = [line for line in lines if kind in SAME or line.endswith("correct")]
        print(*lines[:show], sep="\n")
        if len(lines) > show:
            print(f"  ... {len(lines) - show} more of {path.name} {kind}")


def read(path: Path) -> list[tuple[int, dict]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return [(row, json.loads(line)) for row, line in enumerate(lines, start=1) if line]


def golds_of(row: int, record: dict) -> list[tuple[str, str]]:
    """(row, gold) of every answer of a record."""
    answers = record["answer"] if isinstance(record["answer"], list) else [record["answer"]]
    texts = [str(answer) for answer in answers]
    golds = [(find_answer(text, LIMIT) or text).strip() for text in texts]
    return [(f"{row}" if len(golds) == 1 else f"{row}[{i}]", g) for i, g in enumerate(golds)]


def perturbations(gold: str, neighbour: str, rng: random.Random) -> dict[str, str]:
    """kind -> text; a perturbation that cannot be made is left out."""
    bare = normalize(gold)
    dressed = bare.replace(r"\frac", r"\dfrac").replace(r"\left", "").replace(r"\right", "")
    texts = {"self": gold, "rewritten": f"$ {dressed.replace('+', ' + ')} $"}
    pieces = PIECE.findall(gold)
    choices = {
        "digit": [
            (i, [d for d in "123456789" if d != p]) for i, p in enumerate(pieces) if p in DIGITS
        ],
        "letter": [(i, others(p)) for i, p in enumerate(pieces) if p in string.ascii_letters],
        "operator": [(i, [SWAPPED[p]]) for i, p in enumerate(pieces) if p in SWAPPED],
    }
    for kind, places in choices.items():
        if places:
            place, replacements = rng.choice(places)
            texts[kind] = "".join([*pieces[:place], rng.choice(replacements), *pieces[place + 1 :]])
    texts["sign"] = bare[1:] if bare.startswith("-") else f"-{bare}"
    if normalize(neighbour) != normalize(gold):
        texts["other"] = neighbour
    return texts


def others(letter: str) -> list[str]:
    """The other letters of the same case."""
    alphabet = string.ascii_lowercase if letter.islower() else string.ascii_uppercase
    return [other for other in alphabet if other != letter]


if __name__ == "__main__":
    main()
