"""Writing files so that readers never see half of one."""

from __future__ import annotations

import json
import os
from pathlib import Path


def as_json(data: object) -> str:
    """Indented JSON with a newline at the end, as every JSON file of the project has it."""
    return json.dumps(data, indent=2) + "\n"


def write_json(path: str | Path, data: object) -> None:
    """Write indented JSON, whole or not at all."""
    write_bytes(path, as_json(data).encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file through a temporary one, so that a full disk or a crash leaves no half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
