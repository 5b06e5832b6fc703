"""Keep the records of finished runs in the repository, and put them back where runs go on elsewhere.

A study of many hours is made in parts, perhaps on several machines. ``pack`` adds an archive with all
that finished since the last one: settings, metrics and scores of every run, without weights and texts;
base models and data whole. ``restore`` unpacks them as results of this moment, so that Snakemake makes
only what is missing.
"""

import argparse
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.names import TUNING
from sspo.config.reading import load_json
from sspo.pipeline.script import run

# The last file of each: whether a folder is finished is told by it.
OF_RUNS = ("config.json", "metrics.jsonl", "provenance.json")
OF_EVALUATIONS = ("scores.csv.gz", "eval.json", "eval.provenance.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("pack", "restore"))
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--records", type=Path, required=True, help="folder of the archives")
    arguments = parser.parse_args()
    act = {"pack": pack, "restore": restore}[arguments.action]
    print(act(arguments.results, arguments.records))


def pack(results: Path, records: Path) -> str:
    """Add an archive with every finished file that no earlier archive holds."""
    known = {name for archive in archives(records) for name in members(archive)}
    new = [file for file in finished(results) if str(file.relative_to(results)) not in known]
    if not new:
        return f"{records}: nothing finished since the last archive"
    records.mkdir(parents=True, exist_ok=True)
    archive = records / f"{len(archives(records)) + 1:02d}.tar.xz"
    half = archive.with_suffix(".half")
    with tarfile.open(half, "w:xz", preset=9) as tar:
        for file in new:
            tar.add(file, file.relative_to(results), filter=anonymous)
    half.rename(archive)
    return f"{archive}: {len(new)} files, {archive.stat().st_size / 1e6:.1f} MB"


def restore(results: Path, records: Path) -> str:
    """Unpack every archive, without touching what is there already."""
    if not (found := archives(records)):
        raise ConfigError(f"{records}: no archives here; `make records` packs them")
    now, count = time.time(), 0
    for archive in found:
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                if not (results / member.name).exists():
                    tar.extract(member, results, filter="data")
                    os.utime(results / member.name, (now, now))
                    count += 1
    return f"{results}: {count} files from {len(found)} archives"


def finished(results: Path) -> Iterator[Path]:
    """The files to keep: what rules read that were done, so that none of them is due again."""
    yield from sorted(results.glob("**/data/*"))
    yield from sorted(results.glob("**/evaluation/config.json"))
    yield from sorted(results.glob("tracking/config.json"))
    for choices in sorted(results.glob("tuning/*/choices.json")):
        yield from sorted(choices.parent.iterdir())
    for base in [results / "base", *sorted(results.glob("bases/*"))]:
        if (base / OF_RUNS[-1]).exists():
            yield from sorted((base / "model").iterdir())
            files = (base / name for name in (*OF_RUNS, *OF_EVALUATIONS))
            yield from (file for file in files if file.exists())  # a published one has no metrics
    for folder in sorted(results.glob("runs/*")):
        if not (folder / OF_RUNS[-1]).exists():
            continue
        if load_json(folder / "config.json")["regime"] == TUNING:
            yield from (folder / name for name in OF_RUNS)
        elif (folder / OF_EVALUATIONS[-1]).exists():
            yield from (folder / name for name in (*OF_RUNS, *OF_EVALUATIONS))


def archives(records: Path) -> list[Path]:
    return sorted(records.glob("*.tar.xz"))


def members(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without owner and time: the same files give the same archive."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    run(main)
