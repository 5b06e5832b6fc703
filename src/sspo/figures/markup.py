"""A table as text for three readers: Markdown for a repository, HTML for a browser, CSV for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Template
from pandas import DataFrame, concat, isna

from sspo.evidence.intervals import Interval
from sspo.evidence.page import NONE
from sspo.pipeline.files import write_bytes


@dataclass(frozen=True)
class Table:
    """Values in sections.

    Attributes:
        title: what the table shows.
        note: how to read it.
        values: text, numbers and ``Interval``s; the first column names the section of a row.
        bold: what stands out: True and False for some columns of ``values``, on the same index.
        italic: what comes next to it, in the same form.
        formats: column -> format of its numbers; "" is the key for all others.
    """

    title: str
    note: str
    values: DataFrame
    bold: DataFrame = field(default_factory=DataFrame)
    italic: DataFrame = field(default_factory=DataFrame)
    formats: Mapping[str, str] = field(default_factory=dict)

    def texts(self) -> DataFrame:
        """The values as they are read."""
        specs = {name: self.formats.get(name, self.formats.get("", "")) for name in self.values}
        return DataFrame({c: [show(v, specs[c]) for v in self.values[c]] for c in self.values})


def save(table: Table, stem: Path, template: Path) -> list[Path]:
    """Write ``{stem}.md``, ``{stem}.html`` (from a Jinja template) and ``{stem}.csv``."""
    contents = {
        ".md": as_markdown(table),
        ".html": as_html(table, template.read_text(encoding="utf-8")),
        ".csv": as_csv(table),
    }
    for suffix, text in contents.items():
        write_bytes(stem.with_suffix(suffix), text.encode())
    return [stem.with_suffix(suffix) for suffix in contents]


def as_markdown(table: Table) -> str:
    """A title, a table in which every section begins with a row of its name, and the note."""
    texts = table.texts().map(lambda text: re.sub(r"([\\`*|<$])", r"\\\1", text))
    for mask, mark in ((table.bold, "**"), (table.italic, "*")):
        texts = texts.where(~_whole(mask, texts), mark + texts + mark)
    section, *columns = texts
    parts = []
    for name, rows in texts.groupby(section, sort=False):
        parts += [DataFrame({columns[0]: [f"**{name}**"]}), rows[columns]]
    sides = ["right" if right else "left" for right in _numeric(table)]
    options = {"index": False, "disable_numparse": True, "colalign": sides}
    body = concat(parts).fillna("").to_markdown(tablefmt="pipe", **options)
    return "\n\n".join(filter(None, (f"# {table.title}", body, table.note))) + "\n"


def as_html(table: Table, template: str) -> str:
    """A page that needs no other file; text of the table is never markup."""
    texts = table.texts()
    section, *columns = texts
    bold, italic = (_whole(m, texts)[columns].to_numpy() for m in (table.bold, table.italic))
    tags = np.where(bold, "b", np.where(italic, "i", ""))
    sections = [
        (
            name,
            [list(zip(texts.loc[i, columns], tags[i], _numeric(table), strict=True)) for i in rows],
        )
        for name, rows in texts.groupby(section, sort=False).groups.items()
    ]
    head = list(zip(columns, _numeric(table), strict=True))
    page = Template(template, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return page.render(table=table, head=head, sections=sections)


def as_csv(table: Table) -> str:
    """Values with more digits than are shown; an interval takes three columns."""
    columns = []
    for name, values in table.values.items():
        if isinstance(values.iloc[0], Interval):
            values = DataFrame(values.tolist(), columns=[name, f"{name} low", f"{name} high"])
        columns.append(values)
    return concat(columns, axis=1).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def show(value: object, spec: str) -> str:
    """A value as it is read: an interval as mean [low, high], a dash where nothing was measured."""
    if isinstance(value, Interval):
        mean, low, high = (show(end, spec) for end in value)
        return mean if low == NONE else f"{mean} [{low}, {high}]"
    if isinstance(value, float):
        return NONE if isna(value) else format(value, spec)
    return str(value)


def _whole(mask: DataFrame, texts: DataFrame) -> DataFrame:
    return mask.reindex_like(texts).eq(True)


def _numeric(table: Table) -> list[bool]:
    """Whether a column holds numbers, the first one left out."""
    return [not isinstance(value, str) for value in table.values.iloc[0, 1:]]
