"""The memory and disk that the jobs of a plan need, and the keys to change where a machine has less.

An estimate from the sizes of the model, in bytes. Weights in training are float32 (4 bytes each), their
gradients and Adam's two moments as well. What the backward pass needs of a layer, per token of a
micro-batch, with b bytes for what products take and give (2 under bfloat16):

    4 (8 hidden) + b (6 query + 6 key + 4 mlp)

With ``train.gradient_checkpointing`` that holds for one layer at a time, and every layer keeps its
input. Logits take 16 bytes per token of a chunk and entry of the vocabulary: scaled logits,
log-softmax and what entropy or the backward pass computes from them. Sampling keeps keys and values
of all responses sampled at once, in memory that grows by halves, and 24 bytes per logit.

Of a run in several processes it is what one of them holds: what its accelerate file shards is divided by
their number, anything else each has for itself. An engine gets sharded weights whole, in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from sspo.config.launch_file import GRADIENTS, MOMENTS, ONE_PROCESS, WEIGHTS, Launch
from sspo.planning.jobs import EVALUATE, IMPORT, PRETRAIN, RL, TRAIN_CONTROL, Job
from sspo.planning.model_size import ModelSize

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2}
PROCESS = GIB // 2  # of Python, PyTorch and transformers, or of a CUDA context [measured]
LOGIT, SAMPLED_LOGIT = 16, 24  # bytes per token and entry of the vocabulary
CACHE_GROWTH = 1.5  # of the torch engine's cache
SUPERVISED_CHUNK = 4096  # response tokens projected at a time, the default of `score`
VLLM_CPU_CACHE = 1 * GIB
NAMED = 0.05  # a part of less than this share of a job's memory is no help
SMALLER = "a smaller model (model.hidden_size, model.layers or checkpoint.source)"


@dataclass(frozen=True)
class Part:
    """Something that a job holds in memory.

    Attributes:
        name: what it is.
        size: in bytes.
        phase: when it is held.
        remedy: the key to change for less of it; empty where there is none.
    """

    name: str
    size: float
    phase: Literal["always", "update", "sampling"] = "always"
    remedy: str = ""


@dataclass(frozen=True)
class Machine:
    """What a plan has to fit into.

    Attributes:
        device: that the configuration asks for.
        memory: of that device in bytes; None where it is not on this machine.
        cores: for Snakemake.
        disk: bytes free where results go, with what the plan's models take there already.
    """

    device: str
    memory: float | None
    cores: int
    disk: float


def memory_parts(job: Job, size: ModelSize, device: str, memory: float | None) -> list[Part]:
    """What a job holds at its fullest: parts of the whole job and of its fuller phase.

    Args:
        job: the job.
        size: of its model.
        device: "cpu", or a CUDA device.
        memory: of that device in bytes, where it is known: vLLM takes a share of it.
    """
    place = (size, device, memory)
    parts = [Part("process", PROCESS)]
    if job.kind in RL:
        # Processes on the CPU share its memory, so there each part stays in it.
        launch = job.launch if device != "cpu" else ONE_PROCESS
        parts += _rl_parts(job, launch, *place)
    elif job.kind in (PRETRAIN, TRAIN_CONTROL):
        parts += _supervised_parts(job, size)
    elif job.kind == EVALUATE:
        parts += _evaluation_parts(job, *place)
    else:
        parts.append(Part("weights", 4 * size.parameters, remedy=SMALLER))
    phases = ("update", "sampling")
    fuller = max(phases, key=lambda phase: sum(p.size for p in parts if p.phase == phase))
    return [part for part in parts if part.size and part.phase in ("always", fuller)]


def total(parts: Iterable[Part]) -> float:
    """Bytes of all parts together."""
    return sum(part.size for part in parts)


def disk_bytes(
    jobs: Iterable[Job], sizes: Mapping[str, ModelSize], at_once: int
) -> dict[str, float]:
    """Bytes on disk by what they are: base models, final models, states to resume from.

    A state holds what is trained, in float32, and Adam's moments; while it is replaced there are two.
    """
    jobs = list(jobs)
    needed = {"base models": 0.0, "final models": 0.0, "states to resume from": 0.0}
    for job in jobs:
        if job.base not in sizes or job.kind == EVALUATE:
            continue
        what = "base models" if job.kind in (IMPORT, PRETRAIN) else "final models"
        needed[what] += _saved_bytes(job) * sizes[job.base].parameters
    states = [
        2 * 12 * _trained_parameters(job, sizes[job.base])
        for job in jobs
        if job.kind in RL and not _by_trl(job) and job.base in sizes
    ]
    needed["states to resume from"] = float(sum(sorted(states)[-at_once:]))
    return needed


def refusals(
    jobs: Iterable[Job], sizes: Mapping[str, ModelSize], machine: Machine, at_once: int
) -> list[str]:
    """Why a plan cannot run on a machine, a line each, with the key to change; empty when it fits."""
    jobs = list(jobs)
    reasons = []
    if machine.memory is not None:
        reasons += _memory_refusals(jobs, sizes, machine, at_once)
    needed = disk_bytes(jobs, sizes, at_once)
    if sum(needed.values()) > machine.disk:
        largest = max(needed, key=needed.get)
        reasons.append(
            f"disk: results take {gib(sum(needed.values()))}, most of it {largest}, and there is "
            f"room for {gib(machine.disk)}; lower experiment.seeds or tuning.seeds, set compute.dtype "
            "to bfloat16, lower CORES, or make room"
        )
    return reasons


def largest_job(
    jobs: Iterable[Job], sizes: Mapping[str, ModelSize], machine: Machine
) -> tuple[Job, list[Part]] | None:
    """The job that needs most memory, with its parts; None where no size is known."""
    known = [
        (job, memory_parts(job, sizes[job.base], machine.device, machine.memory))
        for job in jobs
        if job.base in sizes
    ]
    return max(known, key=lambda pair: total(pair[1]), default=None)


def gib(size: float) -> str:
    """Bytes as GiB, for people."""
    return f"{size / GIB:,.2f} GiB"


def _memory_refusals(
    jobs: list[Job], sizes: Mapping[str, ModelSize], machine: Machine, at_once: int
) -> list[str]:
    reasons = []
    for kind in dict.fromkeys(job.kind for job in jobs):
        largest = largest_job([job for job in jobs if job.kind == kind], sizes, machine)
        if largest and total(largest[1]) > machine.memory:
            reasons.append(_too_large(*largest, machine))
    if reasons:
        return reasons
    for job in jobs:
        share = _vllm_share(job)
        if share and job.base in sizes and machine.device != "cpu":
            weights = BYTES[job.config["compute"]["dtype"]] * sizes[job.base].parameters
            if weights > share * machine.memory:
                key = "evaluation" if job.kind == EVALUATE else "rollout"
                return [
                    f"{job.kind} {job.place}: vLLM's share of the GPU, {gib(share * machine.memory)}, "
                    f"does not hold the weights, {gib(weights)}; raise {key}.vllm_memory"
                ]
    largest = largest_job(jobs, sizes, machine)
    if largest and at_once > 1 and at_once * total(largest[1]) > machine.memory:
        most = int(machine.memory // total(largest[1]))
        fewer = "lower CORES (--cores of Snakemake), or raise compute.threads"
        if machine.device != "cpu":
            fewer = "lower GPUS (--resources gpu of Snakemake)"
        return [
            f"{at_once} jobs at once of up to {gib(total(largest[1]))} do not fit into "
            f"{gib(machine.memory)} of {machine.device}; {fewer}, so that {most} run at once"
        ]
    return []


def _too_large(job: Job, parts: list[Part], machine: Machine) -> str:
    needed = total(parts)
    helpful = sorted((p for p in parts if p.remedy and p.size >= NAMED * needed), key=_by_size)
    remedies = dict.fromkeys(f"{p.remedy} ({p.name}: {gib(p.size)})" for p in helpful)
    return (
        f"{job.kind} {job.place}: needs {gib(needed)}, {machine.device} has {gib(machine.memory)}; "
        f"{'; or '.join(remedies)}"
    )


def _by_size(part: Part) -> float:
    return -part.size


def adapter_parameters(size: ModelSize, rank: int) -> int:
    """Weights of ``sspo.models.lora``'s adapters: rank x (inputs + outputs) of every linear layer."""
    hidden, query, key = size.hidden_size, size.query_size, size.key_size
    attention = 2 * (hidden + query) + 2 * (hidden + key)
    return rank * size.layers * (attention + 3 * (hidden + size.mlp_size))


