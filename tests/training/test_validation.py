"""Validation repeats itself on the first problems."""

from sspo.config.rollout import SamplingConfig
from sspo.config.settings import ValidationConfig
from sspo.rewards.exact import exact_reward
from sspo.rollout.torch_engine import TorchEngine
from sspo.training.validation import make_validation
from support.supervised_runs import PROBLEMS


def test_validation_repeats_itself_and_uses_the_first_problems_only(model, tokenizer):
    engine = TorchEngine(model, tokenizer, shares_policy=True)
    sampling = SamplingConfig(temperature=1.0, max_response_tokens=8, max_batch=64, stop_tokens=())
    one = ValidationConfig(problems=1, samples=2)
    make = [
        make_validation(problems, engine, tokenizer, exact_reward, one, sampling, 0)
        for problems in (PROBLEMS, PROBLEMS[:1])
    ]
    assert make[0]() == make[0]() == make[1]()
    assert set(make[0]()) == {"greedy", "pass@1"}
