"""Silence at two ranks: DistributedDataParallel and FSDP2, gloo on CPU."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from guards import GUARDS, without
from silence import HEADS, PRECISIONS, Model, differences, train
from torch import nn
from torch.nn.parallel import DistributedDataParallel

RANKS = 2
STEPS = 5
"""Optimizer steps, with two forwards each; the negative controls differ after as many."""
# FSDP2 came with torch 2.6. It is imported in the ranks only: that takes seconds.
WRAPS = ["ddp"] + (["fsdp2"] if torch.__version__ >= "2.6" else [])
# fully_shard forbids a head to write in place into its input, without the tool too.
NOT_SHARDED = {"in-place relu", "in-place leaky relu"}
RUNS = [
    run
    for run in itertools.product(WRAPS, HEADS, PRECISIONS)
    if not (run[0] == "fsdp2" and run[1] in NOT_SHARDED)
]
CELLS = [(*run, when) for run in RUNS for when in ("before", "after")]
GUARD = "buffers are lent"
"""What is taken away in the negative controls."""


def wrap_ddp(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model)


def wrap_fsdp2(model: nn.Module) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    mesh = dist.init_device_mesh("cpu", (RANKS,))
    fully_shard(model.classifier, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def run(wrap: str, head: str, precision: str, attach_when: str, rank: int) -> list:
    torch.manual_seed(0)
    model = Model(HEADS[head]())
    wrapper = {"ddp": wrap_ddp, "fsdp2": wrap_fsdp2}[wrap]
    return train(model, wrapper, precision, attach_when, STEPS, seed=rank)


def main(folder: Path) -> None:
    """Run all cells on this rank, and write what differs in each."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    found: dict[str, list[str]] = {}
    for which in RUNS:
        plain = run(*which, "never", rank)
        for when in ("before", "after"):
            found[str((*which, when))] = differences(plain, run(*which, when, rank))
    head, _, _ = GUARDS[GUARD]
    for wrap in WRAPS:
        plain = run(wrap, head, "fp32", "never", rank)
        with without(GUARD):
            found[wrap] = differences(plain, run(wrap, head, "fp32", "after", rank))
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(once, python) -> list[dict[str, list[str]]]:
    def start_ranks(folder: Path) -> None:
        here = Path(__file__)
        path = {"PYTHONPATH": f"{here.parents[2]}:{here.parents[1]}:{here.parent}"}
        ranks = python.run_ranks([here, folder], env=path)
        assert all(rank.returncode == 0 for rank in ranks), [rank.stderr for rank in ranks]

    folder = once("silence at two ranks", start_ranks)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.slow
@pytest.mark.cell
@pytest.mark.parametrize("cell", CELLS, ids=["-".join(cell) for cell in CELLS])
def test_two_ranks(found, cell):
    for rank in range(RANKS):
        assert found[rank][str(cell)] == []


@pytest.mark.slow
@pytest.mark.negative_control
@pytest.mark.parametrize("wrap", WRAPS)
def test_without_a_guard_the_ranks_differ(found, wrap):
    for rank in range(RANKS):
        assert found[rank][wrap] != []


if __name__ == "__main__":
    main(Path(sys.argv[1]))
