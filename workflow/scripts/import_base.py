"""Take a published model as a base: fetch it, check it, save it as every other base model."""

from sspo.config.reading import read
from sspo.config.run import ImportConfig
from sspo.models.policy import save_model
from sspo.models.pretrained import checkpoint_files, load_published
from sspo.pipeline.locks import hold_folder
from sspo.pipeline.provenance import write_record
from sspo.pipeline.script import parse_paths, run


def main() -> None:
    paths = parse_paths(__doc__, config="base config", output="folder for model/")
    hold_folder(paths.output)
    config = read(ImportConfig, paths.config).checkpoint
    model, tokenizer = load_published(config)
    save_model(model, tokenizer, paths.output / "model")
    write_record(
        paths.output / "provenance.json",
        __file__,
        inputs=[paths.config, *checkpoint_files(config)],
        outputs=(paths.output / "model").iterdir(),
    )


if __name__ == "__main__":
    run(main)
