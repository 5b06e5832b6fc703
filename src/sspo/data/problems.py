"""Problems from JSONL files, checked before any compute is spent on them."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.reading import JsonDict
from sspo.pipeline.files import write_bytes

Record = JsonDict


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


def check_lengths(
    problems: Sequence[Record],
    tokenizer,
    context: int,
    max_response_tokens: int,
    path: Path,
) -> None:
    """Refuse problems whose prompt and longest response overflow the model's context (tokens).

    Raises:
        ConfigError: names the file, the problem and what to change.
    """
    prompts = tokenizer([str(p["prompt"]) for p in problems])["input_ids"]
    worst = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    if len(prompts[worst]) + max_response_tokens > context:
        raise ConfigError(
            f"{path}: problem {problems[worst]['id']} has {len(prompts[worst])} prompt tokens; with "
            f"{max_response_tokens} of a response it exceeds the model's context of {context}; lower "
            "rollout.max_response_tokens or drop the problem"
        )
