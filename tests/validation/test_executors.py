"""Executors: GPUs are shared out, runs on a cluster come back, a killed worker loses nothing."""

from __future__ import annotations

import os
import re
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import dask
import pytest
import torch
from distributed import LocalCluster

from cmiei_hooks.errors import CMIEIError
from cmiei_hooks.validation import Experiment, validate
from cmiei_hooks.validation.executors import _start, executor_of, local_processes, visible_gpus

# The first attempt of method with seed 1 kills its worker, when all finished runs are recorded.
TRAINING = """
import os, signal, time
from pathlib import Path
import torch
from torch import nn

def note(word):
    with open("notes", "a") as file:
        file.write(word + "\\n")

def train(attach, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 2))
    with attach(model, head="0", splits=[2, 2], warmup_epochs=0, k=1) as handle:
        kind = handle._recorder.arm.name
        note(f"begins {kind} {seed}")
        if kind == "method" and seed == 1 and not Path("killed").exists():
            Path("killed").touch()
            finished = lambda: Path("notes").read_text().count("ends")
            while len(list(Path("out/runs").glob("*.json"))) < finished():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        handle.set_epoch(0)
        model(torch.randn(8, 4)).sum().backward()
        note(f"ends {kind} {seed}")
    return {"value": model[0].weight.sum().item()}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "cluster_training.py").write_text(TRAINING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def experiment() -> Experiment:
    return Experiment("cluster_training:train", {}, {}, (0, 1))


@pytest.mark.slow
def test_a_killed_worker_of_a_cluster_loses_nothing_and_nothing_runs_twice(folder):
    with dask.config.set({"distributed.nanny.environ.PYTHONPATH": os.pathsep.join(map(str, PATHS))}), LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster, executor_of(f"dask:{cluster.scheduler_address}") as pool:
        report = validate(experiment(), "out", executor=pool)
    notes = Counter((folder / "notes").read_text().splitlines())
    runs = {f"{arm} {seed}" for arm in ("plain", "inert", "method", "random") for seed in (0, 1)}
    assert {note.removeprefix("ends ") for note in notes if note.startswith("ends")} == runs
    again = {note for note, times in notes.items() if times > 1}
    assert again == {"begins method 1"}
    assert len(list((folder / "out" / "runs").iterdir())) == len(runs)
    with ThreadPoolExecutor(1) as here:
        assert validate(experiment(), "elsewhere", executor=here)["metrics"] == report["metrics"]
