"""One page of results for a reader: verdicts, figures, tables, environment and settings.

Snakemake's report opens on it. It stands alone as well, without a network.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from docutils.core import publish_parts
from markdown_it import MarkdownIt

from sspo.config.reading import JsonDict

INERT = {"raw_enabled": False, "file_insertion_enabled": False}  # a caption holds text alone


@dataclass(frozen=True)
class Part:
    """A figure or a table of the page.

    Attributes:
        name: ``F2``, for headings and links.
        title: what it shows, in a few words.
        caption: HTML.
        alt: the first sentence of the caption: what the figure shows, for who cannot see it.
        file: the figure's PNG, or the table's searchable page.
        content: a figure's bytes in base64, or a table's HTML.
    """

    name: str
    title: str
    caption: str
    alt: str
    file: Path
    content: str


def figure_part(file: Path, title: str, caption: str) -> Part:
    """A figure from its PNG and the reStructuredText of its caption."""
    content = base64.b64encode(file.read_bytes()).decode("ascii")
    return Part(_name(file), title, as_html(caption), first_sentence(caption), file, content)


def table_part(file: Path, title: str, caption: str) -> Part:
    """A table from its Markdown, without the title in it, and the text of its caption."""
    text = re.sub(r"\A# .*\n", "", file.read_text(encoding="utf-8"))
    page = file.with_suffix(".html")
    alt = first_sentence(caption)
    return Part(_name(file), title, as_html(caption), alt, page, markdown_html(text))


def split_verdicts(page: str) -> tuple[str, str]:
    """The claims as HTML: the verdicts, and every comparison behind them."""
    verdicts, mark, rest = re.sub(r"\A# .*\n", "", page).partition("\n## ")
    return markdown_html(verdicts), markdown_html(mark + rest)


def environment_rows(record: JsonDict) -> list[tuple[str, str]]:
    """Name and value of what a record of ``environment.json`` tells: commit, versions, hardware."""
    commit = record["commit"] or "unknown (no git repository)"
    rows = [("commit", commit + (", with changes" if record["dirty"] else ""))]
    named: list[Mapping[str, object]] = [record["versions"], record["hardware"]]
    rows += [(key, "none" if v is None else str(v)) for part in named for key, v in part.items()]
    return [*rows, *((f"SHA-256 of {Path(file).name}", h) for file, h in record["inputs"].items())]


def as_yaml(settings: JsonDict) -> str:
    """Settings as a profile states them."""
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def markdown_html(text: str) -> str:
    """Markdown with tables as HTML; markup inside it stays text."""
    return MarkdownIt("js-default").render(text)


def as_html(caption: str) -> str:
    """reStructuredText as HTML, as Snakemake's report shows it."""
    return publish_parts(caption, writer="html5", settings_overrides=INERT)["fragment"]


def first_sentence(caption: str) -> str:
    """``The figure shows this. It ...`` -> ``The figure shows this.``"""
    text = " ".join(caption.replace("``", "").split())
    return re.split(r"(?<=[.:]) ", text, maxsplit=1)[0]


def _name(file: Path) -> str:
    return file.stem.split("_")[0].upper()
