"""Batches and micro-batches: every item once, in an order that the arguments alone decide."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import numpy as np
import pytest

from sspo.data.batching import batches, distinct, micro_batches

# Batches


@pytest.mark.parametrize("count, size", [(10, 4), (7, 7), (5, 12), (9, 1), (1, 3)])
def test_every_epoch_covers_every_item_exactly_once(count, size):
    epochs = 12
    stream = itertools.chain.from_iterable(batches(count, size, seed=3))
    for _ in range(epochs):
        assert sorted(itertools.islice(stream, count)) == list(range(count))


def test_batches_are_full_and_endless_and_span_epochs():
    drawn = list(itertools.islice(batches(10, 4, seed=0), 200))
    assert {len(batch) for batch in drawn} == {4}
    assert set(Counter(itertools.chain.from_iterable(drawn)).values()) == {80}


def test_every_epoch_has_a_fresh_order():
    stream = itertools.chain.from_iterable(batches(20, 5, seed=0))
    epochs = {tuple(itertools.islice(stream, 20)) for _ in range(10)}
    assert len(epochs) == 10
    assert tuple(range(20)) not in epochs


def test_batches_are_a_function_of_the_arguments_alone():
    def drawn(seed):
        return list(itertools.islice(batches(30, 8, seed), 20))

    first = drawn(0)
    np.random.seed(7)
    random.seed(7)
    assert drawn(0) == first
    assert drawn(1) != first
    resumed = batches(30, 8, 0)
    for _ in range(11):
        next(resumed)
    assert list(itertools.islice(resumed, 9)) == first[11:]


def test_a_problem_that_occurs_again_in_a_rollout_gets_samples_of_its_own():
    records = [{"id": name, "prompt": "p"} for name in "abaa"]
    found = distinct(records)
    assert [r["id"] for r in found] == ["a", "b", "a (2)", "a (3)"]
    assert {r["prompt"] for r in found} == {"p"} and records[2]["id"] == "a"


# Micro-batches


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_micro_batches_hold_every_row_once_longest_first(size):
    rng = random.Random(0)
    lengths = [rng.randint(1, 12) for _ in range(29)]
    groups = micro_batches(lengths, size)
    rows = [row for group in groups for row in group]
    assert sorted(rows) == list(range(29))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)
    assert [len(group) for group in groups[:-1]] == [min(size, 29)] * (len(groups) - 1)
    assert 1 <= len(groups[-1]) <= size


def test_a_token_budget_counts_padding_and_leaves_no_row_out():
    lengths = [3, 9, 30, 4, 9, 2, 5]
    groups = micro_batches(lengths, 4, tokens=20)
    assert groups == [[2], [1, 4], [6, 3, 0, 5]]  # 30 alone; 2 x 9; 4 x 5
    assert micro_batches(lengths, 4, tokens=0) == micro_batches(lengths, 4)


def test_micro_batches_keep_the_order_of_equal_lengths():
    assert micro_batches([5, 9, 5, 9, 5], 2) == [[1, 3], [0, 2], [4]]
    assert micro_batches([], 4) == []
