"""A tiny checkpoint in the form in which Qwen publishes its models."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sspo.config.settings import CheckpointConfig

END, TURN = "<|endoftext|>", "<|im_end|>"


SPECIAL = [END, "<|im_start|>", TURN]


CHARACTERS = sorted({*"abcdefghijklmnopqrstuvwxyzPlS0123456789 .,{}()+-*/=?^\\\n$"})


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """Characters and the special tokens of Qwen's chat format, with its template."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, "<unk>", *CHARACTERS])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(SPECIAL)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=END, unk_token="<unk>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def published(architecture: str, tied: bool = False):
    """A random model of an architecture that Qwen publishes, in bfloat16, with a larger vocabulary."""
    settings = {
        "vocab_size": 96,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 96,
        "max_position_embeddings": 320,
        "tie_word_embeddings": tied,
        "pad_token_id": 0,
        "eos_token_id": 0,
        "bos_token_id": 0,
    }
    kinds = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}
    config, model = kinds[architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = model(config(**settings))
        for parameter in built.parameters():
            torch.nn.init.normal_(parameter, std=0.15) if parameter.ndim > 1 else None
    return built.bfloat16()


def saved(folder, architecture="qwen2", max_shard_size="1GB") -> CheckpointConfig:
    published(architecture).save_pretrained(folder, max_shard_size=max_shard_size)
    chat_tokenizer().save_pretrained(folder)
    return CheckpointConfig(source=str(folder), revision="")


def edit_json(file, **changes) -> None:
    """Change keys of a JSON file; None removes one."""
    found = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))


def edit_weights(folder, change) -> None:
    """Save a checkpoint's weights as ``change`` leaves the dictionary of them."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def adding_tokenizer(front="", back="") -> PreTrainedTokenizerFast:
    """The chat tokenizer, with special tokens that it puts in front of every text and after it."""
    tokenizer = chat_tokenizer()
    names = [token for token in (front, back) if token]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{front} $A {back}".strip(),
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names],
    )
    return tokenizer
