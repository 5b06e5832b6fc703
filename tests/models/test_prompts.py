"""Prompts begin with what the tokenizer adds, once, and end where their text ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from sspo.config.errors import ConfigError
from sspo.data.problems import check_lengths
from sspo.models.policy import load_tokenizer
from sspo.models.prompts import encode_continuations, encode_prompts
from sspo.rewards.base import Reward
from sspo.rollout.engine import Completion
from sspo.training.grading import evaluate_problems
from sspo.training.supervised import encode_solutions
from sspo.training.trainer import collect_rollout
from sspo.training.update import Actors
from support.published import END, TURN, adding_tokenizer, chat_tokenizer
from support.runs import run_config

START = "<|im_start|>"  # stands in for a BOS token
KINDS = {"nothing": ("", ""), "BOS": (START, ""), "EOS": ("", END), "both": (START, END)}
PLAIN = ["1 + 1 = ?", "find x."]
CHAT = [f"{START}user\n1 + 1 = ?{TURN}\n{START}assistant\n", f"{START}user\nfind x.{TURN}\n"]


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def adding(kind, tmp_path):
    """A tokenizer that adds tokens, as it is loaded from a checkpoint."""
    adding_tokenizer(*kind).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    return load_tokenizer(tmp_path)


def by_hand(text: str) -> list[int]:
    """The ids of a text in the vocabulary that has a token per character beside the special ones."""
    vocabulary, ids = chat_tokenizer().get_vocab(), []
    while text:
        token = next((name for name in (START, TURN, END) if text.startswith(name)), text[0])
        ids.append(vocabulary[token])
        text = text[len(token) :]
    return ids


def test_the_tokenizers_of_these_tests_add_what_they_are_said_to_add(adding, kind):
    front, back = kind
    assert adding(PLAIN[0])["input_ids"] == by_hand(front + PLAIN[0] + back)
    assert adding(CHAT[0])["input_ids"] == by_hand(front + CHAT[0] + back)


def test_a_plain_prompt_gets_what_goes_in_front_and_nothing_after_it(adding, kind):
    assert encode_prompts(adding, PLAIN) == [by_hand(kind[0] + text) for text in PLAIN]


def test_a_prompt_that_begins_with_bos_has_it_once(adding):
    assert encode_prompts(adding, CHAT) == [by_hand(text) for text in CHAT]


def test_a_prompt_is_what_the_chat_template_makes_when_it_tokenizes_itself(adding):
    adding.chat_template = chat_tokenizer().chat_template
    messages = [{"role": "user", "content": "1 + 1 = ?"}]
    make = {"conversation": messages, "add_generation_prompt": True}
    text = adding.apply_chat_template(**make, tokenize=False)
    expected = adding.apply_chat_template(**make, tokenize=True, return_dict=False)
    assert encode_prompts(adding, [text]) == [expected]


def test_prompts_that_repeat_their_first_or_last_token_lose_none(adding, kind):
    front, _ = kind
    texts = [START, END, START + START + "a", "a" + END + END, START + "a" + START]
    expected = [text if text.startswith(START) else front + text for text in texts]
    assert encode_prompts(adding, texts) == [by_hand(text) for text in expected]


def test_a_continuation_gets_nothing_from_the_tokenizer(adding):
    assert encode_continuations(adding, [*PLAIN, *CHAT]) == [*map(by_hand, [*PLAIN, *CHAT])]


def test_a_worked_solution_has_one_end_and_no_second_beginning(adding, kind):
    record = {"prompt": "1 + 1 = ?", "solution": "2"}
    assert encode_solutions([record], adding) == [
        (by_hand(kind[0] + "1 + 1 = ?"), by_hand("2" + END))
    ]


def test_a_tokenizer_that_changes_the_text_itself_is_refused():
    class Odd:
        def __call__(self, texts, add_special_tokens=True):
            return {"input_ids": [[1, 5, 7] if add_special_tokens else [5, 6] for _ in texts]}

    with pytest.raises(ConfigError, match="reads a text otherwise where it adds special tokens"):
        encode_prompts(Odd(), ["a"])


# Wherever prompts are read

PROBLEMS = [
    {"id": f"p{i}", "prompt": text, "answer": "2"} for i, text in enumerate([*PLAIN, *CHAT])
]


class Listener:
    """An engine that keeps what it is asked."""

    def __init__(self):
        self.prompts = []

    def load_weights(self, weights):
        pass

    def generate(self, prompts, sampling):
        self.prompts += prompts
        return [Completion([5, 0], "2", "stop", [0.0, 0.0]) for _ in prompts]


def believe(answer, completion):
    return Reward(1.0, "correct")


def expected_prompts(front):
    return [by_hand(text if text.startswith(START) else front + text) for text in (*PLAIN, *CHAT)]


def test_evaluation_and_validation_ask_for_such_prompts(adding, kind):
    engine = Listener()
    evaluate_problems(
        PROBLEMS, engine, adding, believe, samples=1, temperature=1.0, max_tokens=4, seed=0
    )
    expected = [prompt for prompt in expected_prompts(kind[0]) for _ in range(2)]
    assert engine.prompts == expected  # greedy and sampled


def test_rollouts_ask_for_such_prompts_and_score_them(adding, kind, model):
    engine = Listener()
    actors = Actors(model, None, engine, adding, believe, dict)
    rollout = collect_rollout(run_config(), actors, PROBLEMS, step=1)
    group = len(rollout.prompts) // len(PROBLEMS)
    assert engine.prompts == rollout.prompts
    assert rollout.prompts[::group] == expected_prompts(kind[0])


def test_lengths_are_those_of_such_prompts(adding, kind):
    longest = max(map(len, expected_prompts(kind[0])))
    check_lengths(PROBLEMS, adding, longest + 8, 8, Path("train.jsonl"))
    with pytest.raises(ConfigError, match=f"has {longest} prompt tokens"):
        check_lengths(PROBLEMS, adding, longest + 7, 8, Path("train.jsonl"))
