"""The tokenizer that is learnt from texts: it writes any text, and keeps digits apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspo.config.settings import ModelConfig
from sspo.models.policy import build_model, load_tokenizer, save_model
from sspo.models.prompts import encode_continuations, encode_prompts
from sspo.models.tokenizer import EOS, PAD, bpe_tokenizer

TEXTS = ["The apples cost 12 dollars , so 3 x 12 = 36 .\n#### 36", "The pears cost $7.50.\n"] * 20


@pytest.fixture(scope="module")
def learnt():
    return bpe_tokenizer(TEXTS, 320)


@given(st.text())
def test_any_text_is_written_and_read_back(learnt, text):
    assert learnt.decode(encode_continuations(learnt, [text])[0]) == text


def test_what_occurs_often_is_one_token_and_every_digit_is_its_own(learnt):
    ids = encode_continuations(learnt, ["The apples cost 3612"])[0]
    assert [learnt.decode([i]) for i in ids][-4:] == list("3612")
    assert len(ids) < len("The apples cost 3612") / 2


def test_special_tokens_have_the_ids_of_the_character_tokenizer(learnt):
    assert (learnt.pad_token_id, learnt.eos_token_id) == (0, 1)
    assert learnt.convert_tokens_to_ids([PAD, EOS]) == [0, 1]
    assert len(learnt) <= 320


def test_nothing_is_added_to_a_prompt_and_a_saved_tokenizer_is_the_same(learnt, tmp_path):
    shape = ModelConfig(hidden_size=8, layers=1, heads=1, mlp_size=8, context=16)
    save_model(build_model(shape, len(learnt), seed=0), learnt, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert encode_prompts(loaded, TEXTS) == encode_continuations(learnt, TEXTS)
    assert loaded.get_vocab() == learnt.get_vocab()


def test_the_same_texts_give_the_same_tokenizer():
    assert bpe_tokenizer(TEXTS, 320).get_vocab() == bpe_tokenizer(TEXTS, 320).get_vocab()
