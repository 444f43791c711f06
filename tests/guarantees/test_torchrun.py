"""Under the real launcher: two processes, unequal numbers of batches, nothing collective inside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os
import traceback

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cmiei_hooks

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = nn.Sequential()
model.add_module("encoder", nn.Linear(6, 12))
model.add_module("classifier", nn.Linear(12, 3))
model = DistributedDataParallel(model)
handle = cmiei_hooks.attach(
    model, head="classifier", splits=[6, 6], k=1, warmup_epochs=0, abs_thr=0.0, rel_thr=0.0
)
inside = []


def watch(name):
    original = getattr(dist, name)

    def watched(*args, **kwargs):
        files = [frame.filename for frame in traceback.extract_stack()]
        inside.append(any(file.endswith("training/step.py") for file in files))
        return original(*args, **kwargs)

    setattr(dist, name, watched)


for name in ("all_reduce", "all_gather", "broadcast", "barrier", "reduce_scatter", "send", "recv"):
    watch(name)
with model.join():
    for _ in range(3 + 4 * rank):  # rank 0: 3 batches, rank 1: 7
        model(torch.randn(8, 6)).square().sum().backward()
assert inside and not any(inside), "a collective inside the hook"
reduced = handle.metrics(reduce=True)
assert inside[-1], "the watch would have seen it"
os.write(1, f"RESULT {rank} {handle.step} {reduced['C_MIEI_Ratio']}\\n".encode())  # in one piece
dist.destroy_process_group()
"""


def test_under_torchrun_ranks_with_unequal_numbers_of_batches_do_not_hang(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0"]
    launcher += ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
    done = subprocess.run(
        [sys.executable, *launcher, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    results = sorted(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    assert results == ["RESULT 0 3 0.5", "RESULT 1 7 0.5"]
    assert done.stdout.count("C-MIEI attached") == 1  # rank 0 only
