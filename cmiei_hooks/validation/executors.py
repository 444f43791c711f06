"""Where runs are executed: in processes of this machine, by Dask, or by the user's executor."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue

import torch

from ..auditing import import_function
from ..errors import ValidationError, missing_extra
from ..reporting import ClosableStream
from .quiet_processes import QuietContext

__all__ = ["executor_of", "local_processes", "visible_gpus"]

_DASK = "dask:"


def visible_gpus() -> list[str]:
    """The GPUs of this machine, by the names that ``CUDA_VISIBLE_DEVICES`` has for them."""
    number = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(i) for i in range(number)] if named is None else named.split(",")[:number]


@contextmanager
def local_processes(jobs: int, gpus: Sequence[str] | None = None) -> Iterator[Executor]:
    """Worker processes. They start when the first run needs them, and end with this process.

    Args:
        jobs: the number of processes.
        gpus: the GPUs to share out; each process sees one of them only. If there are more
            processes, several have the same one. None: the GPUs of this machine.
    """
    context = QuietContext()
    names = visible_gpus() if gpus is None else gpus
    shares = context.SimpleQueue()
    for job in range(jobs if names else 0):
        shares.put(names[job % len(names)])
    pool = ProcessPoolExecutor(jobs, context, _start, (list(sys.path), shares if names else None))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        context.end()
        raise
    pool.shutdown()


def _start(path: list[str], gpus: SimpleQueue[str] | None) -> None:
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus.get()  # CUDA reads it when it is first used
    sys.path[:] = path
    # Whoever reads what a training prints may stop; the training goes on.
    sys.stdout, sys.stderr = map(ClosableStream, (sys.stdout, sys.stderr))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent ends: a parent that was killed cannot do it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def executor_of(name: str) -> Iterator[Executor]:
    """The executor that ``dask:ADDRESS`` or ``module:function`` names. It is shut down at the end.

    Raises:
        ValidationError, CheckpointError: there is no such cluster or function, or it returns
            something else.
    """
    if not all(name.partition(":")):
        raise ValidationError(
            f"{name!r} does not name an executor",
            got=repr(name),
            expected="dask:ADDRESS or MODULE:FUNCTION",
            remedy="write the address of the scheduler, such as dask:tcp://host:8786, or a "
            "function of yours that returns a concurrent.futures.Executor",
        )
    executor = _dask if name.startswith(_DASK) else _of_user
    with executor(name) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False)
            raise
        pool.shutdown()


@contextmanager
def _dask(name: str) -> Iterator[Executor]:
    """Dask's own executor."""
    try:
        from distributed import Client  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise missing_extra("cluster", f"{name} needs Dask", error, ValidationError) from None
    address = name.removeprefix(_DASK)
    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValidationError(
            f"the Dask scheduler of {name} cannot be reached",
            got=f"{type(error).__name__}: {error}",
            expected="the address that dask scheduler prints, such as dask:tcp://host:8786",
            remedy="start it with: dask scheduler; and workers with: dask worker ADDRESS "
            "--nthreads 1",
        ) from None
    with client:
        yield client.get_executor()


@contextmanager
def _of_user(name: str) -> Iterator[Executor]:
    executor = import_function(name)()
    if not isinstance(executor, Executor):
        raise ValidationError(
            f"{name} does not return an executor",
            got=repr(executor)[:200],
            expected="a concurrent.futures.Executor",
            remedy="return an instance of a class that is derived from it; docs/validation.md has "
            "one for SLURM and one for Ray",
        )
    yield executor
