"""Fixtures and options for all tests: a seed for each test, golden files, the count of cells."""

from __future__ import annotations

import gc
import importlib
import multiprocessing.spawn
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from warm_python import WarmPython

pytest.register_assert_rewrite("golden")

from golden import golden, write_renewed  # noqa: E402  # after the line above

if TYPE_CHECKING:
    from helpers import Fused
    from torch import Tensor

# The models are tiny: threads would only wait for each other, in child processes too. (The process
# that hands out the tests does not import torch, which would take seconds before they begin.)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)  # whoever imported it before the line above


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """One seed for every test, and no compiled code of another test."""
    sys.modules["torch"].manual_seed(0)
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()


@pytest.fixture
def model() -> Fused:
    return importlib.import_module("helpers").Fused()


@pytest.fixture
def x() -> Tensor:
    return sys.modules["torch"].randn(16, 6)


@pytest.fixture(scope="session")
def python() -> Iterator[WarmPython]:
    """Runs programs in processes of their own that have imported torch already."""
    warm = WarmPython("torch", "torch._dynamo")
    yield warm
    warm.close()


@pytest.fixture
def warm_workers(python: WarmPython, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``multiprocessing`` spawns in this test has imported torch already."""
    python.run(["-c", ""])  # so that there is one
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(python.executable))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Fill a folder once in a test run: by the first pytest-xdist worker that asks for it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the folder of all workers

    def folder(name: str, fill: Callable[[Path], None]) -> Path:
        path = base / name.replace(" ", "_")
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                partial = Path(tempfile.mkdtemp(dir=base))
                fill(partial)
                partial.rename(path)
        return path

    return folder


__all__ = ["golden"]  # a fixture


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew-golden", action="store_true", help="write the golden files again")


def pytest_sessionfinish() -> None:
    write_renewed()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cell: one cell of the matrix of bit identity")
    config.addinivalue_line("markers", "negative_control: shows that a guard is needed")
    config.addinivalue_line("markers", "situation: a relative of a fault found in the field")
    config.addinivalue_line(
        "markers", "slow: long matrices, processes of their own; left out with -m 'not slow'"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first, so that at the end no worker waits for the last of them."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # a stable sort


def pytest_collection_finish() -> None:
    """From now on no collection looks at what is imported: that would take most of its time."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much of the promise of silence was shown in this run."""
    passed = terminalreporter.stats.get("passed", [])
    cells = sum("cell" in report.keywords for report in passed)
    controls = sum("negative_control" in report.keywords for report in passed)
    situations = sum("situation" in report.keywords for report in passed)
    terminalreporter.write_line(
        f"bit identity: {cells} cells; negative controls: {controls}; situations: {situations}"
    )
