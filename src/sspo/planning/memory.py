"""The memory and disk that jobs need, and the keys to change where a machine has less.

An estimate in bytes from the sizes of the model. Weights in training are float32 (4 bytes each), their
gradients and Adam's two moments as well. Sampling keeps keys and values of all responses sampled at
once, in memory that grows by halves, and 24 bytes per logit.

Of a run in several processes it is what one of them holds: what its accelerate file shards is divided by
their number, anything else each has for itself. An engine gets sharded weights whole, in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sspo.config.launch_file import GRADIENTS, MOMENTS, ONE_PROCESS, WEIGHTS, Launch
from sspo.planning.jobs import EVALUATE, IMPORT, PRETRAIN, TRAIN, Job
from sspo.planning.model_size import ModelSize

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2}
PROCESS = GIB // 2  # of Python, PyTorch and transformers, or of a CUDA context [measured]
# Bytes per token and entry of the vocabulary: of an update scaled logits, log-softmax and what entropy or
# the backward pass computes from them.
LOGIT, SAMPLED_LOGIT = 16, 24
CACHE_GROWTH = 1.5  # of the torch engine's cache
SUPERVISED_CHUNK = 4096  # response tokens projected at a time, the default of `score`
VLLM_CPU_CACHE = 1 * GIB
NAMED = 0.05  # a part of less than this share of a job's memory is no help
ALWAYS, UPDATE, SAMPLING = "always", "update", "sampling"
SMALLER = "choose a smaller model (model.hidden_size, model.layers or checkpoint.source)"
LIGHTER = f"{SMALLER}, train adapters alone (lora.rank), or shard it (trainer, backends.accelerate_config)"


@dataclass(frozen=True)
class Part:
    """Something that a job holds in memory."""

    name: str
    size: float  # in bytes
    phase: str = ALWAYS  # when it is held, one of the names above
    remedy: str = ""  # the key to change for less of it; empty where there is none


@dataclass(frozen=True)
class Machine:
    """What the jobs have to fit into."""

    device: str  # that the configuration asks for, "cpu" or a CUDA device
    memory: float | None  # of that device in bytes; None where it is not on this machine
    disk: float  # bytes free where results go, with what the models take there already
    at_once: int = 1  # jobs that run side by side


def memory_parts(job: Job, size: ModelSize, machine: Machine) -> list[Part]:
    """What a job holds at its fullest: parts of the whole job and of its fuller phase."""
    # Processes on the CPU share its memory, so there each part stays in it.
    launch = job.launch if machine.device != "cpu" else ONE_PROCESS
    parts = [Part("process", PROCESS), *_model_parts(job, size, launch)]
    parts += _update_parts(job, size) if job.trained else []
    parts += _engine_parts(job, size, launch, machine) if job.kind != IMPORT else []
    in_phase = {phase: total(p for p in parts if p.phase == phase) for phase in (UPDATE, SAMPLING)}
    held = (ALWAYS, max(in_phase, key=lambda phase: in_phase[phase]))
    return [part for part in parts if part.size and part.phase in held]


def total(parts: Iterable[Part]) -> float:
    """Bytes of all parts together."""
    return sum(part.size for part in parts)


def gib(size: float) -> str:
    """Bytes as GiB, for people."""
    return f"{size / GIB:,.2f} GiB"


def by_memory(
    jobs: Iterable[Job], sizes: Mapping[str, ModelSize], machine: Machine
) -> list[tuple[Job, list[Part]]]:
    """Jobs whose model has a known size, with what they hold; the one that needs most comes first."""
    known = [(j, memory_parts(j, sizes[j.base], machine)) for j in jobs if j.base in sizes]
    return sorted(known, key=lambda pair: -total(pair[1]))


def disk_bytes(
    jobs: Iterable[Job], sizes: Mapping[str, ModelSize], at_once: int
) -> dict[str, float]:
    """Bytes on disk by what they are: base models, final models, states to resume from.

    A state holds what is trained, in float32, and Adam's moments; while it is replaced there are two.
    """
    made = [(j, sizes[j.base]) for j in jobs if j.base in sizes and j.kind != EVALUATE]
    saved = {"base models": 0.0, "final models": 0.0}
    for job, size in made:
        what = "base models" if job.kind in (IMPORT, PRETRAIN) else "final models"
        # A published model is taken to have 4 bytes a weight at most.
        saved[what] += (BYTES[job.dtype] if job.kind == TRAIN else 4) * size.parameters
    resumed = [(j, size) for j, size in made if j.kind == TRAIN and not j.by_trl]
    states = sorted(2 * 12 * (adapters(size, j.rank) or size.parameters) for j, size in resumed)
    return {**saved, "states to resume from": float(sum(states[-at_once:]))}


def adapters(size: ModelSize, rank: int) -> int:
    """Weights of ``sspo.models.lora``'s adapters: rank x (inputs + outputs) of every linear layer."""
    attention = 4 * size.hidden_size + 2 * (size.query_size + size.key_size)
    return rank * size.layers * (attention + 3 * (size.hidden_size + size.mlp_size))


