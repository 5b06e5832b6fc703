"""A published model as the base that runs start from: from a folder, or from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from sspo.config.errors import ConfigError, first_line
from sspo.config.reading import load_json
from sspo.config.settings import CheckpointConfig

# What a checkpoint consists of; a repository may hold other formats of the same weights as well.
PARTS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")


def checkpoint_files(config: CheckpointConfig) -> list[str]:
    """The files of a checkpoint that is a folder; none for one on the hub.

    Raises:
        ConfigError: there is no checkpoint in the folder.
    """
    if config.revision:
        return []
    files = sorted(str(p) for part in PARTS for p in Path(config.source).glob(part))
    if not any(file.endswith(".safetensors") for file in files):
        raise ConfigError(
            f"checkpoint.source = {config.source!r}: no folder with .safetensors weights; for a "
            "repository of the hub, add checkpoint.revision, the commit that its page shows under "
            "'Files and versions'"
        )
    return files


def checkpoint_folder(config: CheckpointConfig) -> Path:
    """The folder of a checkpoint, downloaded (or found in the hub's cache) where it has a revision.

    Raises:
        ConfigError: it cannot be had.
    """
    if not config.revision:
        return Path(config.source)
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            config.source, revision=config.revision, allow_patterns=list(PARTS)
        )
    except Exception as error:  # the hub's client raises many types
        raise ConfigError(
            f"checkpoint.source = {config.source!r} at {config.revision[:12]}: cannot be fetched "
            f"({first_line(error)}); where there is a network, run `hf download {config.source} --revision "
            f"{config.revision} --local-dir FOLDER`, and give that folder as checkpoint.source with an "
            "empty checkpoint.revision"
        ) from error
    return Path(found)


def load_published(config: CheckpointConfig) -> tuple[object, object]:
    """The model, in the precision it was published in, and its tokenizer.

    Raises:
        ConfigError: it cannot be had, or not be trained or sampled from here.
    """
    # Here, as the workflow asks for files alone and transformers takes seconds to import.
    from sspo.models.architectures import partial_attention
    from sspo.models.policy import AS_SAVED, load_model, load_tokenizer

    folder = checkpoint_folder(config)
    model, tokenizer = load_model(folder, AS_SAVED), load_tokenizer(folder)
    embedded = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embedded:
        raise ConfigError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens and the model {embedded}; they do "
            "not belong together"
        )
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"{folder}: its tokenizer has no end token; set eos_token in it")
    if reason := partial_attention(model.config):
        raise ConfigError(
            f"{folder}: {reason}: not supported; choose a model whose layers all see the whole sequence"
        )
    if "max_position_embeddings" not in load_json(folder / "config.json"):
        raise ConfigError(
            f"{folder}/config.json: no max_position_embeddings, the most tokens of a sequence; models that "
            "name it otherwise are not supported"
        )
    return model, tokenizer
