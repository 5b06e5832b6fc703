"""Sampling with a vLLM server that others started; weights reach it through a shared folder."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
import torch
from safetensors.torch import save_file
from torch import Tensor

from sspo.config.errors import ConfigError, first_line
from sspo.config.reading import load_json
from sspo.rollout.engine import Completion, Sampling, end_tokens
from sspo.rollout.vllm_engine import check_fits, is_one_of_many, sampling_fields

ADDRESS = "SSPO_VLLM_SERVER"  # environment variable: where a server runs is no part of a result
DEFAULT_ADDRESS = "http://localhost:8000"
GENERATE = "/inference/v1/generate"  # token ids in, token ids out
CONNECTIONS = 256  # requests on their way at once
SECONDS = (10.0, 3600.0)  # to reach the server; until it has answered
NO_LOGPROB = -9999.0  # nats; what the server writes for NaN and minus infinity


class VllmServerEngine:
    """Samples from a server's copy of a checkpoint, which ``load_weights`` brings up to date.

    The server needs vLLM's development endpoints and ``--enable-scale-out`` (docs/reproducing.md). Every
    response comes back with the version of the weights it was sampled from, so that no run learns from
    those of another one.
    """

    def __init__(
        self,
        folder: str | Path,
        tokenizer,
        *,
        weights: str | Path,
        dtype: str = "float32",
        stop_tokens: Sequence[str] = (),
    ) -> None:
        """Args:
        folder: the checkpoint that the server was started with.
        tokenizer: gives the end token and decodes; the server sees token ids only.
        weights: a folder of this run's that the server reads under the same name.
        dtype: of the server's weights and cache; the policy's own keeps log-probabilities comparable.
        stop_tokens: tokens that end a response beside the tokenizer's end token.

        Raises:
            ConfigError: no server, or one that was started otherwise; an end token that the tokenizer
                does not know.
        """
        self.tokenizer = tokenizer
        self.ends = end_tokens(tokenizer, stop_tokens)
        self.address = os.environ.get(ADDRESS, DEFAULT_ADDRESS).rstrip("/")
        self.weights = Path(weights).absolute()
        self.dtype = getattr(torch, dtype)
        self.context = int(load_json(Path(folder, "config.json"))["max_position_embeddings"])
        self._check_server(Path(folder))
        self.provenance: Mapping[str, object] = {"vllm_server": self._ask("/version")["version"]}
        self.name, self.loads = _name_of_this_start(), 0

    def load_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Let the server sample from these weights; where a launcher started several processes, all of
        them call this and the first one does it.

        Raises:
            RuntimeError: the server cannot read them, or it still computes with the old ones.
        """
        self.loads += 1
        if not is_one_of_many():
            self._publish(state_dict)
            return
        if torch.distributed.get_rank() == 0:
            self._publish(state_dict)
        torch.distributed.barrier()

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
        """One completion per prompt, in order.

        Raises:
            ValueError: as ``VllmEngine.generate``.
            RuntimeError: the server failed, or it sampled from weights that are not this run's.
        """
        check_fits(prompts, sampling, self.context)
        fields = sampling_fields(len(prompts), sampling, self.ends)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return list(pool.map(self._sample, prompts, fields))

    def close(self) -> None:
        """Remove the weights from the shared folder; the server goes on with its copy."""
        shutil.rmtree(self.weights, ignore_errors=True)

    @property
    def version(self) -> str:
        """Name of the weights loaded last, the same in every process of a run."""
        return f"{self.name}-{self.loads}"

    def _publish(self, state_dict: Mapping[str, Tensor]) -> None:
        # A new folder each time: a network file system may show a changed file as it was.
        folder = self.weights / self.version
        folder.mkdir(parents=True)
        copies = {name: t.to("cpu", self.dtype, copy=True) for name, t in state_dict.items()}
        save_file(copies, folder / "model.safetensors")
        self._reload(folder)
        for old in {*self.weights.iterdir()} - {folder}:
            shutil.rmtree(old, ignore_errors=True)

    def _reload(self, folder: Path) -> None:
        # Until the end, what the server samples bears a version that no run takes for its own.
        self._post("/update_weight_version", {"new_version": f"{self.version} on its way"})
        self._post(
            "/collective_rpc",
            {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}},
            "start it again",
        )
        if not self._post("/reset_prefix_cache?reset_external=true")["success"]:
            raise RuntimeError(
                f"the vLLM server at {self.address} still holds keys and values of the old weights; "
                "does another run use it?"
            )
        self._post("/update_weight_version", {"new_version": self.version})

    def _sample(self, prompt: list[int], fields: dict[str, object]) -> Completion:
        body = {"token_ids": list(prompt), "sampling_params": fields}
        (choice,) = self._post(GENERATE, body)["choices"]
        logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
        versions = {span["version"] for span in choice["weight_versions"]}
        problem = ""
        if versions != {self.version}:
            found = ", ".join(sorted(versions))
            problem = f"sampled from {found}, not from {self.version}: it serves one run at a time"
        elif choice["finish_reason"] not in ("stop", "length"):
            problem = f"gave up a response: {choice['finish_reason']}"
        elif min(logprobs) <= NO_LOGPROB:
            problem = "sampled a token without a log-probability: its logits are not finite"
        if problem:
            raise RuntimeError(f"the vLLM server at {self.address} {problem}")
        return Completion(
            token_ids=choice["token_ids"],
            text=self.tokenizer.decode(choice["token_ids"], skip_special_tokens=True),
            finish_reason=choice["finish_reason"],
            logprobs=logprobs,
        )

    def _check_server(self, folder: Path) -> None:
        """Refuse a server that would not sample as an engine in this process does."""
        try:
            problem = self._problem(folder)
        except RuntimeError as error:
            problem = f"cannot be used ({first_line(error)})"
        except (KeyError, TypeError, ValueError) as error:
            problem = f"does not answer as vLLM 0.32 does ({error!r})"
        if problem:
            raise ConfigError(
                f"rollout.engine = 'vllm_server': the server at {self.address} {problem}; start it with "
                "VLLM_SERVER_DEV_MODE=1 and --enable-scale-out as docs/reproducing.md says, or name "
                f"another one in the environment variable {ADDRESS}"
            )

    def _problem(self, folder: Path) -> str:
        """What is wrong with the server; empty for one that can be used."""
        config = self._ask("/server_info?config_format=json")["vllm_config"]
        model, cache = config["model_config"], config["cache_config"]
        if Path(model["model"]).resolve() != folder.resolve():
            return f"serves {model['model']}, and the run starts from {folder}"
        for name, found, wanted in (
            ("dtype", model["dtype"], str(self.dtype)),
            ("quantization", model["quantization"], None),
            ("kv-cache-dtype", cache["cache_dtype"], "auto"),
            ("logprobs-mode", model["logprobs_mode"], "processed_logprobs"),
            ("max-model-len", model["max_model_len"], self.context),
        ):
            if found != wanted:
                return f"has {name} {found}, and the run needs {wanted}"
        probe = {"token_ids": [0], "sampling_params": {"max_tokens": 1}}
        (choice,) = self._post(GENERATE, probe)["choices"]
        return "" if choice["weight_versions"] else "does not say which weights it samples from"

    def _ask(self, path: str) -> dict:
        return self._answer(requests.get, path, {})

    def _post(self, path: str, body: Mapping[str, object] | None = None, fix: str = "") -> dict:
        return self._answer(requests.post, path, {"json": body}, fix)

    def _answer(self, method, path: str, options: dict, fix: str = "") -> dict:
        try:
            answer = method(self.address + path, timeout=SECONDS, **options)
            failure = "" if answer.ok else f"{answer.status_code}: {answer.text[:500]}"
        except requests.RequestException as error:
            failure = first_line(error)
        if failure:
            raise RuntimeError(
                f"the vLLM server at {self.address} failed at {path.split('?')[0]} ({failure}); "
                f"{fix or 'see that it runs'}, then run again: the run resumes from its newest saved state"
            )
        return answer.json()


def _name_of_this_start() -> str:
    """A name that no other start of any run has, the same in every process of this one."""
    names = [uuid.uuid4().hex[:12]]
    if is_one_of_many():
        torch.distributed.broadcast_object_list(names)
    return names[0]