def activations(size: ModelSize, tokens: float, dtype: str, checkpointing: bool) -> float:
    """Bytes that the backward pass needs of the layers.

    4 (8 hidden) + b (6 query + 6 key + 4 mlp) per token and layer, with b bytes for what products take
    and give (2 under bfloat16). With checkpointing that holds for one layer at a time, and every layer
    keeps its input.
    """
    products = 6 * size.query_size + 6 * size.key_size + 4 * size.mlp_size
    layer = tokens * (4 * 8 * size.hidden_size + BYTES[dtype] * products)
    if not checkpointing:
        return float(size.layers * layer)
    return float(layer + size.layers * tokens * 4 * size.hidden_size)


def refusals(jobs: list[Job], sizes: Mapping[str, ModelSize], machine: Machine) -> list[str]:
    """Why jobs cannot run on a machine, a line each, with the key to change; empty when they fit.

    Of every kind the largest job that does not fit alone is named; where all do, too many at once.
    """
    found: dict[str, str] = {}
    memory = machine.memory or float("inf")  # an absent device refuses nothing
    ranked = by_memory(jobs, sizes, machine) if machine.memory is not None else []
    for job, parts in ranked:
        reason = _too_large(parts, machine.device, memory)
        reason = reason or _too_small_a_share(job, sizes[job.base], machine)
        if reason:
            found.setdefault(job.kind, f"{job.kind} {job.place}: {reason}")
    if ranked and not found and machine.at_once * (most := total(ranked[0][1])) > memory:
        fewer = "lower GPUS (--resources gpu of Snakemake)"
        if machine.device == "cpu":
            fewer = "lower CORES (--cores of Snakemake), or raise compute.threads"
        found["at once"] = (
            f"{machine.at_once} jobs at once of up to {gib(most)} do not fit into {gib(memory)} "
            f"of {machine.device}; {fewer}, so that {memory // most:.0f} run at once"
        )
    disk = disk_bytes(jobs, sizes, machine.at_once)
    if (needed := sum(disk.values())) > machine.disk:
        most_of_it = max(disk, key=lambda what: disk[what])
        found["disk"] = (
            f"disk: results take {gib(needed)}, most of it {most_of_it}, and there is room "
            f"for {gib(machine.disk)}; lower experiment.seeds or tuning.seeds, set compute.dtype to "
            "bfloat16, lower CORES, or make room"
        )
    return [*found.values()]


def _too_large(parts: list[Part], device: str, memory: float) -> str:
    """The remedies, the most helpful first, with the parts that each makes smaller."""
    if (needed := total(parts)) <= memory:
        return ""
    helped: dict[str, list[Part]] = {}
    for part in parts:
        if part.remedy and part.size >= NAMED * needed:
            helped.setdefault(part.remedy, []).append(part)
    ranked = sorted(helped.items(), key=lambda item: -total(item[1]))
    remedies = [f"{key} ({', '.join(p.name for p in ps)}: {gib(total(ps))})" for key, ps in ranked]
    has = f"{device} has {gib(memory)}"
    return f"needs {gib(needed)}, {has}; {'; or '.join(remedies)}"


def _too_small_a_share(job: Job, size: ModelSize, machine: Machine) -> str:
    weights, share = BYTES[job.dtype] * size.parameters, job.vllm_share * (machine.memory or 0.0)
    if job.engine != "vllm" or machine.device == "cpu" or weights <= share:
        return ""
    return (
        f"vLLM's share of the GPU, {gib(share)}, does not hold the weights, {gib(weights)}; raise "
        f"{job.section}.vllm_memory"
    )


