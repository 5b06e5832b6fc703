rule pretrain:
    """Supervised warm-up from scratch to a base model that runs start from."""
    input:
        lambda wildcards: code("pretrain", config=CONFIGS[wildcards.base]),
        script=script("pretrain"),
        config=f"{RESULTS}/{{base}}/config.json",
        warmup=data_file("warmup.jsonl"),
        validation=data_file("validation.jsonl"),
        tracking=TRACKING,
    output:
        model=f"{RESULTS}/{{base}}/model/model.safetensors",
        metrics=f"{RESULTS}/{{base}}/metrics.jsonl",
        provenance=f"{RESULTS}/{{base}}/provenance.json",
    log:
        f"{RESULTS}/logs/pretrain/{{base}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{base}}.tsv"
    wildcard_constraints:
        base=one_of({*BASES} - {*IMPORTED}),
    threads: lambda wildcards: CONFIGS[wildcards.base]["compute"]["threads"]
    resources:
        **GPUS,
        mem_mb=MEMORY,
    params:
        folder=subpath(output.metrics, parent=True),
    shell:
        "python {input.script:q} --config {input.config} --warmup {input.warmup}"
        " --validation {input.validation} --tracking {input.tracking} --output {params.folder}"
        " > {log} 2>&1"


rule import_base:
    """A published model as the base model that runs start from."""
    input:
        code("import_base"),
        published_files,
        script=script("import_base"),
        config=f"{RESULTS}/{{base}}/config.json",
    output:
        model=f"{RESULTS}/{{base}}/model/model.safetensors",
        provenance=f"{RESULTS}/{{base}}/provenance.json",
    log:
        f"{RESULTS}/logs/import_base/{{base}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/import_base/{{base}}.tsv"
    wildcard_constraints:
        base=one_of(IMPORTED),
    resources:
        mem_mb=MEMORY,
    params:
        folder=subpath(output.provenance, parent=True),
    shell:
        "python {input.script:q} --config {input.config} --output {params.folder} > {log} 2>&1"


rule train:
    """Reinforcement learning: one method, one seed."""
    input:
        lambda wildcards: code(train_script(wildcards), config=RUNS[wildcards.run]),
        launch_file,
        script=lambda wildcards: script(train_script(wildcards)),
        config=f"{RESULTS}/runs/{{run}}/config.json",
        base=model_of_base,
        problems=data_file("train.jsonl"),
        validation=data_file("validation.jsonl"),
        tracking=TRACKING,
    output:
        model=f"{RESULTS}/runs/{{run}}/model/model.safetensors",
        metrics=f"{RESULTS}/runs/{{run}}/metrics.jsonl",
        provenance=f"{RESULTS}/runs/{{run}}/provenance.json",
        rollouts=f"{RESULTS}/runs/{{run}}/rollouts.jsonl.gz",
    log:
        f"{RESULTS}/logs/train/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{run}}.tsv"
    wildcard_constraints:
        run=one_of(RL_RUNS),
    threads: config["compute"]["threads"]
    resources:
        **({"gpu": gpus_of_training} if ON_GPU else {}),
        vllm_server=takes_the_server,
        mem_mb=MEMORY,
    params:
        base=subpath(input.base, parent=True),
        folder=subpath(output.metrics, parent=True),
        launcher=launcher,
    shell:
        "{params.launcher} {input.script:q} --config {input.config} --base {params.base}"
        " --problems {input.problems} --validation {input.validation} --tracking {input.tracking}"
        " --output {params.folder} > {log} 2>&1"


rule train_control:
    """The supervised-only control: as many updates, no reward."""
    input:
        lambda wildcards: code("train_control", config=RUNS[wildcards.run]),
        script=script("train_control"),
        config=f"{RESULTS}/runs/{{run}}/config.json",
        base=model_of_base,
        warmup=data_file("warmup.jsonl"),
        validation=data_file("validation.jsonl"),
        tracking=TRACKING,
    output:
        model=f"{RESULTS}/runs/{{run}}/model/model.safetensors",
        metrics=f"{RESULTS}/runs/{{run}}/metrics.jsonl",
        provenance=f"{RESULTS}/runs/{{run}}/provenance.json",
    log:
        f"{RESULTS}/logs/train/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{run}}.tsv"
    wildcard_constraints:
        run=one_of(CONTROL_RUNS),
    threads: config["compute"]["threads"]
    resources:
        **GPUS,
        mem_mb=MEMORY,
    params:
        base=subpath(input.base, parent=True),
        folder=subpath(output.metrics, parent=True),
    shell:
        "python {input.script:q} --config {input.config} --base {params.base}"
        " --warmup {input.warmup} --validation {input.validation} --tracking {input.tracking}"
        " --output {params.folder} > {log} 2>&1"
