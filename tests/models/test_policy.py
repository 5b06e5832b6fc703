"""Scoring against a naive computation, building, saving and loading models, the tokenizer."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sspo.config.errors import ConfigError
from sspo.config.settings import ComputeConfig, LoraConfig, ModelConfig
from sspo.data import tasks
from sspo.models.policy import (
    ScoreBatch,
    build_model,
    load_model,
    load_policy,
    load_reference,
    load_tokenizer,
    save_model,
    score,
)
from sspo.models.tokenizer import EOS, PAD, UNK, character_tokenizer

TOLERANCE = {"rtol": 0.0, "atol": 2e-5}  # nats, float32 against float64
SAME = {"rtol": 1e-4, "atol": 2e-6}  # the same numbers in another order of summation


def make_rows(tokenizer, count=7, seed=0) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of 1 to 9 tokens and responses of 1 to 14, in no order of length."""
    rng = random.Random(seed)
    prompts = [
        [rng.randrange(3, len(tokenizer)) for _ in range(rng.randint(1, 9))] for _ in range(count)
    ]
    responses = [
        [*(rng.randrange(3, len(tokenizer)) for _ in range(rng.randint(0, 13))), 1]
        for _ in range(count)
    ]
    return prompts, responses


def naive_rows(model, prompts, responses, temperature):
    """Per row, alone and unpadded, from full logits in float64: log-probabilities and entropies."""
    model = copy.deepcopy(model).double()
    rows = []
    for prompt, response in zip(prompts, responses, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + response])).logits[0].double() / temperature
        probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
        positions = range(len(prompt) - 1, len(prompt) + len(response) - 1)
        chosen = [probabilities[i, t].log() for i, t in zip(positions, response, strict=True)]
        entropies = [-(probabilities[i] * probabilities[i].log()).sum() for i in positions]
        rows.append((torch.stack(chosen), torch.stack(entropies)))
    return rows


def weighted_gradient(model, prompts, responses, weights, **options):
    """Gradient of a sum of log-probabilities whose weights depend on row and position only."""
    model.zero_grad(set_to_none=True)
    batch = ScoreBatch.collate(prompts, responses, "cpu")
    logprobs, _ = score(model, batch, **options)
    for row, weight in zip(logprobs, weights, strict=True):
        (row[: len(weight)] * weight).sum().backward(retain_graph=True)
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.fixture
def rows(tokenizer):
    return make_rows(tokenizer)


@pytest.fixture
def weights(rows):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(len(r), generator=generator) for r in rows[1]]


def run_settings(gradient_checkpointing=False, dtype="float32", rank=0, kl_every=1):
    """What loading a policy reads of a run's configuration."""
    return SimpleNamespace(
        seed=0,
        train=SimpleNamespace(gradient_checkpointing=gradient_checkpointing, kl_every=kl_every),
        lora=LoraConfig(rank=rank, alpha=8.0),
        compute=ComputeConfig(device="cpu", dtype=dtype, threads=1),
    )


# Scores


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
def test_scores_equal_a_naive_computation_row_by_row(model, rows, temperature):
    logprobs, entropy = score(model, ScoreBatch.collate(*rows, "cpu"), temperature=temperature)
    expected = naive_rows(model, *rows, temperature)
    for i, (chosen, entropies) in enumerate(expected):
        count = len(rows[1][i])
        torch.testing.assert_close(logprobs[i, :count].double(), chosen, **TOLERANCE)
        torch.testing.assert_close(entropy[i, :count].double(), entropies, **TOLERANCE)
    assert torch.cat([chosen for chosen, _ in expected]).std() > 0.3  # tokens differ, or all agree


def test_scores_are_float32_and_zero_on_padding(model, rows):
    batch = ScoreBatch.collate(*rows, "cpu")
    for values in score(model, batch):
        assert values.shape == batch.mask.shape == (7, max(map(len, rows[1])))
        assert values.dtype == torch.float32
        assert (values[batch.mask == 0] == 0).all()
    assert batch.mask.sum(1).tolist() == [len(r) for r in rows[1]]


