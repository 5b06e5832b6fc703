"""How large a model is: it is built without its weights, on PyTorch's ``meta`` device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from sspo.config.errors import ConfigError, first_line
from sspo.config.reading import JsonDict, load_json, parse
from sspo.config.settings import CheckpointConfig, ModelConfig
from sspo.models.gguf import gguf_config, gguf_file
from sspo.models.policy import build_model
from sspo.models.tokenizer import character_tokenizer


@dataclass(frozen=True)
class ModelSize:
    """What time and memory depend on."""

    parameters: int  # weights of the model, tied ones once
    hidden_size: int  # of the residual stream
    layers: int
    mlp_size: int
    query_size: int  # all heads of a query together
    key_size: int  # all heads of a key together, fewer than a query's under grouped attention
    vocab_size: int  # rows of the output layer


def base_folder(config: JsonDict, place: Path) -> Path | None:
    """Where a base model is on this machine, a folder or a GGUF file; None where it is not yet.

    Of a repository of the hub its ``config.json`` may be all that is there. What another config has made
    at the model's place under the results does not count.
    """
    made, weights = place / "config.json", place / "model" / SAFETENSORS_SINGLE_FILE
    if weights.is_file() and made.is_file() and load_json(made) == config:
        return weights.parent
    if "checkpoint" not in config:
        return None
    checkpoint = parse(CheckpointConfig, config["checkpoint"], "checkpoint.")
    if not checkpoint.revision:
        return gguf_file(checkpoint.source) or Path(checkpoint.source)
    try:
        file = try_to_load_from_cache(
            checkpoint.source, "config.json", revision=checkpoint.revision
        )
    except ValueError as error:
        raise ConfigError(f"checkpoint.source: {first_line(error)}") from None
    return Path(file).parent if isinstance(file, str) else None


def base_size(config: JsonDict, place: Path) -> ModelSize | None:
    """The size of a base model; None for one on the hub of which nothing is on this machine.

    Raises:
        ConfigError: as ``checkpoint_size``.
    """
    if "checkpoint" in config:
        folder = base_folder(config, place)
        return checkpoint_size(folder) if folder else None
    vocabulary = config.get("pieces") or len(character_tokenizer(config["characters"]))
    with torch.device("meta"):
        return _size(build_model(parse(ModelConfig, config["model"]), vocabulary, seed=0))


def checkpoint_size(folder: Path) -> ModelSize:
    """The size of a checkpoint, from its ``config.json`` alone, or from the head of a GGUF file.

    Raises:
        ConfigError: it is missing or damaged, or describes no transformer that we know.
    """
    try:
        if folder.is_file():
            config = gguf_config(folder)
        else:
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        with torch.device("meta"):
            return _size(AutoModelForCausalLM.from_config(config, trust_remote_code=False))
    except ConfigError:
        raise
    except Exception as error:  # transformers raises many types
        raise ConfigError(
            f"{folder}/config.json: no model of known size ({first_line(error)}); choose a transformer "
            "that the installed transformers package knows"
        ) from None


def _size(model: PreTrainedModel) -> ModelSize:
    config = model.config
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelSize(
        parameters=model.num_parameters(),
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers,
        mlp_size=config.intermediate_size,
        query_size=heads * head,
        key_size=(getattr(config, "num_key_value_heads", None) or heads) * head,
        vocab_size=config.vocab_size,
    )
