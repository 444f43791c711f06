"""Runs and records: what was done is kept and not repeated, and no process is left behind."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest
import trainings

from cmiei_hooks.errors import CMIEIWarning
from cmiei_hooks.reporting import write_files
from cmiei_hooks.validation.arms import PLAIN, Arm
from cmiei_hooks.validation.run_queue import RunQueue
from cmiei_hooks.validation.worker import Record, Run, sources_of

TRAIN = "trainings:train"


@pytest.mark.parametrize("name", ["function", "Class", "bound", "instance", "unwritten"])
def test_whatever_can_be_called_is_known_by_the_file_that_names_it(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    written = """import functools
def function(attach, seed): ...
class Class:
    def __init__(self, attach, seed): ...
    def __call__(self, attach, seed): ...
bound, instance, unwritten = functools.partial(function), Class(0, 0), max
"""
    module = f"callables_{name}"
    (tmp_path / f"{module}.py").write_text(written, encoding="utf-8")
    before = sources_of(f"{module}:{name}", {})
    (tmp_path / f"{module}.py").write_text(written + "# edited", encoding="utf-8")
    assert len(before) == 1
    assert sources_of(f"{module}:{name}", {}) != before


def test_an_edited_training_is_known_by_its_file(tmp_path, monkeypatch):
    source = Path(trainings.__file__).read_text()
    edited = tmp_path / "edited_training.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    edited.write_text(source)
    before = sources_of("edited_training:train", {"npz": str(edited), "epochs": 3})
    edited.write_text(source + "# changed\n")
    after = sources_of("edited_training:train", {"npz": str(edited), "epochs": 3})
    assert len(before) == len(after) == 2
    assert all(a != b for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "change",
    ["settings", "overrides", "seed", "arm", "train", "counts", "sources", "threads", "versions"],
)
def test_whatever_changes_a_run_changes_its_key(change, monkeypatch):
    content = {
        "train": TRAIN,
        "overrides": {"epochs": 4},
        "settings": {"k": 1},
        "arm": Arm("method"),
        "seed": 0,
        "counts": (1, 2),
        "sources": ("a",),
        "threads": 1,
    }
    other = {
        "settings": {"k": 2},
        "overrides": {},
        "seed": 1,
        "arm": Arm("method", settings={"sigma": 0.1}),
        "train": "other:train",
        "counts": (1,),
        "sources": ("b",),
        "threads": 2,
    }
    key = Run(**content).key
    assert Run(**content).key == key
    if change == "versions":
        monkeypatch.setattr("cmiei_hooks.validation.worker.versions", lambda: {"torch": "0"})
        assert Run(**content).key != key
    else:
        assert Run(**{**content, change: other[change]}).key != key


def do(directory: Path, train: str = TRAIN, seeds=(0,), **overrides) -> dict[int, Record]:
    """Runs of the plain arm, by their seeds."""
    with ThreadPoolExecutor(1) as pool:
        queue = RunQueue(lambda arm, seed, _: Run(train, overrides, {}, arm, seed), directory, pool)
        queue.do([(PLAIN, seed) for seed in seeds])
    return queue.records["plain"]


def test_a_record_is_read_as_it_was_written(tmp_path):
    (record,) = do(tmp_path, epochs=1).values()
    assert Record.read(json.dumps(asdict(record))) == record
    written = (tmp_path / "plain-seed0.json").stat().st_mtime_ns
    assert list(do(tmp_path, epochs=1).values()) == [record]
    assert (tmp_path / "plain-seed0.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"accuracy": [float("nan")] * 3}},
        {"metrics": {"accuracy": "0.9"}},
        {"metrics": []},
        {"metrics": {}},
        {"epochs": []},
        {"epochs": {}},
        {"epochs": [{"C_MIEI_Ratio": 0.1}]},
        {"epochs": [{"epoch": None}]},
        {"epochs": [3]},
        {"counts": [1.5]},
        {"counts": [-1]},
        {"counts": None},
        {"config": {"SIGMA": "much"}},
        {"config": None},
        {"digest": None},
        {"seconds": "long"},
        {"unknown": 1},
    ],
    ids=repr,
)
def test_a_record_with_the_right_key_and_wrong_content_is_run_again(tmp_path, change):
    expected = do(tmp_path, epochs=1)
    path = tmp_path / "plain-seed0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.warns(CMIEIWarning) as said:
        assert do(tmp_path, epochs=1) == expected
    assert len(said) == 1
    assert do(tmp_path, epochs=1) == expected  # without a warning: the file was replaced


def test_a_training_that_changes_directory_does_not_move_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").write_text("")
    do(tmp_path / "runs", "trainings:changes_directory", seeds=(0, 1), file="data")
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert Path.cwd() == tmp_path


def test_a_record_is_whole_while_several_write_it(tmp_path):
    record = next(iter(do(tmp_path, epochs=1).values()))
    path, text = tmp_path / "plain-seed0.json", json.dumps(asdict(record))

    def write() -> None:
        for _ in range(40):
            write_files(tmp_path, {path.name: text})

    with ThreadPoolExecutor(8) as pool:  # they share nothing but the directory, like processes
        writers = [pool.submit(write) for _ in range(8)]
        while not all(writer.done() for writer in writers):
            assert Record.read(path.read_text()) == record
    for writer in writers:
        writer.result()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