def _adapter_parts(size: ModelSize, dtype: str, rank: int) -> list[Part]:
    adapters = 16 * adapter_parameters(size, rank)
    return [
        Part("frozen weights", BYTES[dtype] * size.parameters, remedy=SMALLER),
        Part("adapters and what Adam keeps of them", adapters, remedy="lower lora.rank"),
    ]


def _training_parts(size: ModelSize, dtype: str, launch: Launch) -> list[Part]:
    less = f"{SMALLER}, or adapters alone (lora.rank)"
    if launch.sharded:
        less = f"{SMALLER}, or more processes (num_processes in backends.accelerate_config)"
    cast = 0 if dtype == "float32" else BYTES[dtype] * size.parameters
    weights, moments, gradients = (
        launch.held(what, count * size.parameters)
        for what, count in ((WEIGHTS, 4), (MOMENTS, 8), (GRADIENTS, 4))
    )
    return [
        Part("weights", weights, remedy=less if WEIGHTS in launch.sharded else SMALLER),
        Part("Adam's moments", moments, remedy=less),
        Part("gradients", gradients, "update", less),
        Part(f"weights in {dtype} for products", cast, "update"),
        *_gathered_parts(size, dtype, launch),
    ]


def _gathered_parts(size: ModelSize, dtype: str, launch: Launch) -> list[Part]:
    """What a process has of sharded weights beside its own part of them."""
    if WEIGHTS not in launch.sharded:
        return []
    # Products take a layer at a time, beside embeddings and output layer; under bfloat16 they are in
    # what is counted for products already.
    attention = 2 * size.hidden_size * (size.query_size + size.key_size)
    layer = attention + 3 * size.hidden_size * size.mlp_size
    gathered = 4 * (2 * size.vocab_size * size.hidden_size + layer) if dtype == "float32" else 0
    return [
        Part("gathered weights of a layer", gathered, "update"),
        Part("whole weights on their way to the engine", 4 * size.parameters, "sampling", SMALLER),
    ]


