"""How large a model is, without building or loading it: from its sizes, or from its files' headers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.reading import JsonDict, load_json, parse
from sspo.config.settings import CheckpointConfig, ModelConfig

SPECIAL_TOKENS = 3  # of the character tokenizer, beside the characters
WEIGHTS = "model.safetensors"
LARGEST_HEADER = 10**8  # bytes, as the format allows


@dataclass(frozen=True)
class ModelSize:
    """What time and memory depend on.

    Attributes:
        parameters: weights of the model, tied ones once.
        hidden_size: of the residual stream.
        layers: number of them.
        mlp_size: width of the MLP.
        query_size: all heads of a query together.
        key_size: all heads of a key together, fewer than a query's under grouped attention.
        vocab_size: rows of the output layer.
    """

    parameters: int
    hidden_size: int
    layers: int
    mlp_size: int
    query_size: int
    key_size: int
    vocab_size: int


def scratch_size(model: ModelConfig, characters: str) -> ModelSize:
    """The size of ``sspo.models.policy.build_model`` with the character tokenizer."""
    vocabulary = SPECIAL_TOKENS + len(characters)
    hidden, head = model.hidden_size, model.hidden_size // model.heads
    heads = model.heads * head
    attention = 4 * hidden * heads + 2 * head
    layer = attention + 3 * hidden * model.mlp_size + 2 * hidden
    parameters = vocabulary * hidden + model.layers * layer + hidden
    return ModelSize(parameters, hidden, model.layers, model.mlp_size, heads, heads, vocabulary)


def checkpoint_size(folder: str | Path) -> ModelSize:
    """The size of a checkpoint in a folder; only the headers of its weights are read.

    Raises:
        ConfigError: files missing or damaged, or a configuration without a transformer's sizes.
    """
    folder = Path(folder)
    settings = load_json(folder / "config.json")
    try:
        heads = settings["num_attention_heads"]
        head = settings.get("head_dim") or settings["hidden_size"] // heads
        return ModelSize(
            parameters=_count_weights(folder, bool(settings.get("tie_word_embeddings"))),
            hidden_size=settings["hidden_size"],
            layers=settings["num_hidden_layers"],
            mlp_size=settings["intermediate_size"],
            query_size=heads * head,
            key_size=settings.get("num_key_value_heads", heads) * head,
            vocab_size=settings["vocab_size"],
        )
    except KeyError as error:
        raise ConfigError(
            f"{folder}/config.json: no {error.args[0]}; choose a transformer whose sizes it states"
        ) from None


def base_folder(config: JsonDict, place: str | Path) -> Path | None:
    """Where the weights of a base model are on this machine; None where they are not yet.

    Args:
        config: the base model's config.
        place: its folder under the results; what was made there with another config does not count.
    """
    place = Path(place)
    if (place / "model" / WEIGHTS).is_file() and _holds(place / "config.json", config):
        return place / "model"
    if "checkpoint" not in config:
        return None
    checkpoint = parse(CheckpointConfig, config["checkpoint"], "checkpoint.")
    return _cached(checkpoint) if checkpoint.revision else Path(checkpoint.source)


def base_size(config: JsonDict, place: str | Path) -> ModelSize | None:
    """The size of a base model; None for one on the hub that is not on this machine.

    Raises:
        ConfigError: as ``checkpoint_size``.
    """
    if "checkpoint" not in config:
        return scratch_size(parse(ModelConfig, config["model"]), str(config["characters"]))
    folder = base_folder(config, place)
    return checkpoint_size(folder) if folder else None


def _holds(file: Path, config: JsonDict) -> bool:
    return file.is_file() and load_json(file) == config


def _cached(checkpoint: CheckpointConfig) -> Path | None:
    """The hub cache's folder of a repository at a revision, when its weights are complete there."""
    from huggingface_hub import snapshot_download

    from sspo.models.pretrained import PARTS

    try:
        found = snapshot_download(
            checkpoint.source,
            revision=checkpoint.revision,
            allow_patterns=list(PARTS),
            local_files_only=True,
        )
        return Path(found) if _weight_files(Path(found)) else None
    except Exception:  # the hub's client raises many types; whatever it is, nothing usable is here
        return None


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers would read: one, or the shards that the index names."""
    index = folder / f"{WEIGHTS}.index.json"
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if index.is_file():
        return [folder / name for name in sorted({*load_json(index)["weight_map"].values()})]
    return sorted(folder.glob("*.safetensors"))


def _count_weights(folder: Path, tied: bool) -> int:
    shapes: dict[str, list[int]] = {}
    for file in _weight_files(folder):
        header = _read_header(file)
        shapes |= {name: h["shape"] for name, h in header.items() if name != "__metadata__"}
    if not shapes:
        raise ConfigError(f"{folder}: no .safetensors weights here; run its rule again")
    if tied:
        shapes.pop("lm_head.weight", None)
    return sum(map(prod, shapes.values()))


def _read_header(file: Path) -> JsonDict:
    try:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > LARGEST_HEADER:
                raise ValueError("no safetensors header")
            return json.loads(opened.read(length))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file}: its header cannot be read ({error}); delete the folder and run its rule again"
        ) from None