def test_scores_of_a_half_precision_model_are_float32_and_near(model, rows):
    batch = ScoreBatch.collate(*rows, "cpu")
    expected, _ = score(model, batch)
    logprobs, entropy = score(copy.deepcopy(model).bfloat16(), batch)
    assert logprobs.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(logprobs, expected, rtol=0.0, atol=0.2)


def test_scores_computed_in_bfloat16_are_near_and_leave_the_weights_in_float32(model, rows):
    batch = ScoreBatch.collate(*rows, "cpu")
    expected, _ = score(model, batch)
    logprobs, entropy = score(model, batch, dtype="bfloat16")
    assert logprobs.dtype == entropy.dtype == torch.float32
    assert not torch.equal(logprobs, expected)
    torch.testing.assert_close(logprobs, expected, rtol=0.0, atol=0.2)
    logprobs.sum().backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_recomputed_activations_change_no_bit_of_values_and_gradients(
    model, rows, weights, tmp_path, tokenizer, dtype
):
    save_model(model, tokenizer, tmp_path)
    found = {}
    for recompute in (False, True):
        policy = load_policy(tmp_path, run_settings(recompute, dtype))
        runs = []
        layer = policy.base_model.layers[0].mlp
        hook = layer.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        with hook:
            found[recompute] = weighted_gradient(policy, *rows, weights, dtype=dtype)
        assert (len(runs) > 1) == recompute
    assert torch.equal(found[True], found[False])


def test_recomputed_activations_switch_dropout_off(model, tokenizer, tmp_path):
    model.config.attention_dropout = 0.5
    save_model(model, tokenizer, tmp_path)
    policy = load_policy(tmp_path, run_settings(gradient_checkpointing=True))
    assert policy.training
    assert {layer.self_attn.attention_dropout for layer in policy.base_model.layers} == {0.0}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_policy_is_float32_and_its_reference_the_same_model(model, tokenizer, tmp_path, dtype):
    save_model(model, tokenizer, tmp_path)
    settings = run_settings(dtype=dtype)
    policy, reference = load_policy(tmp_path, settings), load_reference(tmp_path, settings)
    assert policy.dtype == reference.dtype == torch.float32
    assert reference is not policy
    assert load_reference(tmp_path, run_settings(kl_every=0)) is None


def test_entropy_has_no_gradient(model, rows):
    for chunk_tokens in (5, 4096):
        logprobs, entropy = score(
            model, ScoreBatch.collate(*rows, "cpu"), chunk_tokens=chunk_tokens
        )
        assert logprobs.requires_grad
        assert not entropy.requires_grad


