"""Load a published model to start runs from: a folder, a repository of the hub, or a GGUF file."""

from __future__ import annotations

from pathlib import Path

from sspo.config.errors import ConfigError, first_line
from sspo.config.reading import JsonDict, load_json
from sspo.config.settings import CheckpointConfig
from sspo.models.gguf import gguf_file, load_gguf

# The files of a checkpoint. A repository may also hold the same weights in other formats.
PARTS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".safetensors")
FETCH = (
    "fetch the model again in full (in a clone, with `git lfs pull`), or save it again with "
    "save_pretrained"
)


def checkpoint_files(config: CheckpointConfig) -> list[str]:
    """The files of a checkpoint on this machine; an empty list for one on the hub.

    Raises:
        ConfigError: there is no folder, or ``check_files`` or ``gguf_file`` refuses it.
    """
    if config.revision:
        return []
    if file := gguf_file(config.source):
        return [str(file)]
    folder = Path(config.source)
    if not folder.is_dir():
        raise ConfigError(
            f"checkpoint.source = {config.source!r}: no such folder; for a repository of the hub, add "
            "checkpoint.revision, the commit that its page shows under 'Files and versions'"
        )
    check_files(folder)
    return sorted(str(p) for part in PARTS for p in folder.glob(part))


def check_files(folder: Path) -> None:
    """Refuse a published checkpoint that cannot be used, by its file names and its ``config.json``.

    No weight is read, so that this can run before anything else does.

    Raises:
        ConfigError: it lacks a file, or has its weights in a form that is not loaded.
    """
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        adapters = "adapter_config.json" in names
        problem = "holds adapters alone" if adapters else "has no config.json"
        merge = "merge them into their base model, and save that with save_pretrained"
        raise refused(folder, problem, merge if adapters else FETCH)
    settings = read_settings(folder / "config.json")
    quantized = settings.get("quantization_config") or "quantize_config.json" in names
    if quantized:
        method = quantized.get("quant_method", "?") if isinstance(quantized, dict) else "GPTQ"
        raise refused(
            folder,
            f"its weights are quantized ({method}), and training needs them whole",
            "choose the model that they were made from",
        )
    index = folder / "model.safetensors.index.json"
    if "model.safetensors" not in names and index.name not in names:
        others = sorted(name for name in names if name.endswith(OTHER_WEIGHTS))
        there = f", but has {others[0]}" if others else ""
        raise refused(
            folder,
            f"has no model.safetensors or {index.name}{there}",
            "save the model with save_pretrained of transformers, or fetch a revision that has them "
            "(weights that were pickled are never loaded, as that can run code)",
        )
    if "model.safetensors" not in names:
        shards = {str(name) for name in read_settings(index).get("weight_map", {}).values()}
        if missing := sorted(shards - names):
            raise refused(folder, f"lacks {missing[0]}, which {index.name} lists", FETCH)
    if not any(path.match(form) for path in folder.iterdir() for form in VOCABULARIES):
        raise refused(
            folder,
            "has no tokenizer",
            "add the files of the model's own (tokenizer.json, tokenizer_config.json)",
        )


def read_settings(file: Path) -> JsonDict:
    """A JSON file of a published checkpoint.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        return load_json(file)
    except ConfigError:
        raise refused(file.parent, f"{file.name} is not a JSON object", FETCH) from None


def refused(folder: Path, problem: str, fix: str) -> ConfigError:
    """The error of a published checkpoint that cannot be used; its files are never ours to delete."""
    return ConfigError(f"checkpoint.source: {folder}: {problem}; {fix}")


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
    """The model, in the precision it was published in (float32 from GGUF), and its tokenizer.

    Raises:
        ConfigError: the model cannot be downloaded, or cannot be trained or sampled from here; names
            the folder or file, what is wrong and what to do.
    """
    # Imported here because transformers takes seconds, and the workflow only asks for the files.
    from sspo.models.architectures import partial_attention
    from sspo.models.weights import first_non_finite

    file = None if config.revision else gguf_file(config.source)
    place = file or checkpoint_folder(config)
    model, tokenizer = load_gguf(file) if file else _load_folder(place)
    if name := first_non_finite(model):
        raise refused(place, f"the weight {name} holds NaN or infinity", FETCH)
    embedded = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embedded:
        raise refused(
            place,
            f"the tokenizer has {len(tokenizer)} tokens and the model {embedded}, so they do not belong "
            "together",
            "save the model with its own tokenizer",
        )
    if tokenizer.eos_token_id is None:
        raise refused(place, "the tokenizer has no end token", "set eos_token in its configuration")
    if reason := partial_attention(model.config):
        raise refused(
            place,
            f"{reason}: not supported",
            "choose a model whose layers all see the whole sequence",
        )
    try:
        model.generation_config.validate(strict=True)  # or it could not be saved
    except ValueError as error:
        reason = " ".join(str(error).split()).partition(" -- ")[0]  # advice for other uses
        raise refused(place, f"generation_config.json: {reason}", "correct this file") from None
    return model, tokenizer


def _load_folder(folder: Path) -> tuple:
    """The model and the tokenizer of a folder."""
    from sspo.models.architectures import no_causal_model
    from sspo.models.policy import AS_SAVED, load_model, load_tokenizer

    check_files(folder)
    settings = read_settings(folder / "config.json")
    if reason := no_causal_model(settings):
        raise refused(
            folder,
            f"config.json: {reason}",
            "choose a causal language model that transformers knows",
        )
    model, tokenizer = load_model(folder, AS_SAVED, fix=FETCH), load_tokenizer(folder, fix=FETCH)
    if "max_position_embeddings" not in settings:
        raise refused(
            folder,
            "config.json has no max_position_embeddings (most tokens of a sequence)",
            "choose a model whose config has this key",
        )
    return model, tokenizer
