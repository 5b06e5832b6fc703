"""The static decoder, whose steps a GPU repeats as graphs, against the eager one."""

import pytest
import torch

from sspo.rollout.engine import Sampling
from sspo.rollout.torch_engine import TorchEngine
from support.engines import assert_close, perturb, seeds_of, token_ids


@pytest.fixture
def static(model, tokenizer):
    return TorchEngine(model, tokenizer, shares_policy=True, cuda_graphs=True)


@pytest.mark.parametrize("max_tokens", [1, 2, 40])
def test_greedy_tokens_are_those_of_the_eager_decoder(engine, static, prompts, max_tokens):
    request = prompts, Sampling(max_tokens, temperature=0.0)
    assert_close(static.generate(*request), engine.generate(*request))


def test_sampled_tokens_are_those_of_the_eager_decoder_while_rows_finish(engine, static, prompts):
    request = prompts * 3, Sampling(60, 1.0, seeds_of(prompts * 3))
    expected = engine.generate(*request)
    ends = sorted(len(c.token_ids) for c in expected)
    assert ends[0] < ends[len(ends) // 2] < ends[-1]  # some shrink the batch, some do not
    assert_close(static.generate(*request), expected)


def test_new_weights_are_sampled_from(engine, static, model, prompts):
    request = prompts, Sampling(20, temperature=0.0)
    before = token_ids(static.generate(*request))
    perturb(model, seed=1)
    after = static.generate(*request)
    assert token_ids(after) != before
    assert_close(after, engine.generate(*request))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_graphs_give_the_eager_tokens_on_a_gpu(model, tokenizer, prompts):
    on_gpu = model.to("cuda")
    eager, graphs = (TorchEngine(on_gpu, tokenizer, cuda_graphs=flag) for flag in (False, True))
    for request in (
        (prompts, Sampling(40, temperature=0.0)),
        (prompts * 3, Sampling(60, 1.0, seeds_of(prompts * 3))),
    ):
        assert token_ids(graphs.generate(*request)) == token_ids(eager.generate(*request))
