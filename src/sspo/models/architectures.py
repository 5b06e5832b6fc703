"""What of an architecture the sampler and the scorer have to know, from its configuration alone."""

from __future__ import annotations

from transformers import PretrainedConfig

# What some architectures do to logits after the output layer, where 1 or nothing is neutral.
CHANGED_LOGITS = (
    "logits_scaling",
    "logit_scale",
    "lm_head_multiplier",
    "output_multiplier_scale",
    "final_logit_softcapping",
)


def changed_logits(config: PretrainedConfig) -> str:
    """What a model does to its logits after the output layer, as ``name = value``; empty for nothing."""
    values = {name: getattr(config, name, None) for name in CHANGED_LOGITS}
    return ", ".join(f"{k} = {v}" for k, v in values.items() if v not in (None, 1.0))


def partial_attention(config: PretrainedConfig) -> str:
    """What keeps a model's layers from seeing the whole sequence; empty where nothing does."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return ", ".join(sorted({*kinds} - {"full_attention"}))
    # Older architectures name no layers; a window as long as the context hides nothing.
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        return f"sliding_window = {window}" if window < config.max_position_embeddings else ""
    return ""
