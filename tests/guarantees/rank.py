"""What each rank does in the tests at two ranks: ``torchrun`` starts this file with a folder."""

from __future__ import annotations

import copy
import sys
import traceback
from unittest import mock

import torch
import torch.distributed as dist
from heads import BRANCH_SHAPES, SHAPES, BranchShape, Shape
from helpers import WIDTHS, Fused, record_head_input
from torch.nn.parallel import DistributedDataParallel

import cmiei_hooks

SETTINGS = {
    "head": "classifier",
    "splits": WIDTHS,
    "k": 1,
    "warmup_epochs": 0,
    "abs_thr": 0.0,
    "rel_thr": 0.0,
    "seed": 3,
}
BATCH_LEVEL = {"sample_level": False, "sigma": 0.0}
COLLECTIVES = [
    "all_reduce",
    "all_gather",
    "all_gather_object",
    "broadcast",
    "barrier",
    "reduce_scatter",
    "send",
    "recv",
]


def batch(rank: int) -> torch.Tensor:
    """8 samples on rank 0; 12 on rank 1, which another modality dominates."""
    return torch.randn(8 + 4 * rank, 6, generator=torch.Generator().manual_seed(2 * rank))


def run(model: Fused, x: torch.Tensor, **settings) -> dict[str, object]:
    """One step; everything as plain tensors and numbers."""
    model, lines = copy.deepcopy(model), []
    handle = cmiei_hooks.attach(model, log=lines.append, log_period=1, **SETTINGS, **settings)
    inputs = record_head_input(model)
    model(x).square().sum().backward()
    return {
        "substituted": handle.last.substituted,
        "influence": handle.last.influence,
        "input": inputs[0],
        "features": model.features(x).detach(),
        "gradients": [p.grad for p in model.parameters()],
        "metrics": handle.metrics(),
        "reduced": handle.metrics(reduce=True),
        "lines": len(lines),
    }


def run_unequal(model: Fused, rank: int) -> dict[str, object]:
    """Three batches on rank 0, seven on rank 1. Of each collective: whether the tool called it."""
    inside: list[bool] = []

    def watched(original):
        def collective(*args, **kwargs):
            files = [frame.filename for frame in traceback.extract_stack()]
            inside.append(any(file.endswith("training/step.py") for file in files))
            return original(*args, **kwargs)

        return collective

    wrapped = DistributedDataParallel(copy.deepcopy(model))
    handle = cmiei_hooks.attach(wrapped, **SETTINGS)
    with mock.patch.multiple(dist, **{name: watched(getattr(dist, name)) for name in COLLECTIVES}):
        with wrapped.join():
            for _ in range(3 + 4 * rank):
                wrapped(torch.randn(8, 6)).square().sum().backward()
        in_training = list(inside)
        reduced = handle.metrics(reduce=True)
    return {
        "steps": handle.step,
        "collectives in training": in_training,
        "collectives in metrics": inside[len(in_training) :],
        "ratio": reduced["C_MIEI_Ratio"],
    }


def train_wrapped(shape: Shape | BranchShape, rank: int) -> dict[str, object]:
    """Two steps of a model in DDP, which has no head of its own or is its own head."""
    torch.manual_seed(0)
    wrapped = DistributedDataParallel(shape.make())
    settings = {key: value for key, value in SETTINGS.items() if key not in ("head", "splits")}
    handle = cmiei_hooks.attach(wrapped, log=False, **shape.where, **settings)
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.1)
    torch.manual_seed(rank)
    for _ in range(2):
        optimizer.zero_grad()
        given = (torch.randn(8, 3, 6),) if isinstance(shape, BranchShape) else shape.batch()
        returned = wrapped(*given)
        logits = returned[0] if isinstance(returned, tuple) else returned
        logits.square().sum().backward()
        optimizer.step()
    return {
        "steps": handle.step,
        "substituted": handle.last.substituted,
        "parameters": [p.detach() for p in wrapped.parameters()],
    }


def main(folder: str) -> None:
    """Run every case on this rank and save what it saw."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    model, x = Fused(), batch(rank)
    results = {
        "same batch": run(model, batch(0), sigma=1.0, p_max=1.0),
        "own": run(model, x, **BATCH_LEVEL),
        "sync": run(model, x, sync=True, **BATCH_LEVEL),
        "sync samples": run(model, x, sync=True, sigma=0.0, p_max=1.0),
        "sync relative": run(model, x, sync=True, relative=True, sigma=0.0, p_max=1.0),
        # The cap of rank 0 lets nobody through; it must take part all the same.
        "sync, one sample": run(model, x[: 1 + 7 * rank], sync=True, sigma=0.0, p_max=0.5),
        "sync soft": run(model, x, sync=True, preset="selfpaced", gate=None, end_step=9),
        "unequal": run_unequal(model, rank),
        "branches": train_wrapped(BRANCH_SHAPES["mean"], rank),
        "the whole model": train_wrapped(SHAPES["the whole model, token ids"], rank),
    }
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
