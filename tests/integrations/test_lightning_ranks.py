"""The callback on two ranks, whether Lightning starts the script again or forks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from helpers import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("lightning") is None,
        reason="lightning is not installed (extra lightning)",
    ),
]
SCRIPT = Path(__file__).with_name("lightning_ranks.py")
PATHS = {"PYTHONPATH": f"{ROOT}:{ROOT}/tests"}


def saved(output: Path) -> list[dict]:
    """What the ranks had at the end."""
    return [torch.load(f"{output}-{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def by_hand(python, once) -> list[dict]:
    """The lines written by hand, on ranks that a launcher started."""

    def train(folder: Path) -> None:
        words = [SCRIPT, "ddp", "hand", folder / "hand"]
        for done in python.having("lightning.pytorch").run_ranks(words, env=PATHS):
            assert done.returncode == 0, done.stderr

    return saved(once("ranks of Lightning by hand", train) / "hand")


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_the_weights_are_those_of_the_lines_written_by_hand(python, by_hand, tmp_path, strategy):
    words = [SCRIPT, strategy, "callback", tmp_path / "callback"]
    done = python.having("lightning.pytorch").run(
        words, cwd=tmp_path, env=PATHS, warm_children=True
    )
    assert done.returncode == 0, done.stderr
    ours = saved(tmp_path / "callback")
    for one, other in zip(ours, by_hand, strict=True):
        assert all(one["weights"][key].equal(other["weights"][key]) for key in other["weights"])
        assert one["state"]["step"] == other["state"]["step"] == 8
        assert one["state"]["totals"].equal(other["state"]["totals"])
        assert one["state"]["totals"][3] > 0  # substituted samples
    assert done.stdout.count("C-MIEI attached") == 1
    # The monitored metrics are those of both ranks.
    sums = [rank["state"]["sums"] for rank in ours]
    influence = sum(s[3] / s[0] * s[1] for s in sums) / sum(s[1] for s in sums)
    for rank in ours:
        assert rank["monitored"]["CI_r"].item() == pytest.approx(influence.item(), rel=1e-6)
