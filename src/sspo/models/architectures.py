"""Find out from a model's configuration whether it can be sampled from and scored here."""

from __future__ import annotations

from transformers import PretrainedConfig

# Keys that make some architectures scale or cap logits after the output layer; 1 or None does nothing.
CHANGED_LOGITS = (
    "logits_scaling",
    "logit_scale",
    "lm_head_multiplier",
    "output_multiplier_scale",
    "final_logit_softcapping",
)


def changed_logits(config: PretrainedConfig) -> str:
    """The keys by which a model scales or caps its logits, as ``name = value``; empty for none."""
    values = {name: getattr(config, name, None) for name in CHANGED_LOGITS}
    return ", ".join(f"{k} = {v}" for k, v in values.items() if v not in (None, 1.0))


def partial_attention(config: PretrainedConfig) -> str:
    """The kinds of layers that do not see the whole sequence; empty where all layers do."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return ", ".join(sorted({*kinds} - {"full_attention"}))
    # Older configurations list no layer types. A window as long as the context hides nothing.
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        return f"sliding_window = {window}" if window < config.max_position_embeddings else ""
    return ""
