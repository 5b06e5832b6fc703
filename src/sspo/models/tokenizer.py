"""The tokenizers of the from-scratch models, ordinary fast tokenizers of Hugging Face."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sspo.config.run import PretrainConfig

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"


def character_tokenizer(characters: str) -> PreTrainedTokenizerFast:
    """One token per character, plus ``<pad>`` (id 0), ``<eos>`` (id 1) and ``<unk>`` (id 2).

    Save it with ``save_pretrained``; ``AutoTokenizer`` and vLLM load it like any other.
    """
    vocabulary = {token: i for i, token in enumerate([PAD, EOS, UNK, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return _fast(tokenizer)


def bpe_tokenizer(texts: Iterable[str], pieces: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (arXiv 1508.07909) of at most ``pieces`` tokens, learnt from texts.

    Any text can be written with it. Every digit is a token of its own, so that numbers have one spelling.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces,
        special_tokens=[PAD, EOS, UNK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _fast(tokenizer)


def make_tokenizer(config: PretrainConfig, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer of a model from scratch: of characters, or learnt from texts."""
    if config.pieces:
        return bpe_tokenizer(texts, config.pieces)
    return character_tokenizer(config.characters or "")


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNK
    )
