"""Sampling with a vLLM server: what it samples, how it follows the policy, and what is refused."""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sspo.config.errors import ConfigError
from sspo.rollout.engine import Sampling
from sspo.rollout.factory import make_engine
from sspo.rollout.vllm_server import ADDRESS, VllmServerEngine
from support.engines import (
    CONTEXT,
    SAMPLING,
    assert_close,
    assert_depends_on_own_seed_only,
    assert_first_tokens_follow_softmax,
    assert_follows_every_load,
    assert_scores_match,
    compute,
    engine_called,
    perturb,
    seeds_of,
)
from support.vllm_serving import serving


@pytest.fixture(scope="module")
def address(folder, tmp_path_factory):
    """A server of the checkpoint, for the whole module."""
    pytest.importorskip("vllm", reason="vLLM is not installed (`make vllm`)")
    with serving(folder, tmp_path_factory.mktemp("server") / "log") as address:
        yield address


@pytest.fixture
def server(address, folder, tokenizer, model, tmp_path, monkeypatch):
    """An engine of that server with the weights of ``model``, whatever an earlier test loaded."""
    monkeypatch.setenv(ADDRESS, address)
    settings, scratch = engine_called("vllm_server"), tmp_path / "engine"
    engine = make_engine(settings, SAMPLING, compute(), folder, tokenizer, model, scratch)
    engine.load_weights(model.state_dict())
    yield engine
    engine.close()
    assert not (tmp_path / "engine").exists()


@pytest.mark.vllm
def test_a_server_follows_every_load_and_greedily_equals_torch(server, engine, model, prompts):
    greedy = Sampling(40, temperature=0.0)
    assert_close(server.generate(prompts, greedy), engine.generate(prompts, greedy))
    assert_follows_every_load(server, engine, model, prompts)


@pytest.mark.vllm
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_servers_logprobs_equal_those_of_scoring(server, model, prompts, temperature):
    completions = server.generate(prompts, Sampling(60, temperature, seeds_of(prompts)))
    assert_scores_match(model, prompts, completions, temperature)


@pytest.mark.vllm
def test_a_servers_first_tokens_follow_the_softmax(server, model):
    assert_first_tokens_follow_softmax(server, model, 1.0)


@pytest.mark.vllm
def test_a_sample_of_a_server_depends_on_its_own_seed_only(server, prompts):
    assert_depends_on_own_seed_only(server, prompts)


@pytest.mark.vllm
def test_tied_weights_reach_the_server_under_both_names(server, model, prompts):
    """Two names of one tensor cannot both stand in a safetensors file as they are."""
    perturb(model, seed=2)
    weights = model.state_dict()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    server.load_weights(weights)
    found = server.generate(prompts, Sampling(20, temperature=0.0))
    model.load_state_dict(weights)
    assert_scores_match(model, prompts, found, 1.0)


@pytest.mark.vllm
def test_no_run_learns_from_responses_to_the_weights_of_another_run(
    server, folder, tokenizer, model, prompts, tmp_path
):
    other = VllmServerEngine(folder, tokenizer, weights=tmp_path / "other")
    other.load_weights(model.state_dict())
    greedy = Sampling(4, temperature=0.0)
    other.generate(prompts, greedy)
    with pytest.raises(RuntimeError, match=f"{other.name}-1, not from {server.name}-1: it serves"):
        server.generate(prompts, greedy)
    server.load_weights(model.state_dict())
    server.generate(prompts, greedy)
    with pytest.raises(RuntimeError, match=f"{server.name}-2, not from {other.name}-1: it serves"):
        other.generate(prompts, greedy)


@pytest.mark.vllm
def test_one_copy_of_the_weights_stays_beside_a_run(server, model, tmp_path):
    for _ in range(2):
        server.load_weights(model.state_dict())
    (kept,) = (tmp_path / "engine").iterdir()
    assert kept.name == server.version


# What is refused, by servers that only answer

GOOD = {
    "dtype": "torch.float32", "logprobs_mode": "processed_logprobs", "max_model_len": CONTEXT,
    "quantization": None,
}  # fmt: skip
TOKEN = {
    "token_ids": [5], "finish_reason": "stop", "logprobs": {"content": [{"logprob": -1.0}]},
    "weight_versions": [{"version": "default", "start": 0, "end": 1}],
}  # fmt: skip


@pytest.fixture
def pretended(monkeypatch):
    """A function that starts a server with given answers, name of a path -> (status, body).

    It returns what the server is asked, as a list that grows: (name of the path, body).
    """
    servers = []

    def start(**answers):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                name = self.path.split("?")[0].rsplit("/", 1)[-1]
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append((name, json.loads(body or "null")))
                status, answer = answers[name]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            do_GET = do_POST = answer

            def log_message(self, *arguments):
                """Say nothing."""

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        monkeypatch.setenv(ADDRESS, f"http://127.0.0.1:{servers[-1].server_port}/")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ready(folder, cache="auto", **changes):
    """The answers of a server that can be used, but for the changes."""
    model = {"model": folder, **GOOD, **changes}
    config = {"model_config": model, "cache_config": {"cache_dtype": cache}}
    return {
        "server_info": (200, {"vllm_config": config}),
        "generate": (200, {"choices": [{**TOKEN}]}),
        "version": (200, {"version": "0.32.0"}),
        "update_weight_version": (200, {}),
        "collective_rpc": (200, {"results": [None]}),
        "reset_prefix_cache": (200, {"success": True}),
    }