def _model_parts(job: Job, size: ModelSize, launch: Launch) -> list[Part]:
    """Weights, and what training keeps beside them."""
    copy, sharded = BYTES[job.dtype] * size.parameters, WEIGHTS in launch.sharded
    full = size.parameters if job.trained and not job.rank else 0  # weights that are trained
    smaller = LIGHTER if full else SMALLER
    if job.kind == EVALUATE:
        smaller = "set compute.dtype to bfloat16" if job.dtype == "float32" else SMALLER
        copy = 0 if job.engine == "vllm" else copy
    products = float(copy) if full and job.dtype != "float32" else 0.0
    if full and sharded and not products:  # a layer at a time, beside embeddings and output layer
        products = 4 * (2 * size.vocab_size * size.hidden_size + full / size.layers)
    measured = job.kind == TRAIN and job.config["train"]["kl_every"]
    initial = (4 * full or copy) if measured else 0
    trained = 16 * adapters(size, job.rank)
    return [
        Part("weights", launch.held(WEIGHTS, 4 * full) or copy, ALWAYS, smaller),
        Part("Adam's moments", launch.held(MOMENTS, 8 * full), ALWAYS, smaller),
        Part("gradients", launch.held(GRADIENTS, 4 * full), UPDATE, smaller),
        Part("adapters and what Adam keeps of them", trained, ALWAYS, "lower lora.rank"),
        Part("weights for products", products, UPDATE),
        Part("whole weights for the engine", 4 * full if sharded else 0, SAMPLING, SMALLER),
        Part("initial policy", initial, ALWAYS, "set train.kl_every to 0"),
    ]


def _update_parts(job: Job, size: ModelSize) -> list[Part]:
    """What a micro-batch needs."""
    row = job.prompt + job.cap
    if job.kind == TRAIN:
        train = job.config["train"]
        tokens, checkpointing = train["micro_batch"] * row, train["gradient_checkpointing"]
        tokens = max(row, min(tokens, train["micro_batch_tokens"] or tokens))
        # TRL's micro-batches are of equal size.
        fewer = "lower train.micro_batch" + ("" if job.by_trl else " or train.micro_batch_tokens")
        fewer += "" if checkpointing else ", or set train.gradient_checkpointing to true"
        chunk, fewer_logits = train["chunk_tokens"], "lower train.chunk_tokens"
    else:
        supervised = job.config["supervised"]
        tokens = min(supervised["micro_batch"], supervised["batch_size"]) * row
        checkpointing, chunk = False, SUPERVISED_CHUNK
        fewer = fewer_logits = "lower pretrain.supervised.micro_batch"
    kept = activations(size, tokens, job.dtype, checkpointing)
    logits = LOGIT * size.vocab_size * min(chunk, tokens * job.cap / row)
    return [Part("activations", kept, UPDATE, fewer), Part("logits", logits, UPDATE, fewer_logits)]


def _engine_parts(job: Job, size: ModelSize, launch: Launch, machine: Machine) -> list[Part]:
    """What sampling needs beside the model."""
    copy, on_cpu, torch = (
        BYTES[job.dtype] * size.parameters,
        machine.device == "cpu",
        job.engine == "torch",
    )
    # Another precision or a part of the weights needs a copy, vLLM one with adapters merged, and a server
    # on the CPU reads it from a file.
    sharded = WEIGHTS in launch.sharded
    copied = job.rank or (job.engine == "vllm_server" and on_cpu)
    less = SMALLER
    if torch:
        rounded = "weights_dtype" in job.config.get("rollout", {})
        whole = not job.rank and (sharded or job.dtype != "float32")
        copied = job.kind == TRAIN and (rounded or whole)
        if not sharded:
            less = "set compute.dtype to float32, whose weights sampling shares"
        if rounded:
            less = "leave out rollout.weights_dtype, so that sampling shares the policy's weights"
    taken, lower = copy + VLLM_CPU_CACHE, ""
    if job.engine == "vllm" and not on_cpu:
        taken, lower = job.vllm_share * (machine.memory or 0), f"lower {job.section}.vllm_memory"
    width = BYTES["float32" if "supervised" in job.config else job.dtype]
    cache = (job.prompt + job.cap) * size.layers * 2 * size.key_size * width
    held = _sampled_at_once(job, launch) * (CACHE_GROWTH * cache + SAMPLED_LOGIT * size.vocab_size)
    return [
        Part(
            "copy of the weights to sample from",
            copy if copied else 0,
            ALWAYS if torch else SAMPLING,
            less,
        ),
        Part("vLLM", taken if job.engine == "vllm" else 0, ALWAYS, lower),
        Part("sampling", held if torch else 0, SAMPLING, "lower rollout.max_batch"),
    ]


def _sampled_at_once(job: Job, launch: Launch) -> int:
    limits = job.config.get("rollout") or job.config["sampling"]
    if job.kind == EVALUATE:
        return min(job.sampled or limits["max_batch"], limits["max_batch"])
    validation, rollout = job.config["validation"], 0
    if job.kind == TRAIN:
        rollout = limits["prompts_per_step"] * limits["group_size"] // launch.processes
    asked = max(rollout, validation["problems"] * max(1, validation["samples"]))
    return min(asked, limits["max_batch"])
