"""Which project files a result depends on: a rule's code inputs, and the code in a result's record.

These are the script and the modules that it can import. Left out are what changes no result
(``NO_RESULT``), modules that the result's config does not use (``unused_modules``) and modules
without a statement. So an edit reruns, and puts in doubt, exactly what it touches.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[2]  # holds the package
# The file with the version; locks, records and file helpers; settings, whose values are in the
# config files that are inputs already.
NO_RESULT = frozenset({"sspo.__init__", "sspo.pipeline", "sspo.config"})


def code_files(
    script: str | Path, *modules: str, config: Mapping[str, Any] | None = None
) -> list[Path]:
    """What the results of a script depend on, the script first.

    Args:
        script: a Python file.
        modules: dotted names of modules that it uses without importing them.
        config: the run's config, to leave out what it does not use; None leaves out nothing of it.
    """
    without = NO_RESULT | (unused_modules(config) if config is not None else frozenset())
    return [Path(script), *import_closure(Path(script), modules, without)]


def unused_modules(config: Mapping[str, Any]) -> frozenset[str]:
    """The modules that a config can use and this one does not; a test runs them to see."""

    def asks(key: str, *values: object) -> bool:
        section, _, name = key.partition(".")
        return config.get(section, {}).get(name) in values

    engines = ("rollout.engine", "evaluation.engine")
    used = {
        "sspo.rollout.vllm_engine": any(asks(key, "vllm", "vllm_server") for key in engines),
        "sspo.rollout.vllm_server": any(asks(key, "vllm_server") for key in engines),
        "sspo.rewards.math": asks("reward.name", "math"),
        "sspo.rewards.equality": asks("reward.name", "math"),
        "sspo.rewards.gym": asks("reward.name", "reasoning_gym"),
        "sspo.rewards.scoring": "gym_data" in config or asks("reward.name", "reasoning_gym"),
        "sspo.models.lora": not asks("lora.rank", None, 0),
        "sspo.data.splits": "math_data" in config,
        "sspo.data.sources": "math_data" in config,
        "sspo.data.gym": "gym_data" in config,
        "sspo.data.tasks": not {"math_data", "gym_data"} & config.keys(),
        "sspo.data.context": "max_response_tokens" in config,
        "sspo.experiment.tuning": config.get("tuned", "nothing") != "nothing",
    }
    return frozenset(name for name, is_used in used.items() if not is_used)


@functools.cache
def import_closure(
    script: Path,
    modules: tuple[str, ...] = (),
    without: frozenset[str] = frozenset(),
    source: Path = SOURCE,
) -> list[Path]:
    """Every project module that a script can import, directly or not, also lazily.

    Found by reading syntax trees, without importing anything, and once per process.

    Args:
        script: a Python file.
        modules: dotted names of modules that count as imported by it.
        without: dotted names of modules and packages that are not followed.
        source: the folder that holds the project's packages.

    Returns:
        Sorted paths without the script's.
    """
    pending, found = [*modules, *_imported_names(script, source)], set()
    while pending:
        for module in _modules(pending.pop(), source):
            path = source.joinpath(*module.split(".")).with_suffix(".py")
            if path in found or any(f"{module}.".startswith(f"{name}.") for name in without):
                continue
            found.add(path)
            pending += _imported_names(path, source)
    return sorted(path for path in found if _has_statements(path))


@functools.cache
def _imported_names(path: Path, source: Path) -> set[str]:
    """Dotted names that a file's import statements may load."""
    package = path.parent.relative_to(source).parts if path.is_relative_to(source) else ()
    return {name for node in ast.walk(_tree(path)) for name in _named(node, package)}


def _named(node: ast.AST, package: tuple[str, ...]) -> Iterable[str]:
    """The names in one statement; relative ones are resolved."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = package[: len(package) - node.level + 1] if node.level else ()
    module = ".".join([*above, *([node.module] if node.module else [])])
    return [module, *(f"{module}.{alias.name}" for alias in node.names)]


@functools.cache
def _modules(name: str, source: Path) -> list[str]:
    """The modules that importing a dotted name runs, as far as they lie in the source folder."""
    parts = name.split(".")
    packages = [".".join([*parts[:i], "__init__"]) for i in range(1, len(parts) + 1)]
    return [
        module
        for module in (*packages, name)
        if source.joinpath(*module.split(".")).with_suffix(".py").is_file()
    ]


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def _has_statements(path: Path) -> bool:
    """Whether a file holds more than a docstring."""
    return any(not isinstance(node, ast.Expr) for node in _tree(path).body)
