"""Which project files a script can run: what a rule declares as its code."""

from __future__ import annotations

import ast
from pathlib import Path


def import_closure(script: str | Path, source: str | Path = "src") -> list[str]:
    """The script and every project module it can import, directly or not, also lazily.

    Found by reading the syntax trees, without importing anything; these files are a rule's code
    inputs, so that an edit reruns exactly what it touches.

    Args:
        script: a Python file.
        source: the folder that holds the project's packages.

    Returns:
        Sorted paths, the script's included.
    """
    pending, found = [Path(script)], set()
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found.add(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        package = _package(path, Path(source))
        names = {name for node in ast.walk(tree) for name in _imported(node, package)}
        pending += [p for name in names for p in _module_files(name, Path(source))]
    return sorted(map(str, found))


def _package(path: Path, source: Path) -> tuple[str, ...]:
    """The package a module lies in, as parts; empty for a script."""
    return path.parent.relative_to(source).parts if path.is_relative_to(source) else ()


def _imported(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    """Dotted names that an import statement may load; relative ones are resolved."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = package[: len(package) - node.level + 1] if node.level else ()
    module = ".".join([*above, *([node.module] if node.module else [])])
    return [module, *(f"{module}.{alias.name}" for alias in node.names)]


def _module_files(name: str, source: Path) -> list[Path]:
    """The files that importing a dotted name runs, as far as they lie in the source folder."""
    parts = name.split(".")
    files = [source.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    files.append(source.joinpath(*parts).with_suffix(".py"))
    return [file for file in files if file.is_file()]
