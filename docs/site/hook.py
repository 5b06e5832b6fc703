"""What the site has beside docs/: pages from other files, a page for each package, and links between them.

A link in the repository is a path from the file that it stands in. On the site it leads to the page of that
file, to the API page of a module, or to the file at the repository's address. Where no address is known
(``SITE_REPOSITORY``), such a link becomes plain text. A link to a file that does not exist is a warning,
with which ``make site`` fails.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
OTHERS = {  # page of the site -> file of the repository
    "index.md": "README.md",
    "notebook.md": "examples/sspo.ipynb",
    "profiles.md": "config/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "tests.md": "tests/README.md",
    "changelog.md": "CHANGELOG.md",
}
FENCE = re.compile(r"^( *```.*?^ *```)", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
log = logging.getLogger("mkdocs.hooks.sspo")


def on_files(files: Any, config: Any) -> Any:
    """mkdocs asks for the pages: those of docs/, and ours."""
    from mkdocs.structure.files import File  # here, so that tests read this file without mkdocs

    for page, name in OTHERS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=as_markdown(name, text)))
    for package in packages():
        page, text = f"api/{package}.md", api_page(package)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """mkdocs asks for the text of a page, whose links then are those of the site."""
    address = os.environ.get("SITE_REPOSITORY", "")
    return with_links(with_wide_lists(markdown), page.file.src_uri, address)


def with_wide_lists(markdown: str) -> str:
    """The text with four spaces before what belongs to an item of a list, as mkdocs reads it.

    On GitHub, and in our files, it is as many as the item's own mark is wide.
    """
    lines, width, fenced = [], 0, False
    for line in markdown.split("\n"):
        fenced ^= line.startswith("```")
        mark = re.match(r"- |\d+\. ", line)
        if mark and not fenced:
            width = len(mark[0])
        elif line and not line.startswith(" " * width):
            width = 0
        inside = width and not mark and not fenced and line
        lines.append(" " * (4 - width) + line if inside else line)
    return "\n".join(lines)


def with_links(markdown: str, page: str, address: str) -> str:
    """The text with the links that the site has; code blocks stay as they are."""
    parts = FENCE.split(markdown)
    return "".join(
        part if at % 2 else LINK.sub(lambda found: _link(found, page, address), part)
        for at, part in enumerate(parts)
    )


def _link(found: re.Match[str], page: str, address: str) -> str:
    image, text, target = found.groups()
    if re.match(r"[a-z]+:|#", target):
        return found[0]
    name, mark, anchor = target.partition("#")
    path = os.path.normpath(os.path.join(os.path.dirname(origin(page)), name))
    if not (ROOT / path).exists():
        log.warning("%s: no such file: %s; mend the link", origin(page), target)
    there = destination(path)
    if there:
        here = os.path.relpath(there.partition("#")[0], os.path.dirname(page) or ".")
        return f"{image}[{text}]({here}{there[len(there.partition('#')[0]) :] or mark + anchor})"
    return f"{image}[{text}]({address}/blob/HEAD/{path}{mark}{anchor})" if address else text


def origin(page: str) -> str:
    """The file of the repository that a page of the site shows."""
    return OTHERS.get(page, f"docs/{page}")


def destination(path: str) -> str | None:
    """Where the site shows a file of the repository, with the anchor of a module; None if nowhere."""
    for page, name in OTHERS.items():
        if path == name:
            return page
    if path.startswith("docs/") and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    parts = Path(path).with_suffix("").parts
    if path.endswith(".py") and parts[:2] == ("src", "sspo") and len(parts) > 3:
        return f"api/{parts[2]}.md#{'.'.join(parts[1:])}"
    return None


def as_markdown(name: str, text: str) -> str:
    """A Markdown file as it is; of a notebook its texts, its code and what that printed and drew."""
    if not name.endswith(".ipynb"):
        return text
    return "\n\n".join(block for cell in json.loads(text)["cells"] for block in _cell(cell))


def _cell(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    blocks = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            blocks.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
        elif "image/png" in output.get("data", {}):
            image = "".join(output["data"]["image/png"]).replace("\n", "")
            alt = output["metadata"].get("alt", "a figure, which the text above describes")
            blocks.append(f'<img alt="{alt}" src="data:image/png;base64,{image}">')
    return blocks


def packages() -> list[str]:
    """The packages of ``sspo``."""
    return sorted(path.parent.name for path in SOURCE.glob("sspo/*/__init__.py"))


def api_page(package: str) -> str:
    """The page of a package: what it is for, and a directive of mkdocstrings for each of its modules."""
    folder = SOURCE / "sspo" / package
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    modules = sorted(
        ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if path.name != "__init__.py"
    )
    directives = [f"::: {module}" for module in modules]
    return "\n\n".join([f"# sspo.{package}", docstring or "", *directives]) + "\n"
