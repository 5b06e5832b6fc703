"""A published checkpoint that cannot be used is refused: the folder, what is wrong, what to do."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from sspo.config.errors import ConfigError
from sspo.config.settings import CheckpointConfig
from sspo.models.pretrained import checkpoint_files, load_published
from support.published import chat_tokenizer, edit_json, edit_weights, published, saved

PROJECTION = "model.layers.1.mlp.up_proj.weight"


def refusal(call, config) -> str:
    with pytest.raises(ConfigError) as caught:
        call(config)
    message = str(caught.value)
    assert "\n" not in message
    # Another program's folder is not ours to delete, and no rule of ours made it.
    assert "delete" not in message and "its rule" not in message
    return message


def config_of(folder) -> CheckpointConfig:
    return CheckpointConfig(source=str(folder), revision="")


# What file names and config.json show, before anything runs


def pickle_weights(folder):
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def lose_a_shard(folder):
    shutil.rmtree(folder)
    saved(folder, max_shard_size="40KB")
    sorted(folder.glob("*.safetensors"))[1].unlink()


def keep_adapters_alone(folder):
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


def quantize(folder):
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    edit_json(folder / "config.json", quantization_config=quantization)


def remove(pattern):
    return lambda folder: [file.unlink() for file in folder.glob(pattern)]


EARLY = {
    "pickled weights alone": (pickle_weights, ["pytorch_model.bin", "save_pretrained"]),
    "no weights": (remove("*.safetensors"), ["has no model.safetensors", "save_pretrained"]),
    "weights of another program": (
        lambda folder: (folder / "model.safetensors").rename(folder / "model.gguf"),
        ["model.gguf", "save_pretrained"],
    ),
    "weights under another name": (
        lambda folder: (folder / "model.safetensors").rename(folder / "consolidated.safetensors"),
        ["has no model.safetensors", "consolidated.safetensors"],
    ),
    "a missing shard": (
        lose_a_shard,
        ["lacks model-00002-of-0000", "fetch the model again in full"],
    ),
    "adapters alone": (keep_adapters_alone, ["adapters alone", "merge them into their base model"]),
    "no config": (remove("config.json"), ["no config.json", "fetch the model again"]),
    "a damaged config": (
        lambda folder: (folder / "config.json").write_text('{"model_type": '),
        ["config.json is not a JSON object", "fetch the model again"],
    ),
    "quantized weights": (
        quantize,
        ["quantized (gptq)", "choose the model that they were made from"],
    ),
    "weights that AutoGPTQ quantized": (
        lambda folder: (folder / "quantize_config.json").write_text('{"bits": 4}'),
        ["quantized (GPTQ)", "choose the model"],
    ),
    "no tokenizer": (remove("tokenizer*"), ["has no tokenizer", "tokenizer.json"]),
}


@pytest.mark.parametrize("kind", EARLY)
def test_what_file_names_show_is_refused_before_anything_runs_and_by_the_import(tmp_path, kind):
    damage, fragments = EARLY[kind]
    saved(tmp_path / "mine")
    damage(tmp_path / "mine")
    for call in (checkpoint_files, load_published):
        message = refusal(call, config_of(tmp_path / "mine"))
        assert str(tmp_path / "mine") in message
        assert all(fragment in message for fragment in fragments), message


def test_weights_beside_pickled_copies_of_themselves_are_used(tmp_path):
    config = saved(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    assert not any(file.endswith(".bin") for file in checkpoint_files(config))
    load_published(config)


def test_a_folder_that_is_not_there_may_be_meant_as_a_repository_of_the_hub(tmp_path):
    for source in (str(tmp_path / "missing"), "Qwen/Qwen2.5-Math-1.5B"):
        config = CheckpointConfig(source=source, revision="")
        message = refusal(checkpoint_files, config)
        assert source in message and "no such folder" in message
        assert "checkpoint.revision" in message


def test_a_repository_without_usable_weights_is_refused_once_it_is_here(tmp_path, monkeypatch):
    import huggingface_hub

    saved(tmp_path)
    quantize(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    config = CheckpointConfig(source="someone/model-GPTQ", revision="0" * 40)
    assert checkpoint_files(config) == []
    assert "quantized (gptq)" in refusal(load_published, config)


# What only the weights and transformers show


def break_off(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def leave_a_pointer(folder):
    """What a clone without git-lfs has in place of the weights."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3087467144\n"
    (folder / "model.safetensors").write_text(pointer)


def set_value(name, value):
    def change(weights):
        weights[name].view(-1)[3] = value

    return lambda folder: edit_weights(folder, change)


def reshape(folder):
    edit_weights(
        folder, lambda weights: weights.update({PROJECTION: weights[PROJECTION][:5].clone()})
    )


