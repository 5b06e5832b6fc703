"""Table T4: every setting that matters, its value, and where it comes from."""

import argparse
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pandas as pd
import yaml

from sspo.config.errors import ConfigError
from sspo.config.names import MAIN
from sspo.config.reading import JsonDict, load_json
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import run

# Sections that say nothing where another one stands in their place.
REPLACED = {
    "task": ("math_data", "gym_data"),
    "model": ("checkpoint",),
    "pretrain": ("checkpoint",),
}
RATE = "train.learning_rate"
TUNED = "tuned (T3)"
EMPTY: Mapping[str, JsonDict] = {}
Sources = Mapping[str, str | Mapping[object, str]]
Row = tuple[str, str, str, str]  # method, or nothing for shared settings; key, value, source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=Path, required=True, help="YAML: key -> source")
    parser.add_argument("--settings", type=Path, required=True, help="the experiment's settings")
    parser.add_argument(
        "--choices",
        type=Path,
        nargs="*",
        default=[],
        help="what the trials chose, for a tuned experiment: a file in the folder of each regime's trials",
    )
    parser.add_argument("--output", type=Path, required=True, help="CSV to write")
    arguments = parser.parse_args()
    sources = yaml.safe_load(arguments.sources.read_text(encoding="utf-8"))
    settings = load_json(arguments.settings)
    given = arguments.choices
    if "tuning" in settings and not given:
        raise ConfigError(f"{arguments.settings}: the experiment is tuned; give --choices as well")
    rows = table(settings, sources, {path.parent.name: load_json(path) for path in given})
    frame = pd.DataFrame(rows, columns=["method", "key", "value", "source"])
    frame.to_csv(arguments.output, index=False)
    write_record(
        arguments.output.with_suffix(".provenance.json"),
        __file__,
        inputs=[arguments.sources, arguments.settings, *given],
        outputs=[arguments.output],
    )


def table(
    settings: JsonDict, sources: Sources, choices: Mapping[str, JsonDict] = EMPTY
) -> list[Row]:
    """The rows of T4: shared settings, what regimes change of them, every method's own.

    Args:
        settings: of the experiment.
        sources: key -> source, or value -> source with a ``default`` for other values.
        choices: regime with trials of its own -> method -> learning rate and parameters that they chose.
    """
    rows = list(shared_rows(settings, sources, MAIN in choices))
    rows += regime_rows(settings)
    for method, entry in settings["methods"].items():
        chosen = {r: by_method[method] for r, by_method in choices.items() if method in by_method}
        rows += method_rows(settings, sources, method, entry, chosen)
    return rows


def shared_rows(settings: JsonDict, sources: Sources, tuned: bool) -> Iterator[Row]:
    for key in sources:
        value = look_up(settings, key)
        if key.startswith("methods.") or value is None:
            continue
        source = source_of(sources, key, value)
        if key == RATE and tuned:
            # Runs with a learning rate of their own have no use for this one.
            users = ["the supervised control"] if settings["experiment"]["control"] else []
            users += ["regimes that are not tuned"] if has_untuned(settings, [MAIN]) else []
            if not users:
                continue
            source += f"; only for {' and '.join(users)}, tuned ones are below"
        yield "", key, value, source


def regime_rows(settings: JsonDict) -> Iterator[Row]:
    for name, regime in settings.get("regimes", {}).items():
        changes = {key: value for key, value in regime.items() if key not in ("seeds", "tuned")}
        source = "ours"
        if regime["tuned"] and "learning_rate" in regime.get("train", {}):
            source += f"; learning rate as stated here, parameters {TUNED}"
        elif regime["tuned"]:
            source += f"; learning rate and parameters {TUNED}"
        elif "tuning" in settings:
            source += "; not tuned"
        yield "", f"regimes.{name}", show(changes), source


def method_rows(
    settings: JsonDict,
    sources: Sources,
    method: str,
    entry: JsonDict,
    chosen: Mapping[str, JsonDict],
) -> Iterator[Row]:
    """A method's parameters, its learning rate where it was tuned, and what it changes."""
    key = f"methods.{method}.params"
    written = show(entry["params"])
    source = source_of(sources, key, written)
    for regime, choice in chosen.items():
        where = "" if {*chosen} == {MAIN} else f"; in {regime}"
        value = show(choice["params"])
        tuned_source = f"{TUNED}; {source_of(sources, key, value)}{where}"
        yield method, entry["objective"], value, tuned_source
        yield method, RATE, show(choice["learning_rate"]), f"{TUNED}{where}"
    if not chosen:
        yield method, entry["objective"], written, source
    elif has_untuned(settings, chosen):
        yield method, entry["objective"], written, f"{source}; in regimes that are not tuned"
    for section in ("trainer", "advantages", "rollout", "train"):
        if section not in entry:
            continue
        value = show(entry[section])
        source = source_of(sources, f"methods.{method}.{section}", value)
        if "regimes" in settings:
            source += "; over what regimes state"
        if chosen and section == "train" and "learning_rate" in entry[section]:
            source += (
                "; the tuned learning rate replaces it unless a regime states one or is not tuned"
            )
        yield method, section, value, source


def has_untuned(settings: JsonDict, choosing: Collection[str]) -> bool:
    """Whether a regime is not tuned; the main one is if it has trials."""
    regimes = settings.get("regimes", {}).values()
    return MAIN not in choosing or not all(regime["tuned"] for regime in regimes)


def source_of(sources: Sources, key: str, value: str) -> str:
    """Where a value comes from; what the sources do not explain is ours."""
    source = sources.get(key, "ours")
    if isinstance(source, str):
        return source
    by_value = {show(known): text for known, text in source.items()}
    return by_value.get(value, source["default"])


def look_up(settings: JsonDict, key: str) -> str | None:
    """The value at a dotted key as text, or None when the experiment has no use for such a key."""
    value = settings
    if settings.keys() & {*REPLACED.get(key.split(".")[0], ())}:
        return None
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return show(value)


def show(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{k} ({show(v)})" if isinstance(v, dict) else f"{k} {show(v)}"
            for k, v in value.items()
        )
    if isinstance(value, list):
        return ", ".join(map(show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    run(main)
