"""Do results and figures still match the records beside them? Hashes are computed anew and compared.

A record (``write_record``) names the hashes of a script's outputs, inputs and code. Together the
records of an experiment form a graph, from the configs to the figures: a file that changed, or is
missing, puts everything made from it in doubt.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sspo.pipeline.files import as_json
from sspo.pipeline.provenance import ROOT, record_sha256, sha256_file

# What carries times, belongs to work in progress or says where curves are shown is no result.
UNRECORDED_FOLDERS = (
    "logs",
    "bench",
    "benchmarks",
    "checkpoint",
    "failure",
    "fuzz",
    "plan",
    "tensorboard",
    "tracking",
    "wandb",
)
UNRECORDED_FILES = ("progress.json", ".lock", "report.html", "README.md")
KNOWN_RECORDS = ("provenance.json", "environment.json")  # ends of names; a figure's is its own


@dataclass(frozen=True)
class ProvenanceRecord:
    """A record as read: SHA-256 by path, of the results and of the inputs and code they came from."""

    path: str
    outputs: Mapping[str, str]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Problem:
    """A file that is not what it should be, why, and the results and figures made from it."""

    path: str
    what: str
    affected: set[str]


@dataclass(frozen=True)
class Verdict:
    """What a verification found: files and records checked, problems in the order of paths."""

    files: int
    records: int
    problems: list[Problem]
    stale: set[str]  # files made with configs that the profile has left behind


def verify(results: str | Path, figures: str | Path, left_behind: Iterable[str] = ()) -> Verdict:
    """Compare every file of an experiment with the records.

    Args:
        results: folder of the results; experiments in folders of their own below it are left out.
        figures: folder of the figures, without its subfolders.
        left_behind: config files that the profile asks for with other values now.
    """
    files = [*map(str, result_files(Path(results))), *map(str, figure_files(Path(figures)))]
    records, found = _read_records(files)
    doubtful = {path: [record for record in records if record.path == path] for path in found}

    @functools.cache
    def now(path: str) -> str | None:
        return sha256_file(path) if Path(path).is_file() else None

    def difference(path: str, since: str) -> str:
        return "missing" if now(path) is None else f"changed since {since}"

    for record in records:
        for path, sha256 in record.outputs.items():
            if now(path) != sha256:
                found[path] = difference(path, f"{record.path} recorded it")
    for record in records:
        for path, sha256 in record.sources.items():
            if now(path) != sha256:
                found.setdefault(path, difference(path, f"{record.path} used it"))
                doubtful.setdefault(path, []).append(record)
    known = {path for r in records for path in (r.path, *r.outputs, *r.sources)}
    found |= {path: "no record knows it" for path in files if path not in known | found.keys()}
    problems = [
        Problem(path, what, _affected(doubtful.get(path, []), records) - {path})
        for path, what in sorted(found.items())
    ]
    old = {*left_behind}
    stale = _affected((r for r in records if old & r.sources.keys()), records)
    return Verdict(len(files), len(records), problems, stale)


def result_files(folder: Path) -> Iterator[Path]:
    """Files of one experiment's results, sorted; not those of another one nested in it."""
    nested = {path.parents[1] for path in folder.rglob("settings/config.json")} - {folder}
    for path in sorted(folder.rglob("*")):
        folders = path.relative_to(folder).parts[:-1]
        unrecorded = {*folders} & {*UNRECORDED_FOLDERS} or path.name in UNRECORDED_FILES
        if path.is_file() and not unrecorded and not nested & {*path.parents}:
            yield path


def figure_files(folder: Path) -> Iterator[Path]:
    """Files right in the folder, sorted."""
    files = (path for path in sorted(folder.glob("*")) if path.is_file())
    return (path for path in files if path.name not in UNRECORDED_FILES)


def _read_records(files: Iterable[str]) -> tuple[list[ProvenanceRecord], dict[str, str]]:
    """The records among the files, and what is wrong with some: path -> reason."""
    records, found = [], {}
    for path in (file for file in files if file.endswith(".json")):
        intact = not path.endswith(KNOWN_RECORDS)  # other JSON need not be a record
        try:
            content = Path(path).read_bytes()
            data = json.loads(content.decode("utf-8"))
            code = {str(ROOT / name): sha256 for name, sha256 in data["code"].items()}
            records.append(ProvenanceRecord(path, data["outputs"], data["inputs"] | code))
            whole = {**data, "sha256": record_sha256(data)}
            intact = content == as_json(whole).encode()
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        if not intact:
            found[path] = "a record that was changed or damaged"
    return records, found


def _affected(
    doubtful: Iterable[ProvenanceRecord], records: Iterable[ProvenanceRecord]
) -> set[str]:
    """Every result of these records, and everything made from those, directly or not."""
    pending, seen = list(doubtful), set()
    affected: set[str] = set()
    while pending:
        record = pending.pop()
        seen.add(record.path)
        made = {*record.outputs} or {record.path}
        affected |= made
        pending += [r for r in records if r.path not in seen and made & r.sources.keys()]
    return affected
