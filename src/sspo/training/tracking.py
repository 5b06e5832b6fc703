"""Show the metrics of a run while it trains: in TensorBoard, and in wandb or trackio where configured.

These curves are not results. Event files carry wall-clock times, so no provenance record holds their
hash, no rule lists them as output and no comparison of bytes covers them. Their numbers are those of
``metrics.jsonl``. A tracker that fails is dropped with a warning, and the run goes on.

A resumed run starts a new event file. It tells TensorBoard to ignore the steps of older files that the
run does again. In wandb and trackio every start of a process is a run of its own; the runs that belong
together have the same name and group.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from sspo.config.installed import check_packages
from sspo.config.settings import TrackingConfig
from sspo.training.metrics import Metrics, RunLog

log = logging.getLogger(__name__)

Write = Callable[[int, dict[str, float]], None]


class Tracker:
    """Shows the records of a run; opens its writers at the first record, whose step they need."""

    def __init__(self, folder: Path, run: str, config: TrackingConfig) -> None:
        """``folder`` holds the run's results; event files go into ``tensorboard/`` below it.

        Raises:
            ConfigError: TensorBoard or the service's package is not installed.
        """
        check_packages(config)
        self.openers: dict[str, Callable[[int], Write]] = {
            "TensorBoard": lambda first: _open_tensorboard(folder / "tensorboard", first)
        }
        if config.service != "none":
            self.openers[config.service] = lambda first: _open_service(config, run, folder)
        self.opened: dict[str, Write] = {}

    def __call__(self, step: int, record: Metrics) -> None:
        """Show every number of a record at its step."""
        values = numbers(record)
        for name in [*self.openers]:
            try:
                if name not in self.opened:
                    self.opened[name] = self.openers[name](step)
                self.opened[name](step, values)
            except Exception as error:
                log.warning("%s failed, the run goes on without it: %r", name, error)
                del self.openers[name]


class TrackedLog(RunLog):
    """A run log that shows each metrics record to a tracker once it is written."""

    def __init__(self, folder: str | Path, tracker: Callable[[int, Metrics], None]) -> None:
        super().__init__(folder)
        self.tracker = tracker

    def write(self, name: str, records: Iterable[Metrics]) -> None:
        """Append records to ``{name}.jsonl``."""
        records = [*records]
        super().write(name, records)
        for record in records if name == "metrics" else []:
            self.tracker(record["step"], record)


def numbers(record: Metrics) -> dict[str, float]:
    """The numbers of a record, without the step that they are drawn against."""
    return {
        key: value
        for key, value in record.items()
        if key != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _open_tensorboard(folder: Path, first: int) -> Write:
    """A new event file that replaces the steps from ``first`` on in older ones."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=first)

    def write(step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)
        writer.flush()  # a killed run keeps the curve up to its last step

    return write


def _open_service(config: TrackingConfig, run: str, folder: Path) -> Write:
    """A run in wandb or trackio with the name of ours."""
    names = {"project": config.project, "name": run, "group": run}
    if config.service == "wandb":
        import wandb

        # Without a limit (here in seconds), the end of a run waits for the network forever.
        settings = {"console": "off", "finish_timeout": 60}
        tracked = wandb.init(**names, dir=str(folder), settings=settings)
    else:
        import trackio

        tracked = trackio.init(**names)
    return lambda step, values: tracked.log(values, step=step)