def _rl_parts(
    job: Job, launch: Launch, size: ModelSize, device: str, memory: float | None
) -> list[Part]:
    train, rollout = job.config["train"], job.config["rollout"]
    dtype = job.config["compute"]["dtype"]
    row = job.prompt + job.work.cap
    limit = train["micro_batch_tokens"]
    tokens = train["micro_batch"] * row
    tokens = max(row, min(limit, tokens)) if limit else tokens
    responses = tokens * job.work.cap / row
    checkpointing = train["gradient_checkpointing"]
    remedy = "lower train.micro_batch"
    if not _by_trl(job):  # whose micro-batches are of equal size
        remedy = "lower train.micro_batch_tokens or train.micro_batch"
    if not checkpointing:
        remedy += ", or set train.gradient_checkpointing to true"
    logits = min(train["chunk_tokens"], responses) * size.vocab_size * LOGIT
    rank = job.config["lora"]["rank"]
    trained = _adapter_parts(size, dtype, rank) if rank else _training_parts(size, dtype, launch)
    reference = (BYTES[dtype] if rank else 4) * size.parameters if train["kl_every"] else 0
    at_once = rollout["prompts_per_step"] * rollout["group_size"] // launch.processes
    validation = job.config["validation"]
    at_once = max(at_once, validation["problems"] * validation["samples"])
    return [
        *trained,
        Part("initial policy", reference, remedy="set train.kl_every to 0"),
        Part("activations", _activations(size, tokens, dtype, checkpointing), "update", remedy),
        Part("logits", logits, "update", "lower train.chunk_tokens"),
        *_engine_parts(job, rollout["engine"], at_once, size, device, memory),
    ]


