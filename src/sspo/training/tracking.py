"""Curves while a run trains: its metrics in TensorBoard, and in wandb or trackio where configured.

What is written here is no result. Event files carry wall-clock times, so no record holds their hash, no
rule promises them and no comparison of bytes covers them; the numbers themselves are those of
``metrics.jsonl``. A tracker that fails is left out from there on and never touches the run.

A resumed run starts a new event file, in which TensorBoard is told to forget what older ones hold from its
first step on. In wandb and trackio every start of a process is a run of its own; all that belong to one run
have its name and group.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.settings import TrackingConfig
from sspo.training.metrics import Metrics, RunLog

log = logging.getLogger(__name__)

Write = Callable[[int, dict[str, float]], None]


class Tracker:
    """Shows the records of a run; opens what it writes to at the first one."""

    def __init__(self, folder: Path, run: str, config: TrackingConfig) -> None:
        """``folder`` holds the run's results; event files go into ``tensorboard/`` below it.

        Raises:
            ConfigError: a package that is asked for is not installed.
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
    """A run's log that shows each metrics record to a tracker once it is written."""

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
    """What a record measured: its numbers, without the step that they are drawn against."""
    return {
        key: value
        for key, value in record.items()
        if key != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def check_packages(config: TrackingConfig) -> None:
    """Refuse to start without the packages that tracking needs.

    Raises:
        ConfigError: names the key and what to install.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "tracking: TensorBoard is not installed; run `pip install -r requirements.txt`"
        )
    if config.service != "none" and importlib.util.find_spec(config.service) is None:
        raise ConfigError(
            f"tracking.service = {config.service!r} but {config.service} is not installed; run "
            f'`pip install --editable ".[{config.service}]"` or choose service none'
        )


def _open_tensorboard(folder: Path, first: int) -> Write:
    """A new event file; steps from ``first`` on that older ones hold do not count any more."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=first)

    def write(step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)
        writer.flush()  # a run that is killed resumes behind what it has reported

    return write


def _open_service(config: TrackingConfig, run: str, folder: Path) -> Write:
    """A run of the service's own, named after ours."""
    names = {"project": config.project, "name": run, "group": run}
    if config.service == "wandb":
        import wandb

        # Without a limit, the end of a run waits for the network for ever.
        settings = {"console": "off", "finish_timeout": 60}
        tracked = wandb.init(**names, dir=str(folder), settings=settings)
    else:
        import trackio

        tracked = trackio.init(**names)
    return lambda step, values: tracked.log(values, step=step)
