"""Two ranks with gloo: what they share, and what they do not."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from helpers import WIDTHS, Fused, record_head_input

import cmiei_hooks
from cmiei_hooks import distributed

RANKS = 2
SETTINGS = {
    "head": "classifier",
    "splits": WIDTHS,
    "k": 1,
    "warmup_epochs": 0,
    "abs_thr": 0.0,
    "rel_thr": 0.0,
    "seed": 3,
}


def batch(rank: int) -> torch.Tensor:
    """Unequal on purpose: 8 samples on rank 0, 12 on rank 1, which another modality dominates."""
    return torch.randn(8 + 4 * rank, 6, generator=torch.Generator().manual_seed(2 * rank))


def run(model: Fused, x: torch.Tensor, **settings) -> dict[str, object]:
    """One step; everything as plain tensors and numbers."""
    model, lines = copy.deepcopy(model), []
    handle = cmiei_hooks.attach(model, log=lines.append, log_period=1, **SETTINGS, **settings)
    inputs = record_head_input(model)
    model(x).square().sum().backward()
    return {
        "substituted": handle.last.substituted,
        "input": inputs[0],
        "features": model.features(x).detach(),
        "gradients": [p.grad for p in model.parameters()],
        "metrics": handle.metrics(),
        "reduced": handle.metrics(reduce=True),
        "lines": len(lines),
    }


def worker(rank: int, directory: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{directory}/store", rank=rank, world_size=RANKS
    )
    torch.manual_seed(0)
    model, x = Fused(), batch(rank)
    batch_level = {"sample_level": False, "sigma": 0.0}
    results = {
        "same batch": run(model, batch(0), sigma=1.0, p_max=1.0),
        "own": run(model, x, **batch_level),
        "sync": run(model, x, sync=True, **batch_level),
        "sync samples": run(model, x, sync=True, sigma=0.0, p_max=1.0),
        "sync relative": run(model, x, sync=True, relative=True, sigma=0.0, p_max=1.0),
        # the cap of rank 0 lets nobody through; it must take part all the same
        "sync, one sample": run(model, x[: 1 + 7 * rank], sync=True, sigma=0.0, p_max=0.5),
    }
    torch.save(results, f"{directory}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, dict]]:
    with tempfile.TemporaryDirectory() as directory:
        mp.start_processes(worker, (directory,), nprocs=RANKS, start_method="spawn")
        return [torch.load(Path(directory) / f"{r}.pt", weights_only=True) for r in range(RANKS)]


@pytest.fixture(scope="module")
def together() -> dict[str, dict]:
    """One process with the batches of both ranks."""
    torch.manual_seed(0)
    model, x = Fused(), torch.cat([batch(0), batch(1)])
    batch_level = {"sample_level": False, "sigma": 0.0}
    return {
        "sync": run(model, x, **batch_level),
        "sync samples": run(model, x, sigma=0.0, p_max=1.0),
        "sync relative": run(model, x, relative=True, sigma=0.0, p_max=1.0),
    }


def test_ranks_draw_different_noise(ranks):
    one, two = (rank["same batch"] for rank in ranks)
    assert torch.equal(one["features"], two["features"])
    assert torch.equal(one["substituted"], two["substituted"])
    assert (one["input"] != one["features"]).any()
    assert not torch.equal(one["input"], two["input"])


def test_only_rank_0_writes_lines(ranks):
    assert [rank["own"]["lines"] for rank in ranks] == [2, 0]


def test_without_sync_a_prototype_is_the_mean_of_the_ranks_own_batch(ranks):
    for rank in ranks:
        own = rank["own"]
        columns = (own["input"] != own["features"]).all(0)
        assert columns.any()
        mean = own["features"].mean(0).expand_as(own["features"])
        torch.testing.assert_close(own["input"][:, columns], mean[:, columns])


@pytest.mark.parametrize("case", ["sync", "sync samples", "sync relative"])
def test_with_sync_the_ranks_do_what_one_process_with_all_batches_does(ranks, together, case):
    parts = [rank[case] for rank in ranks]
    whole = together[case]
    assert torch.equal(torch.cat([p["substituted"] for p in parts]), whole["substituted"])
    assert (whole["substituted"] >= 0).any()
    torch.testing.assert_close(torch.cat([p["input"] for p in parts]), whole["input"])
    for one, two, both in zip(
        parts[0]["gradients"], parts[1]["gradients"], whole["gradients"], strict=True
    ):
        torch.testing.assert_close(one + two, both, rtol=1e-4, atol=1e-5)


def test_the_joint_decision_is_not_that_of_one_rank(ranks):
    """Otherwise the comparison above would not show that the decision is joint."""
    joint = ranks[0]["sync"]["substituted"][0]
    assert any(rank["own"]["substituted"][0] != joint for rank in ranks)


def test_with_sync_a_rank_whose_cap_is_zero_does_not_let_the_others_wait(ranks):
    one, eight = (rank["sync, one sample"]["substituted"] for rank in ranks)
    assert one.tolist() == [-1]
    assert (eight >= 0).sum() == 4


def test_without_sync_they_do_not(ranks, together):
    """The control: the comparison above can fail."""
    inputs = torch.cat([rank["own"]["input"] for rank in ranks])
    assert not torch.allclose(inputs, together["sync"]["input"])


def test_reduced_metrics_are_those_of_all_samples(ranks):
    one, two = (rank["own"] for rank in ranks)
    assert one["reduced"] == two["reduced"]
    assert one["metrics"] != two["metrics"]
    for key, value in one["reduced"].items():
        weighted = (8 * one["metrics"][key] + 12 * two["metrics"][key]) / 20
        assert value == pytest.approx(weighted, rel=1e-6)


LAUNCHED = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "LOCAL_WORLD_SIZE", "SLURM_PROCID")


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"RANK": "5", "LOCAL_RANK": "1", "GROUP_RANK": "2", "LOCAL_WORLD_SIZE": "2"}, 5),
        ({"RANK": "0", "LOCAL_RANK": "1", "SLURM_PROCID": "3"}, 0),
        ({"LOCAL_RANK": "1", "GROUP_RANK": "2", "LOCAL_WORLD_SIZE": "4"}, 9),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, 4),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, 1),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, 0),
        ({"LOCAL_RANK": "0", "SLURM_PROCID": "8"}, 8),
        ({"LOCAL_RANK": "3", "SLURM_PROCID": "0"}, 3),
        ({"LOCAL_RANK": "3"}, 3),
        ({"SLURM_PROCID": "3"}, 3),
        ({"RANK": "", "LOCAL_RANK": "none", "SLURM_PROCID": "2"}, 2),
    ],
    ids=str,
)
def test_the_rank_before_there_is_a_process_group(monkeypatch, variables, rank):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert distributed.rank() == rank


def test_attached_is_said_once_when_a_script_starts_itself_again(tmp_path):
    """As Lightning does: the first process has no variables, its children have LOCAL_RANK."""
    script = tmp_path / "train.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "from helpers import Fused\n"
        "import cmiei_hooks\n"
        "cmiei_hooks.attach(Fused(), head='classifier', splits=[4, 3, 5])\n"
        "if 'LOCAL_RANK' not in os.environ:\n"
        "    child = os.environ | {'LOCAL_RANK': '1', 'NODE_RANK': '0', 'WORLD_SIZE': '2'}\n"
        "    subprocess.run([sys.executable, __file__], env=child, check=True)\n"
    )
    tests = Path(__file__).parent
    clean = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env=clean | {"PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"},
    )
    assert done.stdout.count("C-MIEI attached") == 1


def test_alone_everything_works_without_a_process_group(x):
    assert not distributed.active()
    assert distributed.world_size() == 1
    assert distributed.sum_over_ranks(x) is x
    assert distributed.sum_over_ranks_with_grad(x) is x
    assert distributed.gather_objects("mine") == ["mine"]
    distributed.wait_for_all()
    with distributed.joined():
        assert not dist.is_initialized()


def test_joined_makes_a_process_group_and_ends_it(monkeypatch):
    made = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", made.append)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: made.append("destroyed"))
    with distributed.joined():
        assert made == ["gloo"]
    assert made == ["gloo", "destroyed"]
