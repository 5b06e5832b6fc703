"""Compute again the update at which a run met NaN or infinity, and say where it begins."""

from sspo.config.reading import load_json, parse
from sspo.config.settings import ComputeConfig
from sspo.models.torch_setup import set_up_torch
from sspo.pipeline.script import parse_paths, run
from sspo.training.replay import FAILURE, replay

SHOWN = 10


def main() -> None:
    paths = parse_paths(__doc__, failure="the folder that the failed run saved")
    saved = load_json(paths.failure / FAILURE)
    set_up_torch(parse(ComputeConfig, saved["config"]["compute"]))
    again = replay(paths.failure)
    print(f"{saved['run']}: step {saved['step']}, update {saved['update']}")
    print(f"saved:    {saved['found']}")
    print(f"replayed: loss {again.loss}, gradient norm {again.grad_norm}")
    for finding in again.findings[:SHOWN]:
        where = "" if finding.token is None else f", response token {finding.token}"
        print(f"response {finding.row} (problem {finding.problem}){where}: {finding.stage}")
    print(f"{len(again.findings)} responses are not finite")


if __name__ == "__main__":
    run(main)
