"""Load a published model to start runs from: from a folder, or from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from sspo.config.errors import ConfigError, first_line
from sspo.config.reading import load_json
from sspo.config.settings import CheckpointConfig

# The files of a checkpoint. A repository may also hold the same weights in other formats.
PARTS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")


def checkpoint_files(config: CheckpointConfig) -> list[str]:
    """The files of a checkpoint in a folder; an empty list for one on the hub.

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
    """The folder of a checkpoint; one with a revision is downloaded or found in the hub's cache.

    Raises:
        ConfigError: it cannot be downloaded.
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
            f"checkpoint.source = {config.source!r}: revision {config.revision[:12]} cannot be downloaded "
            f"({first_line(error)}); on a machine with a network run `hf download {config.source} "
            f"--revision {config.revision} --local-dir FOLDER`, then set checkpoint.source to that folder "
            "and checkpoint.revision to ''"
        ) from error
    return Path(found)


def load_published(config: CheckpointConfig) -> tuple[object, object]:
    """The model, in the precision it was published in, and its tokenizer.

    Raises:
        ConfigError: the model cannot be downloaded, or cannot be trained or sampled from here.
    """
    # Imported here because transformers takes seconds, and the workflow only asks for the files.
    from sspo.models.architectures import partial_attention
    from sspo.models.policy import AS_SAVED, load_model, load_tokenizer

    folder = checkpoint_folder(config)
    model, tokenizer = load_model(folder, AS_SAVED), load_tokenizer(folder)
    embedded = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embedded:
        raise ConfigError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens and the model {embedded}, so they do "
            "not belong together; save the model with its own tokenizer"
        )
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"{folder}: the tokenizer has no end token; set eos_token in its configuration"
        )
    if reason := partial_attention(model.config):
        raise ConfigError(
            f"{folder}: {reason}: not supported; choose a model whose layers all see the whole sequence"
        )
    if "max_position_embeddings" not in load_json(folder / "config.json"):
        raise ConfigError(
            f"{folder}/config.json: no max_position_embeddings (most tokens of a sequence); choose a model "
            "whose config has this key"
        )
    return model, tokenizer
