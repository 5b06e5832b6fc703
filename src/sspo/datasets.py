"""Problems from JSONL files, checked before any compute is spent on them."""

from __future__ import annotations

import gzip
import json
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sspo.config import ConfigError
from sspo.files import write_bytes
from sspo.typesetting import untypeset

Record = dict[str, object]


def read_jsonl(path: str | Path) -> list[Record]:
    """All records of a JSONL file, which may be compressed (``.gz``).

    Raises:
        ConfigError: missing, empty or torn file, or a line that is not a JSON object (file and line
            named).
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: file missing; run the rule that makes it")
    records = []
    # Bytes split at \n only: str.splitlines() would also split at separators inside a text.
    lines = _content(path).removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines if lines != [b""] else [], start=1):
        try:
            record = json.loads(line.decode("utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: not valid JSON ({error}); fix the line") from None
        if not isinstance(record, dict):
            raise ConfigError(f"{path}:{number}: expected a JSON object; fix the line")
        records.append(record)
    if not records:
        raise ConfigError(f"{path}: the split is empty; raise its size")
    return records


def _content(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: damaged gzip file ({error}); run its rule again") from None


def read_problems(path: str | Path) -> list[Record]:
    """Problems with the string fields ``id``, ``prompt`` and ``answer``.

    Raises:
        ConfigError: as ``read_jsonl``, a record without one of the fields, or an id used twice
            (seeds are made from ids).
    """
    records, seen = read_jsonl(path), set()
    for number, record in enumerate(records, start=1):
        for key in ("id", "prompt", "answer"):
            if not isinstance(record.get(key), str) or not record[key].strip():
                raise ConfigError(f"{path}:{number}: field {key!r} must be a non-empty string")
        if record["id"] in seen:
            raise ConfigError(f"{path}:{number}: id {record['id']!r} occurs twice; make ids unique")
        seen.add(record["id"])
    return records


def write_jsonl(path: str | Path, records: Iterable[Record]) -> None:
    """Write records one per line, keys in their own order, UTF-8, whole or not at all."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    write_bytes(path, "".join(lines).encode())


def overlap(first: Sequence[Record], second: Sequence[Record]) -> list[str]:
    """Prompts that occur in both, as ``normalized`` writes them."""
    prompts = [{normalized(str(r["prompt"])) for r in records} for records in (first, second)]
    return sorted(prompts[0] & prompts[1])


def normalized(text: str) -> str:
    """A text without what does not change a problem: case, white space, typesetting of formulas."""
    return "".join(untypeset(unicodedata.normalize("NFC", text).casefold()).split())


def batches(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Endless index batches over ``count`` items: every epoch in a fresh order from (seed, epoch).

    A batch may span two epochs, so every batch is full. The order is a function of the arguments
    alone: a resumed run skips ahead and sees the same data.
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
    """The records of one rollout, later occurrences of an id numbered: seeds are made from ids."""
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
        tokens: most tokens of a group, padding included; 0 sets no such limit. A row that is longer
            has a group of its own.

    Returns:
        Lists of row indices; together every row once.
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
