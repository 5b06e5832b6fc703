"""Progress of a run: the time left from recent steps."""

import json

from sspo.training.progress import Progress


def test_progress_estimates_the_time_left_from_recent_steps(tmp_path, capsys):
    progress = Progress(tmp_path / "progress.json", "sspo-s0", 10)
    progress(1, {"reward": 0.25}, 2.0)
    progress(2, {"reward": 0.5}, 4.0)
    state = json.loads((tmp_path / "progress.json").read_text())
    assert state["seconds_left"] == 8 * 3.0
    assert state["reward"] == 0.5
    assert "sspo-s0 step 2/10 reward 0.500" in capsys.readouterr().out
