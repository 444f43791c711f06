"""The queue: what is recorded is not repeated, controls wait, what was done is kept."""

from __future__ import annotations

import math
import weakref
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import cmiei_hooks.validation.run_queue
from cmiei_hooks.errors import CMIEIWarning, ValidationError
from cmiei_hooks.validation.arms import INERT, PLAIN, Arm
from cmiei_hooks.validation.run_queue import RunQueue
from cmiei_hooks.validation.worker import Record, Run

TRAIN = "trainings:train"
METHOD = Arm("method")
RANDOM = Arm("random", "random", INERT.settings, "method")


def make(arm: Arm, seed: int, followed: Record | None) -> Run:
    counts = tuple(followed.counts) if followed else ()
    return Run(TRAIN, {"epochs": 2, "steps": 2}, {"k": 1}, arm, seed, counts)


def do(directory: Path, train: str = TRAIN, seeds=(0,), **overrides) -> dict[int, Record]:
    """Runs of the plain arm, by their seeds."""
    with ThreadPoolExecutor(1) as pool:
        queue = RunQueue(lambda arm, seed, _: Run(train, overrides, {}, arm, seed), directory, pool)
        queue.do([(PLAIN, seed) for seed in seeds])
    return queue.records["plain"]


def test_what_was_done_before_a_run_broke_is_kept(tmp_path, golden):
    with pytest.raises(ValidationError) as refusal:
        do(tmp_path, "trainings:breaks_at_seed_1", seeds=(0, 1))
    golden(refusal.value)
    assert {path.name for path in tmp_path.iterdir()} == {"plain-seed0.json"}


def test_damaged_records_are_named_once(tmp_path, golden):
    do(tmp_path, seeds=(0, 1, 2), epochs=1)
    for seed in (0, 2):
        path = tmp_path / f"plain-seed{seed}.json"
        path.write_text(path.read_text()[:50])
    with pytest.warns(CMIEIWarning) as said:
        do(tmp_path, seeds=(0, 1, 2), epochs=1)
    (message,) = said
    golden(str(message.message).replace(str(tmp_path), "DIRECTORY"))


class Noted(Executor):
    """Executes at once, and notes what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def submit(self, function, run, /, *arguments) -> Future:
        self.asked.append(f"{run.arm.name} {run.seed}")
        future: Future = Future()
        future.set_result(function(run, *arguments))
        return future


def test_a_control_begins_after_its_own_arm_in_whatever_order_they_are_asked_for(tmp_path):
    pool, said = Noted(), []
    queue = RunQueue(make, tmp_path, pool)
    queue.do([(RANDOM, 0), (RANDOM, 1), (METHOD, 1), (METHOD, 0)], said.append)
    assert pool.asked[:2] == ["method 1", "method 0"]
    assert sorted(pool.asked[2:]) == ["random 0", "random 1"]
    assert said[0] is None
    assert sorted(f"{run.arm.name} {run.seed}" for run in said[1:]) == sorted(pool.asked)
    for seed in (0, 1):
        method, random = (queue.records[arm][seed].counts for arm in ("method", "random"))
        assert sum(method) > 0
        assert method == random


def test_a_control_whose_arm_is_recorded_is_done_alone(tmp_path):
    RunQueue(make, tmp_path, Noted()).do([(METHOD, 0)])
    pool = Noted()
    RunQueue(make, tmp_path, pool).do([(RANDOM, 0), (METHOD, 0)])
    assert pool.asked == ["random 0"]


def test_what_was_asked_for_before_is_not_done_again(tmp_path):
    pool = Noted()
    queue = RunQueue(make, tmp_path, pool)
    queue.do([(METHOD, 0)])
    queue.do([(METHOD, 0), (RANDOM, 0), (METHOD, 1)])
    assert sorted(pool.asked) == ["method 0", "method 1", "random 0"]


class Remembered(Executor):
    """Executes at once, and counts the futures that somebody still holds at the next run."""

    def __init__(self) -> None:
        self._futures: list[weakref.ref[Future]] = []
        self.held: list[int] = []

    def submit(self, function, /, *arguments) -> Future:
        future: Future = Future()
        future.set_result(function(*arguments))
        self._futures.append(weakref.ref(future))
        self.held.append(sum(each() is not None for each in self._futures) - 1)
        return future


def test_futures_of_finished_runs_are_let_go(tmp_path):
    """Dask would do a run again whose future somebody holds, when its machine is lost."""
    pool = Remembered()
    queue = RunQueue(make, tmp_path, pool)
    queue.do([(PLAIN, 0)])
    queue.do([(PLAIN, 1), (METHOD, 0), (METHOD, 1), (RANDOM, 0), (RANDOM, 1)])
    # The runs that may begin at the same time are held together.
    assert pool.held == [0, *range(3), *range(2)]


class Half(Executor):
    """Finishes the first run it gets, and breaks the second."""

    def __init__(self) -> None:
        self.futures: list[Future] = []

    def submit(self, function, run, directory, here, /) -> Future:
        future: Future = Future()
        self.futures.append(future)
        if len(self.futures) == 3:  # all are there: the second breaks, the first is done
            self.futures[1].set_exception(RuntimeError("no machine"))
            self.futures[0].set_result(function(self.first, Path("not/here"), here))
        self.first = run if len(self.futures) == 1 else self.first
        return future


def test_after_an_error_nothing_begins_and_what_is_done_is_kept(tmp_path, golden):
    pool = Half()
    with pytest.raises(ValidationError) as refusal:
        RunQueue(make, tmp_path, pool).do([(PLAIN, 0), (PLAIN, 1), (PLAIN, 2)])
    golden(refusal.value)
    assert pool.futures[2].cancelled()
    assert {path.name for path in tmp_path.iterdir()} == {"plain-seed0.json"}


def recorded_in(seconds: float, tmp_path: Path, jobs: int | None) -> RunQueue:
    """A queue with two runs that took so long."""
    queue = RunQueue(make, tmp_path, Noted(), jobs)
    queue.do([(PLAIN, 0)])
    record = replace(queue.records["plain"][0], seconds=seconds)
    queue.records["plain"] = {0: record, 1: record}
    return queue


@pytest.mark.parametrize(("jobs", "seconds"), [(1, 50.0), (2, 30.0), (5, 10.0), (9, 10.0)])
def test_the_time_that_is_left_is_that_of_whole_rounds(tmp_path, jobs, seconds):
    assert recorded_in(10.0, tmp_path, jobs).seconds(5) == seconds


def test_how_many_runs_a_cluster_does_at_once_is_seen(tmp_path, monkeypatch):
    queue = recorded_in(10.0, tmp_path, None)
    assert queue.seconds(6) == pytest.approx(60.0)  # nothing was seen yet
    queue._executed = 40.0  # seconds of training ...
    clock = queue._begun + 10.0  # ... in ten seconds: four at once
    monkeypatch.setattr(cmiei_hooks.validation.run_queue.time, "monotonic", lambda: clock)
    assert queue.seconds(6) == pytest.approx(15.0)
    assert queue.seconds(0) == 0
    assert math.isnan(RunQueue(make, tmp_path, Noted(), 1).seconds(1))
