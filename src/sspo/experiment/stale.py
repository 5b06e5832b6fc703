"""Which results a profile has left behind: their configs hold other values than the profile has now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.names import TUNING, data_place, model_places, trial_runs, tuning_place
from sspo.config.profile import read_profile
from sspo.config.reading import JsonDict, load_json
from sspo.experiment.expand import expand_profile
from sspo.experiment.packages import without_missing
from sspo.experiment.tuning import apply_choice

SHOWN = 8  # keys, and places of each, in a message
WIDTH = 60  # characters of a value in it


def read_changes(
    profiles: Sequence[Path], results: Path
) -> tuple[dict[str, JsonDict], dict[str, list[str]]]:
    """The configs of profiles, one over the other, and what ``changed_keys`` says of the results.

    Both are empty without a profile.

    Raises:
        ConfigError: a profile that cannot run; names the key and the fix.
    """
    if not profiles:
        return {}, {}
    source = str(profiles[-1])
    profile, _ = without_missing(read_profile(profiles), source)
    configs = expand_profile(profile, source, installed=False)
    return configs, changed_keys(configs, results)


def changed_keys(configs: Mapping[str, JsonDict], results: Path) -> dict[str, list[str]]:
    """What differs between an experiment's configs and those that lie beside its results.

    A tuned run is compared with what the trials chose for it. A place without a config, or with one
    that cannot be read, is left out: there is no result to compare.

    Args:
        configs: those of ``expand_profile``, by place.
        results: folder of the results.

    Returns:
        Place -> every key that differs, such as ``train.steps = 90, was 80``; no place without one.
    """
    found = {}
    for place, config in configs.items():
        written = _read(results / place / "config.json")
        # Where curves are shown changes no result.
        if written is None or place == "tracking":
            continue
        if _is_tuned(config):
            choices = (
                _read(results / tuning_place(configs, config["regime"]) / "choices.json") or {}
            )
            if config["method"] not in choices:
                continue
            config = apply_choice(config, choices)
        if written != config and (changes := _differences(written, config)):
            found[place] = changes
    return found


def stale_models(configs: Mapping[str, JsonDict], changed: Mapping[str, list[str]]) -> set[str]:
    """The places of the runs and base models that would be trained anew.

    These are the ones with other settings, those that start from such a base model or learn from such
    problems, and tuned runs where the trials are among them.

    Args:
        configs: those of ``expand_profile``, by place.
        changed: as ``changed_keys`` returns it.
    """
    models = model_places(configs)
    stale = {
        place
        for place, base in models.items()
        if changed.keys() & {place, base, data_place(configs, base)}
    }
    for tuning, choosing in configs.items():
        if not tuning.startswith(f"{TUNING}/"):
            continue
        trials = {f"runs/{run}" for run in trial_runs(choosing)}
        if tuning in changed or stale & trials:
            stale |= {
                place
                for place in models
                if _is_tuned(configs[place])
                and tuning_place(configs, configs[place]["regime"]) == tuning
            }
    return stale


def describe(changed: Mapping[str, list[str]], profile: str) -> list[str]:
    """Lines for a reader: which keys of the profile changed, and what had been made with the old values.

    Args:
        changed: as ``changed_keys`` returns it.
        profile: its file, for the first line.
    """
    if not changed:
        return []
    places: dict[str, list[str]] = {}
    for place, changes in changed.items():
        for change in changes:
            places.setdefault(change, []).append(place)
    lines = [f"  {change} ({_few(places[change])})" for change in list(places)[:SHOWN]]
    more = [f"  and {len(places) - SHOWN} more keys"] if len(places) > SHOWN else []
    return [f"{profile}: changed since the results were made", *lines, *more]


def _few(places: list[str]) -> str:
    """The first of several places, and how many there are beside them."""
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    return ", ".join(places[:SHOWN]) + more


def _is_tuned(config: JsonDict) -> bool:
    return config.get("tuned", "nothing") != "nothing"


def _read(path: Path) -> JsonDict | None:
    try:
        return load_json(path)
    except ConfigError:
        return None


def _differences(old: JsonDict, new: JsonDict) -> list[str]:
    before, now = _leaves(old), _leaves(new)
    changes = []
    for key in [*now, *sorted(before.keys() - now.keys())]:
        if key not in before:
            changes.append(f"{key} = {_show(now[key])}, new")
        elif key not in now:
            changes.append(f"{key} is gone, was {_show(before[key])}")
        elif before[key] != now[key]:
            changes.append(f"{key} = {_show(now[key])}, was {_show(before[key])}")
    return changes


def _leaves(value: object, key: str = "") -> dict[str, str]:
    """Dotted key -> JSON text of every value that is no mapping with entries."""
    if not isinstance(value, Mapping) or not value:
        return {key: json.dumps(value)}
    inner = [_leaves(each, f"{key}.{name}" if key else name) for name, each in value.items()]
    return {leaf: text for leaves in inner for leaf, text in leaves.items()}


def _show(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[:WIDTH]} ..."
