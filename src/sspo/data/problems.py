"""Problems are read from JSONL files and checked before any compute is spent on them."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.reading import JsonDict
from sspo.models.prompts import encode_prompts
from sspo.pipeline.files import write_bytes

Record = JsonDict


def read_jsonl(path: str | Path) -> list[Record]:
    """All records of a JSONL file, which may be compressed (``.gz``).

    Raises:
        ConfigError: the file is missing, empty or damaged, or a line is not a JSON object; the message
            names the file and the line.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: file missing; run the rule that makes it")
    records = []
    # str.splitlines() would also split at separators inside a text; bytes are split at \n only.
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
        raise ConfigError(
            f"{path}: damaged gzip file ({error}); fetch it again, or run its rule again"
        ) from None


def read_problems(path: str | Path) -> list[Record]:
    """Problems with the string fields ``id``, ``prompt`` and ``answer``.

    Raises:
        ConfigError: as ``read_jsonl``; also a record without one of the fields, or an id that occurs
            twice, because seeds are made from ids.
    """
    records, seen = read_jsonl(path), set()
    for number, record in enumerate(records, start=1):
        for key in ("id", "prompt", "answer"):
            if not is_text(record.get(key)):
                raise ConfigError(
                    f"{path}:{number}: field {key!r} must be a non-empty string that UTF-8 can hold"
                )
        if record["id"] in seen:
            raise ConfigError(f"{path}:{number}: id {record['id']!r} occurs twice; make ids unique")
        seen.add(record["id"])
    return records


def is_text(value: object) -> bool:
    r"""Whether a value is a text that is not empty and that UTF-8 can hold: it cannot hold half of a
    surrogate pair, such as ``\ud83d``."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_jsonl(path: str | Path, records: Iterable[Record]) -> None:
    """Write one record per line in UTF-8, with keys in their own order; the file is whole or absent."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    write_bytes(path, "".join(lines).encode())


def check_lengths(
    problems: Sequence[Record],
    tokenizer,
    context: int,
    max_response_tokens: int,
    path: Path,
) -> None:
    """Refuse problems whose prompt and longest response do not fit into the model's context.

    Args:
        problems: with a ``prompt`` each.
        tokenizer: the model's.
        context: tokens that the model can take.
        max_response_tokens: tokens of the longest response.
        path: file of the problems, for the message.

    Raises:
        ConfigError: a problem is too long; the message names the file, the problem and the fix.
    """
    prompts = encode_prompts(tokenizer, [str(p["prompt"]) for p in problems])
    worst = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    if len(prompts[worst]) + max_response_tokens > context:
        raise ConfigError(
            f"{path}: problem {problems[worst]['id']} has {len(prompts[worst])} prompt tokens; with "
            f"{max_response_tokens} of a response it exceeds the model's context of {context}; lower "
            "rollout.max_response_tokens or drop the problem"
        )
