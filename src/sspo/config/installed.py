"""Whether the packages that a section asks for are installed; none of them is imported for that."""

from __future__ import annotations

import importlib.util

from sspo.config.errors import ConfigError
from sspo.config.settings import TrackingConfig


def check_packages(config: TrackingConfig) -> None:
    """Check that the packages which tracking needs are installed.

    Raises:
        ConfigError: one is not; names the key and what to install.
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
