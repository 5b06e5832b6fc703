"""Sample with a vLLM server that runs already; it reads new weights from a shared folder."""

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
from sspo.rollout.engine import Completion, Sampling, end_tokens, generation_ends
from sspo.rollout.vllm_engine import check_fits, is_one_of_many, sampling_fields

# An environment variable and no setting, because results do not depend on where the server runs.
ADDRESS = "SSPO_VLLM_SERVER"
DEFAULT_ADDRESS = "http://localhost:8000"
GENERATE = "/inference/v1/generate"  # token ids in, token ids out
CONNECTIONS = 256  # most requests at once
SECONDS = (10.0, 3600.0)  # time limits of a connection and of an answer
NO_LOGPROB = -9999.0  # nats; the server writes this for NaN and minus infinity


class VllmServerEngine:
    """Samples from a server's copy of a checkpoint, which ``load_weights`` updates.

    The server needs vLLM's development endpoints and ``--enable-scale-out`` (docs/reproducing.md). Every
    response names the version of the weights it was sampled from. So a run notices when another run
    has loaded its own weights.
    """

    def __init__(
        self,
        folder: str | Path,
        tokenizer,
        *,
        weights: str | Path,
        dtype: str = "float32",
        quantization: str | None = None,
        stop_tokens: Sequence[str] = (),
    ) -> None:
        """Args:
        folder: the checkpoint that the server was started with.
        tokenizer: gives the end token and decodes; the server sees token ids only.
        weights: a folder of this run; the server reads it under the same path.
        dtype: precision of the server's weights and cache.
        quantization: what the server was started with, such as fp8.
        stop_tokens: tokens that end a response beside those of the tokenizer and of the checkpoint.

        Raises:
            ConfigError: no server answers, the server was started with other settings, or the tokenizer
                does not know one of the end tokens.
        """
        self.tokenizer = tokenizer
        self.ends = end_tokens(tokenizer, stop_tokens, generation_ends(folder))
        self.address = os.environ.get(ADDRESS, DEFAULT_ADDRESS).rstrip("/")
        self.weights = Path(weights).absolute()
        self.dtype, self.quantization = getattr(torch, dtype), quantization
        self.context = int(load_json(Path(folder, "config.json"))["max_position_embeddings"])
        self._check_server(Path(folder))
        self.provenance: Mapping[str, object] = {
            "vllm_server": self._ask("/version", method="GET")["version"]
        }
        self.name, self.loads = _name_of_this_start(), 0

    def load_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Make the server sample from these weights.

        All processes of a run call this; the first one writes the weights, the others wait for it.

        Raises:
            RuntimeError: the server cannot read the weights, or still holds a cache of the old ones.
        """
        self.loads += 1
        many = is_one_of_many()
        if not many or torch.distributed.get_rank() == 0:
            self._publish(state_dict)
        if many:
            torch.distributed.barrier()

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
        """One completion per prompt, in order.

        Raises:
            ValueError: ``check_fits`` refuses the request.
            RuntimeError: the server failed, or sampled from weights of another run.
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
        """Name of the weights that were loaded last, the same in every process of a run."""
        return f"{self.name}-{self.loads}"

    def _publish(self, state_dict: Mapping[str, Tensor]) -> None:
        # A new folder each time, because a network file system may show the old content of a file.
        folder = self.weights / self.version
        folder.mkdir(parents=True)
        copies = {name: t.to("cpu", self.dtype, copy=True) for name, t in state_dict.items()}
        save_file(copies, folder / "model.safetensors")
        self._reload(folder)
        for old in {*self.weights.iterdir()} - {folder}:
            shutil.rmtree(old, ignore_errors=True)

    def _reload(self, folder: Path) -> None:
        # While weights are being exchanged, responses bear a version that every run refuses.
        self._ask("/update_weight_version", {"new_version": f"{self.version} on its way"})
        self._ask(
            "/collective_rpc",
            {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}},
            fix="start it again",
        )
        if not self._ask("/reset_prefix_cache?reset_external=true")["success"]:
            raise RuntimeError(
                f"the vLLM server at {self.address} still holds keys and values of the old weights; see "
                "that no other run uses it, then run again"
            )
        self._ask("/update_weight_version", {"new_version": self.version})

    def _sample(self, prompt: list[int], fields: dict[str, object]) -> Completion:
        body = {"token_ids": list(prompt), "sampling_params": fields}
        (choice,) = self._ask(GENERATE, body)["choices"]
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
        """Raise ``ConfigError`` for a server that would not sample as an engine in this process does."""
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
        """What is wrong with the server, as the rest of a sentence; empty if nothing is."""
        config = self._ask("/server_info?config_format=json", method="GET")["vllm_config"]
        model, cache = config["model_config"], config["cache_config"]
        if Path(model["model"]).resolve() != folder.resolve():
            return f"serves {model['model']}, and the run starts from {folder}"
        for name, found, wanted in (
            ("dtype", model["dtype"], str(self.dtype)),
            ("quantization", model["quantization"], self.quantization),
            ("kv-cache-dtype", cache["cache_dtype"], "auto"),
            ("logprobs-mode", model["logprobs_mode"], "processed_logprobs"),
            ("max-model-len", model["max_model_len"], self.context),
        ):
            if found != wanted:
                return f"has {name} {found}, and the run needs {wanted}"
        probe = {"token_ids": [0], "sampling_params": {"max_tokens": 1}}
        (choice,) = self._ask(GENERATE, probe)["choices"]
        return "" if choice["weight_versions"] else "does not say which weights it samples from"

    def _ask(
        self, path: str, body: object = None, *, method: str = "POST", fix: str = "see that it runs"
    ) -> dict:
        try:
            answer = requests.request(method, self.address + path, json=body, timeout=SECONDS)
            failure = "" if answer.ok else f"{answer.status_code}: {answer.text[:500]}"
        except requests.RequestException as error:
            failure = first_line(error)
        if failure:
            raise RuntimeError(
                f"the vLLM server at {self.address} failed at {path.split('?')[0]} ({failure}); "
                f"{fix}, then run again: the run resumes from its newest saved state"
            )
        return answer.json()


def _name_of_this_start() -> str:
    """A name that is unique to this start of this run, and the same in all of its processes."""
    names = [uuid.uuid4().hex[:12]]
    if is_one_of_many():
        torch.distributed.broadcast_object_list(names)
    return names[0]
