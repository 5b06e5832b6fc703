"""The order in which problems are drawn, and the groups in which responses are computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from sspo.data.problems import Record


def batches(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of indices below ``count``; every epoch has a fresh order from (seed, epoch).

    A batch may span two epochs, so every batch is full. The order depends on the arguments alone, so a
    resumed run skips ahead and sees the same data.
    """
    pending: list[int] = []
    epoch = 0
    while True:
        while len(pending) < size:
            pending += np.random.default_rng([seed, epoch]).permutation(count).tolist()
            epoch += 1
        yield pending[:size]
        pending = pending[size:]


def distinct(records: Sequence[Record]) -> list[Record]:
    """The records of one rollout with an id of their own each: repeated ids are numbered.

    Seeds are made from ids, so two occurrences of a problem would get the same responses.
    """
    seen: Counter[str] = Counter()
    found = []
    for record in records:
        name = str(record["id"])
        seen[name] += 1
        found.append(record if seen[name] == 1 else {**record, "id": f"{name} ({seen[name]})"})
    return found


def micro_batches(lengths: Sequence[int], size: int, tokens: int = 0) -> list[list[int]]:
    """Split rows into groups of similar length, longest first, to spend little on padding.

    Args:
        lengths: tokens of every row.
        size: most rows of a group.
        tokens: most tokens of a group, padding included; 0 sets no such limit. A longer row gets a group
            of its own.

    Returns:
        Lists of row indices, which hold every row once.
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        last = groups[-1] if groups else []
        full = len(last) == size or (
            tokens and last and (len(last) + 1) * lengths[last[0]] > tokens
        )
        if not last or full:
            groups.append([row])
        else:
            last.append(row)
    return groups