def test_rounded_weights_need_a_server_that_rounds(pretended, folder, tokenizer, tmp_path):
    settings = engine_called("vllm_server")
    asked = (settings, SAMPLING, compute(), folder, tokenizer, None, tmp_path / "engine")
    rounding = {"dtype": "torch.bfloat16", "quantization": "fp8"}
    pretended(**ready(folder, **rounding))
    make_engine(*asked, weights_dtype="float8_e4m3")
    with pytest.raises(ConfigError, match="has quantization fp8, and the run needs None"):
        make_engine(*asked, weights_dtype="bfloat16")
    pretended(**ready(folder, dtype="torch.bfloat16"))
    make_engine(*asked, weights_dtype="bfloat16")
    with pytest.raises(ConfigError, match="has quantization None, and the run needs fp8"):
        make_engine(*asked, weights_dtype="float8_e4m3")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "torch.bfloat16"}, "has dtype torch.bfloat16, and the run needs torch.float32"),
        ({"quantization": "fp8"}, "has quantization fp8, and the run needs None"),
        ({"quantization": "int8"}, "has quantization int8, and the run needs None"),
        ({"cache": "fp8"}, "has kv-cache-dtype fp8, and the run needs auto"),
        ({"logprobs_mode": "raw_logprobs"}, "has logprobs-mode raw_logprobs"),
        ({"max_model_len": 64}, "has max-model-len 64, and the run needs 320"),
        ({"model": "/elsewhere"}, "serves /elsewhere, and the run starts from"),
    ],
)
def test_a_server_that_would_sample_otherwise_is_refused(
    pretended, folder, tokenizer, changes, said
):
    pretended(**ready(folder, **changes))
    with pytest.raises(ConfigError, match=said):
        VllmServerEngine(folder, tokenizer, weights="unused")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"server_info": (404, "Not Found")}, "failed at /server_info .404"),
        ({"server_info": (200, [])}, "does not answer as vLLM 0.32 does"),
        ({"generate": (403, "disabled")}, "failed at /inference/v1/generate .403: .disabled"),
        ({"generate": (200, {"choices": [{**TOKEN, "weight_versions": None}]})}, "which weights"),
    ],
)
def test_a_server_without_the_endpoints_is_refused_with_how_to_start_it(
    pretended, folder, tokenizer, answers, said
):
    pretended(**{**ready(folder), **answers})
    with pytest.raises(ConfigError, match=f"{said}.*VLLM_SERVER_DEV_MODE=1 and --enable-scale-out"):
        VllmServerEngine(folder, tokenizer, weights="unused")


def test_no_server_is_refused_with_the_variable_that_names_it(folder, tokenizer, monkeypatch):
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=f"http://127.0.0.1:9 cannot be used .*{ADDRESS}"):
        VllmServerEngine(folder, tokenizer, weights="unused")


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "said"),
    [([], 4, "empty prompt"), ([5] * 300, 40, "exceed the model's context of 320")],
)
def test_requests_that_vllm_would_change_never_reach_the_server(
    pretended, folder, tokenizer, prompt, max_tokens, said
):
    pretended(**ready(folder))
    engine = VllmServerEngine(folder, tokenizer, weights="unused")
    with pytest.raises(ValueError, match=said):
        engine.generate([prompt], Sampling(max_tokens, 1.0, [0]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight_versions": TOKEN["weight_versions"]}, "sampled from default, not from"),
        ({"finish_reason": "abort"}, "gave up a response: abort"),
        ({"logprobs": {"content": [{"logprob": -9999.0}]}}, "its logits are not finite"),
        ({}, ""),
    ],
)
def test_responses_of_other_weights_cut_off_or_without_logprobs_are_no_responses(
    pretended, folder, tokenizer, model, tmp_path, changes, said
):
    answers = ready(folder)
    pretended(**answers)
    engine = VllmServerEngine(folder, tokenizer, weights=tmp_path)
    engine.load_weights(model.state_dict())
    (choice,) = answers["generate"][1]["choices"]
    choice |= {"weight_versions": [{"version": engine.version, "start": 0, "end": 1}], **changes}
    with pytest.raises(RuntimeError, match=said) if said else nullcontext():
        assert engine.generate([[5]], Sampling(4, 1.0, [0]))[0].logprobs == [-1.0]


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        (
            "collective_rpc",
            (500, "no file"),
            "/collective_rpc .500: .no file.*start it again, then",
        ),
        ("reset_prefix_cache", (200, {"success": False}), "still holds keys and values"),
    ],
)
def test_weights_that_did_not_reach_the_server_whole_stop_the_run_under_no_ones_name(
    pretended, folder, tokenizer, model, tmp_path, path, answer, said
):
    asked = pretended(**{**ready(folder), path: answer})
    engine = VllmServerEngine(folder, tokenizer, weights=tmp_path / "engine")
    with pytest.raises(RuntimeError, match=said):
        engine.load_weights(model.state_dict())
    named = [body["new_version"] for path, body in asked if path == "update_weight_version"]
    assert named == [f"{engine.version} on its way"]


def test_a_server_that_goes_away_is_one_line_that_says_how_to_go_on(pretended, folder, tokenizer):
    pretended(**ready(folder))
    engine = VllmServerEngine(folder, tokenizer, weights="unused")
    engine.address = "http://127.0.0.1:9"
    with pytest.raises(RuntimeError, match="failed at /inference/v1/generate .*the run resumes"):
        engine.generate([[5]], Sampling(4, 1.0, [0]))


def test_a_runs_record_names_the_servers_version(pretended, folder, tokenizer):
    pretended(**ready(folder))
    engine = VllmServerEngine(folder, tokenizer, weights="unused")
    assert engine.provenance == {"vllm_server": "0.32.0"}
