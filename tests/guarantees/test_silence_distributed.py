"""The promise of silence at two ranks: DistributedDataParallel and FSDP2, gloo on CPU."""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from silence import HEADS, PRECISIONS, Model, differences, train
from torch import nn
from torch.nn.parallel import DistributedDataParallel

try:
    from torch.distributed.fsdp import fully_shard
except ImportError:  # FSDP2 came with torch 2.6
    fully_shard = None

RANKS = 2
WRAPS = ["ddp"] + (["fsdp2"] if fully_shard else [])
# fully_shard forbids a head to write in place into its input, without the tool too.
NOT_SHARDED = {"in-place relu", "in-place leaky relu"}
RUNS = [
    run
    for run in itertools.product(WRAPS, HEADS, PRECISIONS)
    if not (run[0] == "fsdp2" and run[1] in NOT_SHARDED)
]
CELLS = [(*run, when) for run in RUNS for when in ("before", "after")]


def wrap_ddp(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model)


def wrap_fsdp2(model: nn.Module) -> nn.Module:
    mesh = dist.init_device_mesh("cpu", (RANKS,)) if hasattr(dist, "init_device_mesh") else None
    fully_shard(model.classifier, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def run(wrap: str, head: str, precision: str, attach_when: str, rank: int) -> list:
    torch.manual_seed(0)
    model = Model(HEADS[head]())
    wrapper = {"ddp": wrap_ddp, "fsdp2": wrap_fsdp2}[wrap]
    return train(model, wrapper, precision, attach_when, seed=rank)


def worker(rank: int, directory: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{directory}/store", rank=rank, world_size=RANKS
    )
    found: dict[str, list[str]] = {}
    for which in RUNS:
        plain = run(*which, "never", rank)
        for when in ("before", "after"):
            found[str((*which, when))] = differences(plain, run(*which, when, rank))
    Path(directory, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found() -> list[dict[str, list[str]]]:
    with tempfile.TemporaryDirectory() as directory:
        mp.start_processes(worker, (directory,), nprocs=RANKS, start_method="spawn")
        return [json.loads(Path(directory, f"{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.cell
@pytest.mark.parametrize("cell", CELLS, ids=["-".join(cell) for cell in CELLS])
def test_two_ranks(found, cell):
    for rank in range(RANKS):
        assert found[rank][str(cell)] == []