def test_the_gradient_equals_that_of_full_logits(model, rows, weights):
    gradient = weighted_gradient(model, *rows, weights, temperature=0.7)
    reference = copy.deepcopy(model).double()
    reference.zero_grad(set_to_none=True)
    for prompt, response, weight in zip(*rows, weights, strict=True):
        logits = reference(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        chosen = (logits.double() / 0.7).log_softmax(-1)[range(len(response)), response]
        (chosen * weight).sum().backward()
    expected = torch.cat([p.grad.flatten() for p in reference.parameters()])
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk_tokens", [1, 5, 1000])
def test_chunks_change_neither_values_nor_gradients(model, rows, weights, chunk_tokens):
    batch = ScoreBatch.collate(*rows, "cpu")
    for chunked, whole in zip(
        score(model, batch, chunk_tokens=chunk_tokens), score(model, batch), strict=True
    ):
        torch.testing.assert_close(chunked, whole, **SAME)
    whole = weighted_gradient(model, *rows, weights)
    chunked = weighted_gradient(model, *rows, weights, chunk_tokens=chunk_tokens)
    torch.testing.assert_close(chunked, whole, **SAME)


class WidestLogits(TorchDispatchMode):
    """Notes the most rows of any tensor with one column per vocabulary entry, the head's apart."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.vocabulary, self.width, self.rows = vocabulary, width, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.shape[-1:] == (self.vocabulary,):
                rows = tensor.numel() // self.vocabulary
                self.rows = max(self.rows, rows if rows != self.width else 0)
        return result


def test_logits_of_more_than_a_chunk_never_exist_forward_or_backward(model, rows):
    vocabulary = 37  # unlike any other size in the model
    model.resize_token_embeddings(vocabulary)
    batch = ScoreBatch.collate(*rows, "cpu")
    tokens = int(batch.mask.sum())
    for chunk_tokens, most in ((6, 6), (4096, tokens)):
        with WidestLogits(vocabulary, model.config.hidden_size) as widest:
            logprobs, _ = score(model, batch, chunk_tokens=chunk_tokens)
            logprobs.sum().backward()
        assert widest.rows == most
    assert tokens > 40


def test_logits_are_not_kept_for_the_backward_pass(model, rows):
    vocabulary = 37
    model.resize_token_embeddings(vocabulary)
    kept = []

    def note(tensor):
        if tensor.shape[-1:] == (vocabulary,):
            kept.append(tensor.numel() // vocabulary)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        score(model, ScoreBatch.collate(*rows, "cpu"), chunk_tokens=6)
        assert kept == []
        score(model, ScoreBatch.collate(*rows, "cpu"))
        assert kept != []  # the hook does see logits where there is one chunk


def test_padding_and_order_of_the_batch_change_neither_values_nor_gradients(model, rows, weights):
    prompts, responses = rows
    logprobs, entropy = score(model, ScoreBatch.collate(prompts, responses, "cpu"))
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        alone = score(model, ScoreBatch.collate([prompt], [response], "cpu"))
        torch.testing.assert_close(alone[0][0], logprobs[i, : len(response)], **SAME)
        torch.testing.assert_close(alone[1][0], entropy[i, : len(response)], **SAME)
    order = [4, 0, 6, 2, 1, 5, 3]
    shuffled = ScoreBatch.collate([prompts[i] for i in order], [responses[i] for i in order], "cpu")
    torch.testing.assert_close(score(model, shuffled)[0], logprobs[order], **SAME)
    gradient = weighted_gradient(model, prompts, responses, weights)
    parts = [
        weighted_gradient(model, [prompts[i]], [responses[i]], [weights[i]])
        for i in range(len(prompts))
    ]
    torch.testing.assert_close(sum(parts), gradient, **SAME)


def test_collate_puts_every_response_at_column_zero():
    batch = ScoreBatch.collate([[5, 6, 7], [8]], [[9], [3, 4]], "cpu")
    assert batch.input_ids.tolist() == [[5, 6, 7, 9], [8, 3, 4, 0]]
    assert batch.starts.tolist() == [3, 1]
    assert batch.response_ids.tolist() == [[9, 0], [3, 4]]
    assert batch.mask.tolist() == [[1, 0], [1, 1]]


# Models


def test_build_model_is_a_function_of_config_and_seed_and_leaves_the_generator_alone():
    sizes = ModelConfig(hidden_size=32, layers=2, heads=1, mlp_size=64, context=128)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = build_model(sizes, 18, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    second, other = build_model(sizes, 18, seed=0), build_model(sizes, 18, seed=1)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    assert any(not torch.equal(t, other.state_dict()[n]) for n, t in first.state_dict().items())


def test_build_model_has_the_sizes_of_its_config():
    sizes = ModelConfig(hidden_size=48, layers=3, heads=2, mlp_size=80, context=96)
    model = build_model(sizes, 21, seed=0)
    attention = 4 * 48 * 48 + 2 * 24  # q, k, v, o and the norms of queries and keys
    layer = attention + 3 * 48 * 80 + 2 * 48
    assert sum(p.numel() for p in model.parameters()) == 21 * 48 + 3 * layer + 48
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.config.max_position_embeddings == 96
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_saved_model_loads_with_the_same_weights_and_scores(model, tokenizer, rows, tmp_path):
    save_model(model, tokenizer, tmp_path)
    batch = ScoreBatch.collate(*rows, "cpu")
    expected, _ = score(model, batch)
    for loaded in (load_model(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)):
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor)
        assert torch.equal(score(loaded, batch)[0], expected)
    assert load_model(tmp_path, "bfloat16").dtype == torch.bfloat16


def refusal(load, folder) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def truncate(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("load", [load_model, load_tokenizer])
def test_a_missing_checkpoint_is_one_line_with_its_folder(load, tmp_path):
    assert refusal(load, tmp_path / "none").startswith(f"{tmp_path / 'none'}: no checkpoint here")
    assert refusal(load, tmp_path).startswith(f"{tmp_path}: no checkpoint here")


@pytest.mark.parametrize(
    "name, load",
    [
        ("model.safetensors", load_model),
        ("config.json", load_model),
        ("tokenizer.json", load_tokenizer),
        ("tokenizer_config.json", load_tokenizer),
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_checkpoint_is_one_line_with_its_folder(
    model, tokenizer, tmp_path, name, load, share
):
    save_model(model, tokenizer, tmp_path)
    load(tmp_path)
    truncate(tmp_path / name, share)
    assert refusal(load, tmp_path).startswith(f"{tmp_path}: checkpoint cannot be read (")


def test_a_checkpoint_without_its_weights_is_one_line_with_its_folder(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert refusal(load_model, tmp_path).startswith(f"{tmp_path}: checkpoint cannot be read (")


def test_a_checkpoint_that_lacks_weights_is_refused_not_filled_with_random_ones(
    model, tokenizer, tmp_path
):
    save_model(model, tokenizer, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert str(tmp_path) in refusal(load_model, tmp_path)


def test_an_error_without_a_message_is_still_one_line(model, tokenizer, tmp_path, monkeypatch):
    save_model(model, tokenizer, tmp_path)

    def fail(*args, **kwargs):
        raise EOFError

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    assert refusal(load_tokenizer, tmp_path).startswith(f"{tmp_path}: checkpoint cannot be read (")


# Tokenizer


def test_every_character_is_one_token_and_comes_back(tokenizer):
    for character in tasks.CHARACTERS:
        (token,) = tokenizer(character)["input_ids"]
        assert tokenizer.decode([token]) == character
    ids = tokenizer(tasks.CHARACTERS)["input_ids"]
    assert sorted(ids) == list(range(3, len(tokenizer)))
    assert tokenizer.decode(ids) == tasks.CHARACTERS


def test_any_text_of_known_characters_comes_back_without_added_spaces():
    characters = "ab \n\té\U0001f600#"
    tokenizer = character_tokenizer(characters)
    rng = random.Random(0)
    for _ in range(200):
        text = "".join(rng.choices(characters, k=rng.randint(0, 12)))
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text)
        assert tokenizer.decode(ids) == text


def test_special_tokens_have_fixed_ids_and_are_dropped_from_text(tokenizer):
    assert tokenizer.convert_tokens_to_ids([PAD, EOS, UNK]) == [0, 1, 2]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    ids = [*tokenizer("#12")["input_ids"], 1, 0, 0]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "#12"


def test_an_unknown_character_is_one_unknown_token(tokenizer):
    assert tokenizer("1?2")["input_ids"][1] == 2
    assert len(tokenizer("1?2")["input_ids"]) == 3


def test_a_saved_tokenizer_is_the_same_to_auto_tokenizer(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path)
    text = tasks.CHARACTERS * 2
    for loaded in (load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert isinstance(loaded, PreTrainedTokenizerFast)
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.decode(loaded(text)["input_ids"]) == text
        assert (loaded.pad_token_id, loaded.eos_token_id) == (0, 1)
        assert loaded("1?")["input_ids"] == tokenizer("1?")["input_ids"]


def test_what_a_killed_process_left_while_saving_is_gone_after_the_next(tmp_path):
    tokenizer = character_tokenizer("abc")
    model = build_model(
        ModelConfig(hidden_size=16, layers=1, heads=1, mlp_size=16, context=32),
        len(tokenizer),
        seed=0,
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ".tmpAbC123").write_bytes(b"half of the weights")
    save_model(model, tokenizer, tmp_path / "model")
    assert not list((tmp_path / "model").glob(".tmp*"))
    assert (tmp_path / "model" / "model.safetensors").stat().st_size > 0
