"""Numbers in documents: templates take them from files of the repository, so that none is typed by hand.

A document, such as ``pilots.md``, marks what a macro of its template, ``pilots.md.jinja``, writes:

    <!-- numbers: MACRO -->
    ...
    <!-- end -->
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from sspo.config.errors import ConfigError
from sspo.config.reading import load_json

BLOCK = re.compile(r"(<!-- numbers: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
COMPUTED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
NOT_PROSE = re.compile(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->")
CONSTANTS = re.compile(r"\{# constants: (.*?) #\}")
# A decimal, a percentage or a power of ten. Whole numbers count things that a reader sees.
NUMBER = re.compile(r"(?<![\w.])(?:\d+\.\d+(?:e-?\d+)?(?![\w.]*\d)|\d+e-?\d+|\d+(?= ?%))")


def fill(document: str, template: Path, root: Path) -> str:
    """The document with every marked block written anew.

    Args:
        document: the Markdown.
        template: file with a macro for each block; it may import macros from files beside it.
        root: folder that the paths in templates start from.

    Raises:
        ConfigError: there is no such template or macro, an expression fails, or a number is typed into
            the template and not among its constants.
    """
    try:
        if typed := typed_numbers(template.read_text(encoding="utf-8")):
            raise ConfigError(
                f"{', '.join(typed)}: typed by hand; compute it, or name it in "
                "{# constants: ... #} where it is a setting and no result"
            )
        macros = _environment(template.parent, root).get_template(template.name).module
        return BLOCK.sub(
            lambda match: f"{match[1]}{getattr(macros, match[2])().strip()}\n{match[3]}", document
        )
    except (OSError, AttributeError, KeyError, ConfigError, jinja2.TemplateError) as error:
        raise ConfigError(f"{template}: {error}") from None


def _environment(templates: Path, root: Path) -> jinja2.Environment:
    """What templates can ask for: files of the repository, rows of tables, numbers of so many decimals."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        csv=lambda path: pd.read_csv(root / path),
        json=lambda path: load_json(root / path),
        rows=rows,
    )
    environment.filters.update({f"d{n}": _decimals(n) for n in range(4)})
    environment.filters.update({f"signed{n}": _decimals(n, "+") for n in range(1, 4)})
    return environment


def typed_numbers(template: str) -> list[str]:
    """The numbers in a template's own text, without those that it names as constants."""
    constants = {number for found in CONSTANTS.findall(template) for number in found.split()}
    text = NOT_PROSE.sub("", COMPUTED.sub("", template))
    return [number for number in NUMBER.findall(text) if number not in constants]


def rows(frame: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows with these values in these columns.

    Raises:
        ConfigError: there is none.
    """
    for column, value in values.items():
        frame = frame[frame[column] == value]
        if frame.empty:
            raise ConfigError(f"no row has {column} = {value!r}")
    return frame


def _decimals(count: int, sign: str = "") -> Any:
    """A filter: so many decimals, and a plain 0 for what rounds to nothing."""

    def text(value: float) -> str:
        return f"{value:{sign}.{count}f}" if round(float(value), count) else "0"

    return text
