"""Train the base model from scratch on worked solutions and save it as a Hugging Face checkpoint."""

from sspo.config.reading import read
from sspo.config.run import PretrainConfig
from sspo.config.settings import TrackingConfig
from sspo.data.problems import read_problems
from sspo.models.policy import build_model
from sspo.models.tokenizer import make_tokenizer
from sspo.models.torch_setup import set_up_torch
from sspo.pipeline.locks import hold_folder
from sspo.pipeline.script import parse_paths, record_training, run
from sspo.training.supervised import run_supervised
from sspo.training.tracking import Tracker


def main() -> None:
    paths = parse_paths(
        __doc__,
        *("config", "warmup", "validation", "tracking"),
        output="folder for model/ and metrics.jsonl",
    )
    hold_folder(paths.output)
    config = read(PretrainConfig, paths.config)
    set_up_torch(config.compute)
    records, validation = read_problems(paths.warmup), read_problems(paths.validation)
    texts = (f"{record['prompt']}{record['solution']}" for record in records)
    tokenizer = make_tokenizer(config, texts)
    model = build_model(config.model, len(tokenizer), config.seed).to(config.compute.device)
    tracker = Tracker(paths.output, "base", read(TrackingConfig, paths.tracking))
    run_supervised(
        model,
        tokenizer,
        records,
        validation,
        config,
        "base",
        paths.output,
        validation_file=paths.validation,
        tracker=tracker,
    )
    record_training(paths, __file__, "metrics.jsonl")


if __name__ == "__main__":
    run(main)
