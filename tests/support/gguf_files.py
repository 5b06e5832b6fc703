"""Tiny models as GGUF files, written as llama.cpp's converter writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

UNKNOWN, START, END, TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot|>"
TOKENS = [UNKNOWN, START, END, TURN, *sorted(bytes_to_unicode().values()), "ĊĠ"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
CONTROL, NORMAL = 3, 1
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tiny_llama() -> LlamaForCausalLM:
    """A random Llama with grouped attention and tied embeddings, in float32."""
    config = LlamaConfig(
        vocab_size=len(TOKENS) + 3, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=96, max_position_embeddings=128,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
    return model


def write_gguf(
    file: Path,
    model: LlamaForCausalLM,
    *,
    quantized: bool = False,
    rules: str = "smollm",
    left_out: str = "",
    architecture: str = "llama",
) -> Path:
    """The model as a GGUF file, its matrices as Q4_1 where they are to be ``quantized``."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    spare = [f"[spare{i}]" for i in range(config.vocab_size - len(TOKENS))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rules)
    writer.add_token_list([*TOKENS, *spare])
    writer.add_token_types([CONTROL] * 4 + [NORMAL] * (len(TOKENS) - 4 + len(spare)))
    writer.add_token_merges(["Ċ Ġ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_eot_token_id(3)
    writer.add_chat_template(TEMPLATE)
    for name, weight in model.state_dict().items():
        values, name = weight.numpy(), gguf_name(name)
        if name == "output.weight" or (left_out and left_out in name):
            continue
        if "attn_q" in name:
            values = permuted(values, config.num_attention_heads)
        if "attn_k" in name:
            values = permuted(values, config.num_key_value_heads)
        if quantized and values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def gguf_name(name: str) -> str:
    """What llama.cpp calls a weight of a Llama."""
    outer = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
    parts = name.split(".")
    if "layers" not in parts:
        return f"{outer[parts[-2]]}.weight"
    layer = parts.index("layers")
    return f"blk.{parts[layer + 1]}.{NAMES['.'.join(parts[layer + 2 : -1])]}.weight"


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows in llama.cpp's order, in which the two halves of a head are interleaved."""
    rows, columns = weight.shape
    return (
        weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(weight.shape)
    )


def q4_1(weight: torch.Tensor) -> torch.Tensor:
    """What Q4_1 leaves of a matrix: each 32 values of a row become m + d q, q from 0 to 15."""
    blocks = weight.reshape(-1, 32)
    low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    step = (high - low) / 15
    q = ((blocks - low) / step + 0.5).floor().clamp(0, 15)
    return (low.half().float() + step.half().float() * q).reshape(weight.shape)
