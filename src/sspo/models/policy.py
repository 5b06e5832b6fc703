"""Causal language models: build one from scratch, load one, and score responses under it.

Scores have the layout (B, T): row i holds the tokens of response i from column 0, whatever the length
of its prompt. Scoring never holds a (B, T, V) tensor: it projects the hidden states of response tokens
to the vocabulary a chunk of tokens at a time.

A policy in training keeps float32 weights whatever the precision it computes in, because bfloat16
would round an update of 1e-6 away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Qwen3Config
from transformers.models.qwen3 import Qwen3ForCausalLM

from sspo.config.errors import ConfigError, first_line
from sspo.config.run import RunConfig
from sspo.config.settings import ModelConfig
from sspo.models.architectures import changed_logits
from sspo.models.weights import merge_adapters

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
AS_SAVED = "auto"  # transformers' name for the precision that a checkpoint was saved in
REMAKE = "delete the folder and run its rule again"  # of a checkpoint that the pipeline made


@dataclass(frozen=True)
class ScoreBatch:
    """Token ids of B responses, ready for scoring."""

    input_ids: Tensor  # (B, L) prompt and response, then padding
    starts: Tensor  # (B,) length of each prompt
    response_ids: Tensor  # (B, T) response tokens from column 0, then padding
    mask: Tensor  # (B, T) float, 1 on response tokens

    @classmethod
    def collate(
        cls, prompts: list[list[int]], responses: list[list[int]], device: torch.device | str
    ) -> ScoreBatch:
        """Pad prompt + response with id 0 on the right, where causal attention hides it from all tokens."""
        rows = [torch.tensor(p + r) for p, r in zip(prompts, responses, strict=True)]
        answers = [torch.tensor(r, dtype=torch.long) for r in responses]
        masks = [torch.ones(len(r)) for r in responses]
        pad = torch.nn.utils.rnn.pad_sequence
        return cls(
            input_ids=pad(rows, batch_first=True).to(device),
            starts=torch.tensor([len(p) for p in prompts]).to(device),
            response_ids=pad(answers, batch_first=True).to(device),
            mask=pad(masks, batch_first=True).to(device),
        )


def build_model(config: ModelConfig, vocab_size: int, seed: int) -> PreTrainedModel:
    """A randomly initialised Qwen3 model in float32; the global random generator is left as it was."""
    settings = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        head_dim=config.hidden_size // config.heads,
        intermediate_size=config.mlp_size,
        max_position_embeddings=config.context,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(settings).float()


def load_model(
    folder: str | Path, dtype: str = "float32", device: str = "cpu", fix: str = REMAKE
) -> PreTrainedModel:
    """Load a causal LM saved with ``save_pretrained``, from safetensors only and without remote code.

    Args:
        folder: the checkpoint.
        dtype: a key of ``DTYPES``, or ``AS_SAVED``.
        device: where the model goes.
        fix: what to do about a damaged checkpoint, for the message.

    Raises:
        ConfigError: the folder is missing, a file is damaged, weights and architecture do not belong
            together, or ``score`` would score the model wrongly; names the folder and what to do.
    """
    model, report = _load(
        AutoModelForCausalLM,
        folder,
        fix,
        dtype=AS_SAVED if dtype == AS_SAVED else DTYPES[dtype],
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # so that the report names them
    )
    refuse_unused(report, folder, fix)
    refuse_unscored(model, folder)
    return model.to(device)


def refuse_unused(report, place: str | Path, fix: str) -> None:
    """Refuse a checkpoint whose weights are not exactly those of its architecture.

    transformers would draw a weight that is not there, and drop one that it has no place for.

    Raises:
        ConfigError: names the place, a weight and the fix.
    """
    for keys, problem in (
        ("missing_keys", "lacks the weight {}"),
        ("mismatched_keys", "has another shape than its config says for the weight {}"),
        ("unexpected_keys", "has a weight that its architecture has no place for, {}"),
    ):
        if names := sorted(key if isinstance(key, str) else key[0] for key in report[keys]):
            raise ConfigError(f"{place}: the checkpoint {problem.format(names[0])}; {fix}")


def refuse_unscored(model: PreTrainedModel, place: str | Path) -> None:
    """Refuse a model that ``score`` would score wrongly.

    Raises:
        ConfigError: names the place and what the model has.
    """
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise ConfigError(
            f"{place}: its output layer has a bias, which scoring does not support; choose a model "
            "without one"
        )
    if reason := changed_logits(model.config):
        raise ConfigError(
            f"{place}: its config has {reason}, but scoring does not scale or cap logits; choose a model "
            "without it"
        )


def load_policy(folder: str | Path, config: RunConfig) -> PreTrainedModel:
    """A model to train: all of its weights in float32, or adapters beside frozen weights.

    Raises:
        ConfigError: as ``load_model``, or adapters are asked for and peft is not installed.
    """
    model = load_model(folder, _weights_dtype(config), config.compute.device)
    if config.lora.rank:
        from sspo.models.lora import add_adapters

        add_adapters(model, config.lora, config.seed)
    _without_dropout(model)
    if config.train.gradient_checkpointing:
        # Saves memory: the backward pass computes the activations inside a layer again.
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()  # transformers checkpoints in training mode only
    return model


def load_reference(folder: str | Path, config: RunConfig) -> PreTrainedModel | None:
    """The frozen initial policy that the KL is measured against; None where no KL is measured.

    Raises:
        ConfigError: as ``load_model``.
    """
    if config.train.kl_every == 0:
        return None
    return load_model(folder, _weights_dtype(config), config.compute.device)


def save_policy(model: PreTrainedModel, tokenizer, folder: str | Path, dtype: str) -> None:
    """Save a policy at the end of its training, with adapters merged and weights in ``dtype``."""
    merge_adapters(model)
    save_model(model.to(DTYPES[dtype]), tokenizer, folder)


def load_tokenizer(folder: str | Path, fix: str = REMAKE):
    """Load the tokenizer that was saved beside a model; ``fix`` is as for ``load_model``.

    Raises:
        ConfigError: the folder is missing or a file is damaged.
    """
    return _load(AutoTokenizer, folder, fix)


def save_model(model: PreTrainedModel, tokenizer, folder: str | Path) -> None:
    """Save an ordinary Hugging Face checkpoint: config, tokenizer, and the weights in one safetensors file.

    Removes temporary files first, which a process that was killed while saving leaves behind.
    """
    for leftover in Path(folder).glob(".tmp*"):
        leftover.unlink()
    model.save_pretrained(folder, max_shard_size="1TB")
    tokenizer.save_pretrained(folder)


def score(
    model: PreTrainedModel,
    batch: ScoreBatch,
    *,
    temperature: float = 1.0,
    chunk_tokens: int = 4096,
    dtype: str = "float32",
) -> tuple[Tensor, Tensor]:
    """Log-probability of every response token, and the entropy of its distribution.

    Args:
        model: causal LM.
        batch: B responses of up to T tokens.
        temperature: the sampling temperature, so that scores match what was sampled.
        chunk_tokens: response tokens projected to the vocabulary at a time; bounds the memory of the
            logits at (chunk_tokens, V), in the backward pass too.
        dtype: precision of matrix products, a key of ``DTYPES``; the weights stay as they are.

    Returns:
        logprobs (B, T) and entropy (B, T) in nats, float32, 0 on padding. Entropy has no gradient.
    """
    rows, columns = batch.mask.nonzero(as_tuple=True)
    targets = batch.response_ids[rows, columns]  # (N,)
    mixed = dtype != "float32"
    with torch.autocast(batch.mask.device.type, DTYPES[dtype] if mixed else None, enabled=mixed):
        hidden = model.base_model(batch.input_ids, use_cache=False).last_hidden_state  # (B, L, D)
        # The distribution of a token is computed at the position before the token.
        selected = hidden[rows, batch.starts[rows] + columns - 1]  # (N, D)
        head = model.get_output_embeddings().weight
        compute = _logprob_entropy
        if len(targets) > chunk_tokens and torch.is_grad_enabled():
            # The backward pass computes the logits of a chunk again instead of keeping those of all.
            compute = partial(checkpoint, _logprob_entropy, use_reentrant=False)
        pieces = [
            compute(h, head, t, temperature)
            for h, t in zip(selected.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
        ]
    zeros = torch.zeros_like(batch.mask, dtype=torch.float32)
    logprobs = zeros.index_put((rows, columns), torch.cat([p[0] for p in pieces]))
    entropy = zeros.index_put((rows, columns), torch.cat([p[1] for p in pieces]))
    return logprobs, entropy


def _logprob_entropy(
    hidden: Tensor, head: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """(N, D), (V, D), (N,) -> log-probability (N,) of the targets and entropy (N,)."""
    logits = torch.nn.functional.linear(hidden, head).float() / temperature  # (N, V)
    log_probabilities = logits.log_softmax(dim=-1)
    chosen = log_probabilities.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    with torch.no_grad():
        entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=-1)
    return chosen, entropy


def _weights_dtype(config: RunConfig) -> str:
    """Precision of the weights: frozen ones may have that of the computation, trained ones may not."""
    return config.compute.dtype if config.lora.rank else "float32"


def _without_dropout(model: PreTrainedModel) -> None:
    """Set dropout to 0, so that scores do not change in training mode.

    Some architectures keep their rates as plain numbers instead of in a ``torch.nn.Dropout``.
    """
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and (
                "drop" in name or isinstance(module, torch.nn.Dropout)
            ):
                setattr(module, name, 0.0)


def _load(kind, folder: str | Path, fix: str, **kwargs):
    if not Path(folder, "config.json").is_file():
        raise ConfigError(f"{folder}: no checkpoint here (config.json is missing); {fix}")
    try:
        return kind.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, **kwargs
        )
    except Exception as error:  # transformers and safetensors raise many types for damaged files
        raise ConfigError(
            f"{folder}: checkpoint cannot be read ({first_line(error)}); {fix}"
        ) from error
