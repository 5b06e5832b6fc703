"""Find out from a model's configuration whether it can be sampled from and scored here."""

from __future__ import annotations

import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from sspo.config.reading import JsonDict

# Keys that make some architectures scale or cap logits after the output layer; 1 or None does nothing.
CHANGED_LOGITS = (
    "logits_scaling",
    "logit_scale",
    "lm_head_multiplier",
    "output_multiplier_scale",
    "final_logit_softcapping",
)


def no_causal_model(settings: JsonDict) -> str:
    """Why transformers has no causal language model for a ``config.json``; empty where it has one.

    A classifier or an encoder of a known kind would be loaded as a language model that it is not.
    """
    kind = settings.get("model_type")
    if kind not in CONFIG_MAPPING:
        known = f"transformers {transformers.__version__}"
        return f"model_type = {kind!r} is unknown to {known}, and code of a checkpoint is never run"
    model = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    stated = settings.get("architectures") or [model]
    if model is None or model not in stated:
        return f"{', '.join(map(str, stated))} ({kind}) is no causal language model of transformers"
    return ""


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