def settings(**changes):
    return lambda folder: edit_json(folder / "config.json", **changes)


LATE = {
    "a missing weight": (
        lambda folder: edit_weights(folder, lambda weights: weights.pop(PROJECTION)),
        [f"lacks the weight {PROJECTION}", "fetch the model again"],
    ),
    "a weight of another shape": (reshape, ["another shape", PROJECTION]),
    "a weight without a place": (
        lambda folder: edit_weights(folder, lambda w: w.update(score=torch.zeros(2, 2))),
        ["no place for, score", "save it again"],
    ),
    "half a file": (break_off, ["cannot be read", "fetch the model again"]),
    "a pointer of git-lfs": (leave_a_pointer, ["cannot be read", "git lfs pull"]),
    "an unknown architecture": (
        settings(model_type="foo", architectures=["FooForCausalLM"]),
        ["model_type = 'foo' is unknown to transformers", "choose a causal language model"],
    ),
    "an architecture with code of its own": (
        settings(model_type="foo", auto_map={"AutoModelForCausalLM": "modeling_foo.Foo"}),
        ["model_type = 'foo'", "code of a checkpoint is never run"],
    ),
    "no architecture": (
        settings(model_type=None),
        ["model_type = None", "choose a causal language model"],
    ),
    "an encoder and decoder": (
        settings(model_type="t5", architectures=["T5ForConditionalGeneration"]),
        ["T5ForConditionalGeneration (t5) is no causal language model"],
    ),
    "a classifier of a known kind": (
        settings(architectures=["Qwen2ForSequenceClassification"]),
        ["Qwen2ForSequenceClassification (qwen2) is no causal language model"],
    ),
    "an encoder that could be loaded as a language model": (
        settings(model_type="bert", architectures=["BertForMaskedLM"]),
        ["BertForMaskedLM (bert) is no causal language model"],
    ),
    "NaN in a weight": (
        set_value(PROJECTION, torch.nan),
        [f"the weight {PROJECTION} holds NaN or infinity", "fetch the model again"],
    ),
    "infinity in the embedding": (
        set_value("model.embed_tokens.weight", -torch.inf),
        ["the weight model.embed_tokens.weight holds NaN or infinity"],
    ),
    "sampling defaults that cannot be saved": (
        lambda folder: edit_json(
            folder / "generation_config.json", do_sample=False, temperature=0.6
        ),
        ["generation_config.json", "temperature", "correct this file"],
    ),
    "another name for the context": (
        settings(max_position_embeddings=None),
        ["no max_position_embeddings"],
    ),
    "sliding windows": (
        settings(
            layer_types=["sliding_attention", "full_attention"],
            use_sliding_window=True,
            sliding_window=16,
        ),
        ["sliding_attention: not supported"],
    ),
    "scaled logits": (settings(logits_scaling=8.0), ["its config has logits_scaling = 8.0"]),
    "capped logits": (
        settings(final_logit_softcapping=8.0),
        ["its config has final_logit_softcapping = 8.0"],
    ),
}


@pytest.mark.parametrize("kind", LATE)
def test_what_the_weights_show_is_refused_by_the_import(tmp_path, kind):
    damage, fragments = LATE[kind]
    saved(tmp_path / "mine")
    damage(tmp_path / "mine")
    message = refusal(load_published, config_of(tmp_path / "mine"))
    assert str(tmp_path / "mine") in message
    assert all(fragment in message for fragment in fragments), message


def test_a_config_that_names_no_class_is_taken_for_the_language_model_of_its_kind(tmp_path):
    config = saved(tmp_path)
    edit_json(tmp_path / "config.json", architectures=None, logits_scaling=1.0)
    assert load_published(config)[0].num_parameters() == published("qwen2").num_parameters()


@pytest.mark.parametrize("tied", [False, True])
def test_a_nan_is_found_in_every_weight_that_a_checkpoint_has(tmp_path, tied):
    published("qwen2", tied).save_pretrained(tmp_path)
    chat_tokenizer().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    for name in whole:
        changed = {n: t.clone() for n, t in whole.items()}
        changed[name].view(-1)[-1] = torch.nan
        save_file(changed, file, metadata={"format": "pt"})
        assert f"the weight {name} holds" in refusal(load_published, config_of(tmp_path))


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    config = saved(tmp_path)
    tokenizer = chat_tokenizer()
    tokenizer.add_tokens([f"<extra{i}>" for i in range(100)])
    tokenizer.save_pretrained(tmp_path)
    assert "do not belong together" in refusal(load_published, config)


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path):
    config = saved(tmp_path)
    tokenizer = chat_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    assert "no end token" in refusal(load_published, config)