def _engine_parts(
    job: Job, engine: str, at_once: int, size: ModelSize, device: str, memory: float | None
) -> list[Part]:
    """What an engine adds to the policy in training."""
    dtype = job.config["compute"]["dtype"]
    weights = BYTES[dtype] * size.parameters
    if engine == "vllm":
        merged = weights if job.config["lora"]["rank"] else 0
        return [
            _vllm_part(job, weights, device, memory),
            Part("weights with adapters for vLLM", merged, "sampling", SMALLER),
        ]
    if engine == "vllm_server":
        copy = weights if device == "cpu" or job.config["lora"]["rank"] else 0
        return [Part("weights on their way to vLLM's server", copy, "sampling", SMALLER)]
    own = dtype != "float32" or (device != "cpu" and WEIGHTS in job.launch.sharded)
    copy = weights if own and not job.config["lora"]["rank"] else 0
    shared = "set compute.dtype to float32, whose weights sampling shares"
    if device != "cpu" and WEIGHTS in job.launch.sharded:
        shared = SMALLER  # no engine can sample from a part of the weights
    max_batch = job.config["rollout"]["max_batch"]
    return [
        Part(f"copy in {dtype} to sample from", copy, remedy=shared),
        _sampling_part(job, min(at_once, max_batch), size, dtype),
    ]


def _vllm_part(job: Job, weights: float, device: str, memory: float | None) -> Part:
    key = "evaluation" if job.kind == EVALUATE else "rollout"
    taken = weights + VLLM_CPU_CACHE if device == "cpu" else _vllm_share(job) * (memory or 0)
    return Part("vLLM", taken, remedy=f"lower {key}.vllm_memory" if device != "cpu" else "")


def _vllm_share(job: Job) -> float:
    """vLLM's share of a GPU; 0 for jobs without it."""
    section = job.config.get("evaluation" if job.kind == EVALUATE else "rollout", {})
    return section["vllm_memory"] if section.get("engine") == "vllm" else 0.0


def _sampling_part(job: Job, rows: int, size: ModelSize, dtype: str) -> Part:
    cache = (job.prompt + job.work.cap) * size.layers * 2 * size.key_size * BYTES[dtype]
    held = rows * (CACHE_GROWTH * cache + SAMPLED_LOGIT * size.vocab_size)
    return Part("sampling", held, "sampling", "lower rollout.max_batch")


def _supervised_parts(job: Job, size: ModelSize) -> list[Part]:
    supervised, dtype = job.config["supervised"], job.config["compute"]["dtype"]
    rows = min(supervised["micro_batch"], supervised["batch_size"])
    tokens = rows * (job.prompt + job.work.cap)
    logits = min(SUPERVISED_CHUNK, rows * job.work.cap) * size.vocab_size * LOGIT
    validation = job.config["validation"]
    sampled = validation["problems"] * max(1, validation["samples"])
    remedy = "lower pretrain.supervised.micro_batch"
    return [
        *_training_parts(size, dtype, ONE_PROCESS),
        Part("activations", _activations(size, tokens, dtype, False), "update", remedy),
        Part("logits", logits, "update", remedy),
        _sampling_part(job, min(sampled, job.config["sampling"]["max_batch"]), size, "float32"),
    ]


def _evaluation_parts(job: Job, size: ModelSize, device: str, memory: float | None) -> list[Part]:
    dtype, sampling = job.config["compute"]["dtype"], job.config["sampling"]
    smaller = SMALLER if dtype == "bfloat16" else "set compute.dtype to bfloat16"
    weights = Part("weights", BYTES[dtype] * size.parameters, remedy=smaller)
    if job.config["evaluation"]["engine"] == "vllm":
        return [_vllm_part(job, weights.size, device, memory)]
    rows = min(job.work.sampled or sampling["max_batch"], sampling["max_batch"])
    return [weights, _sampling_part(job, rows, size, dtype)]


def _activations(size: ModelSize, tokens: int, dtype: str, checkpointing: bool) -> float:
    products = 6 * size.query_size + 6 * size.key_size + 4 * size.mlp_size
    layer = tokens * (4 * 8 * size.hidden_size + BYTES[dtype] * products)
    if not checkpointing:
        return float(size.layers * layer)
    return float(layer + size.layers * tokens * 4 * size.hidden_size)


def _trained_parameters(job: Job, size: ModelSize) -> int:
    rank = job.config["lora"]["rank"]
    return adapter_parameters(size, rank) if rank else size.parameters


def _by_trl(job: Job) -> bool:
    return job.config.get("trainer") == "trl"


def _saved_bytes(job: Job) -> int:
    """Bytes per weight of the model that a job saves; a published one is taken to be in 4 at most."""
    return BYTES[job.config["compute"]["dtype"]] if job.kind in RL else 4
