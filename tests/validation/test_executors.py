"""Executors: GPUs are shared out, runs on a cluster come back, a killed worker loses nothing."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.context import ForkContext
from pathlib import Path

import pytest
import torch

from cmiei_hooks.errors import CMIEIError
from cmiei_hooks.validation import Experiment, executor_of, validate, visible_gpus
from cmiei_hooks.validation.executors import local_processes

# The first attempt of 'method' with seed 1 kills its worker, once all finished runs are recorded.
TRAINING = """
import os, signal, time
from pathlib import Path
import torch
from torch import nn

def train(attach, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 2))
    run = f"{attach.arm.name} {seed}"
    with attach(model, head="0", splits=[2, 2], warmup_epochs=0, k=1) as handle:
        note("begins " + run)
        if run == "method 1" and not Path("killed").exists():
            Path("killed").touch()
            ended = Path("notes").read_text().count("ends")
            while len(list(Path("out/runs").glob("*.json"))) < ended:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        handle.set_epoch(0)
        model(torch.randn(8, 4)).sum().backward()
        note("ends " + run)
    return {"value": model[0].weight.grad.sum().item()}

def note(word):
    with open("notes", "a") as file:
        file.write(word + "\\n")
"""
RUNS = {f"{arm} {seed}" for arm in ("plain", "inert", "method", "random") for seed in (0, 1)}


@pytest.fixture
def experiment(tmp_path, monkeypatch, request):
    """A training in the working directory, of which nothing is imported yet."""
    name = f"training_of_{request.function.__name__}"
    (tmp_path / f"{name}.py").write_text(TRAINING)
    monkeypatch.chdir(tmp_path)
    return Experiment(f"{name}:train", {}, {}, (0, 1))


@pytest.fixture
def cluster(warm_workers):
    """Two workers of one thread. They are spawned: a fork of a process with threads may hang."""
    distributed = importlib.import_module("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as two:
        yield f"dask:{two.scheduler_address}"


def notes() -> Counter[str]:
    return Counter(Path("notes").read_text().splitlines())


def test_a_killed_worker_of_a_cluster_loses_nothing_and_nothing_runs_twice(experiment, cluster):
    with executor_of(cluster) as pool:
        report = validate(experiment, "out", executor=pool)
    assert {note: times for note, times in notes().items() if times > 1} == {"begins method 1": 2}
    assert {note.removeprefix("ends ") for note in notes() if note.startswith("ends")} == RUNS
    assert len(list(Path("out/runs").iterdir())) == len(RUNS)
    with ThreadPoolExecutor(1) as here:
        assert validate(experiment, "again", executor=here)["metrics"] == report["metrics"]


@pytest.mark.negative_control
def test_without_the_cluster_a_killed_worker_ends_the_validation(experiment, golden):
    with (
        pytest.raises(CMIEIError) as lost,
        ProcessPoolExecutor(2, get_context("fork")) as pool,
    ):
        validate(experiment, "out", executor=pool)
    golden(str(lost.value).partition("\n")[2])  # which of the runs is named is chance
    before = notes()
    with ThreadPoolExecutor(1) as here:
        validate(experiment, "out", executor=here)  # it goes on where it ended
    assert {note.removeprefix("ends ") for note in notes() if note.startswith("ends")} == RUNS
    assert all(notes()[note] == 1 for note in before if note.startswith("ends"))


class Elsewhere(ThreadPoolExecutor):
    """Machines that do not have the directory of the records."""

    def submit(self, function, run, directory, here, /) -> Future:
        return super().submit(function, run, Path("not/here"), here)


def test_records_come_back_from_machines_that_share_no_disk(experiment):
    Path("killed").touch()
    with Elsewhere(1) as pool:
        validate(experiment, "out", executor=pool)
    assert len(list(Path("out/runs").iterdir())) == len(RUNS)


class Broken(ThreadPoolExecutor):
    """Executes runs that are not the one it was given, as a machine with other versions would."""

    def submit(self, function, run, directory, here, /) -> Future:
        return super().submit(function, replace(run, threads=9), Path("not/here"), here)


def test_a_worker_with_other_versions_is_refused(experiment, golden):
    with pytest.raises(CMIEIError) as refusal, Broken(1) as pool:
        validate(experiment, "out", executor=pool)
    golden(refusal.value)
    assert not list(Path("out/runs").iterdir())


class Edited(ThreadPoolExecutor):
    """A machine that has another file of the training function."""

    def submit(self, function, run, directory, here, /) -> Future:
        return super().submit(function, replace(run, sources=("other",)), directory, here)


def test_a_worker_with_another_file_of_the_function_is_refused(experiment, golden, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "node-7")
    with pytest.raises(CMIEIError) as refusal, Edited(1) as pool:
        validate(experiment, "out", executor=pool)
    golden(refusal.value)
    assert not Path("notes").exists()


def test_threads_of_one_process_do_one_run_after_the_other(experiment):
    Path("killed").touch()
    with ThreadPoolExecutor(4) as pool:
        report = validate(experiment, "out", executor=pool)
    words = [word for word, *_ in map(str.split, Path("notes").read_text().splitlines())]
    assert words == ["begins", "ends"] * len(RUNS)
    assert all(check["passed"] for check in report["checks"] if "plain" in check["name"])


def threads_of_the_user() -> Executor:
    return ThreadPoolExecutor(1)


def nothing_of_the_user() -> None:
    return None


def test_the_users_executor_is_shut_down_at_the_end():
    with executor_of(f"{__name__}:threads_of_the_user") as pool:
        assert pool.submit(len, "ab").result() == 2
    with pytest.raises(RuntimeError):
        pool.submit(len, "ab")


@pytest.mark.parametrize(
    "name",
    [f"{__name__}:nothing_of_the_user", "dask", "dask:nowhere://", "slurm:"],
)
def test_what_is_no_executor_is_refused(name, golden):
    with pytest.raises(CMIEIError) as refusal, executor_of(name):
        pass
    golden(refusal.value)


def test_a_scheduler_that_is_not_there_is_refused(golden):
    dask = importlib.import_module("dask")
    importlib.import_module("distributed")  # with its defaults, which are changed here
    at_once = {"distributed.comm.timeouts.connect": "100ms"}
    with (
        dask.config.set(at_once),
        pytest.raises(CMIEIError) as refusal,
        executor_of("dask:tcp://127.0.0.1:1"),
    ):
        pass
    golden(refusal.value.problem)


def test_without_dask_the_extra_is_named(monkeypatch, golden):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(CMIEIError) as refusal, executor_of("dask:tcp://127.0.0.1:1"):
        pass
    golden(refusal.value)


@pytest.mark.parametrize(
    ("named", "seen"), [(None, ["0", "1", "2"]), ("5,GPU-a1,7", ["5", "GPU-a1", "7"])]
)
def test_the_gpus_of_this_machine_have_the_names_of_their_variable(monkeypatch, named, seen):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    if named is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == seen


class Forked(ForkContext):
    """Processes that start at once, since they need not import torch."""

    def end(self) -> None:
        raise AssertionError("the tasks raise no error")


def gpu_of_this_process(barrier: threading.Barrier) -> str | None:
    barrier.wait()  # the other processes have a task of their own meanwhile
    return os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("gpus", "seen"),
    [(["3", "7", "8"], ["3", "7", "8"]), (["3", "7"], ["3", "3", "7"]), ([], [None] * 3)],
    ids=["one each", "shared", "none"],
)
def test_each_process_gets_a_gpu_of_its_own(gpus, seen, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("cmiei_hooks.validation.executors.QuietContext", Forked)
    with get_context("fork").Manager() as manager, local_processes(3, gpus) as pool:
        barrier = manager.Barrier(3)
        tasks = [pool.submit(gpu_of_this_process, barrier) for _ in range(3)]
        assert sorted((task.result() for task in tasks), key=str) == seen


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that has ended but was not waited for counts as gone.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(scope="module")
def survivors(tmp_path_factory) -> list[bool]:
    """Whether workers live on when their parent is killed: of our pool, of one of Python's own."""
    script = tmp_path_factory.mktemp("killed") / "parent.py"
    script.write_text("""
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from cmiei_hooks.validation.executors import local_processes
if __name__ == "__main__":
    theirs = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    with local_processes(1) as ours, theirs:
        tasks = [pool.submit(os.getpid) for pool in (ours, theirs)]
        print(*[task.result() for task in tasks], flush=True)
        tasks = [pool.submit(time.sleep, 60) for pool in (ours, theirs)]
        tasks[0].result()
""")
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, script], **streams, text=True) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert [_alive(pid) for pid in workers] == [True, True]
        time.sleep(0.5)  # the second tasks have begun
        parent.kill()
    try:
        until = time.monotonic() + 20
        while _alive(workers[0]) and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)  # as much as the other one needs, and more
        return [_alive(pid) for pid in workers]
    finally:
        for pid in filter(_alive, workers):
            os.kill(pid, signal.SIGKILL)


in_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="looks at processes in /proc"
)


@pytest.mark.slow
@in_proc
def test_a_worker_ends_when_its_parent_is_killed(survivors):
    assert not survivors[0]


@pytest.mark.slow
@pytest.mark.negative_control
@in_proc
def test_a_worker_of_pythons_own_lives_on(survivors):
    assert survivors[1]
