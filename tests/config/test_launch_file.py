"""What an accelerate file says of processes and shards."""

from __future__ import annotations

import pytest

from sspo.config.errors import ConfigError
from sspo.config.launch_file import Launch, read_launch


@pytest.mark.parametrize(
    ("text", "launch"),
    [
        ("num_processes: 2", Launch(2)),
        (
            "{num_processes: 2, distributed_type: DEEPSPEED, deepspeed_config: {zero_stage: 1}}",
            Launch(2, frozenset({"moments"})),
        ),
        ("{num_processes: 2, distributed_type: DEEPSPEED}", Launch(2)),
        (
            "{num_processes: 4, distributed_type: FSDP, "
            "fsdp_config: {fsdp_reshard_after_forward: false}}",
            Launch(4, frozenset({"moments", "gradients"})),
        ),
    ],
)
def test_a_launch_is_read_from_its_file(tmp_path, text, launch):
    (tmp_path / "launch.yaml").write_text(text)
    assert read_launch(tmp_path / "launch.yaml") == launch
    assert read_launch("") == Launch()


@pytest.mark.parametrize("text", ["", "num_processes: many", "num_processes: 0", "a: [", "- 1"])
def test_a_launch_that_says_no_processes_is_refused(tmp_path, text):
    (tmp_path / "launch.yaml").write_text(text)
    with pytest.raises(ConfigError, match="backends.accelerate_config: .*launch.yaml"):
        read_launch(tmp_path / "launch.yaml")
