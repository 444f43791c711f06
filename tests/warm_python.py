"""A Python that has imported torch already: each program it runs is a fork of it.

Importing torch takes seconds of a test that runs a script in a process of its own. Here a server
imports it once, and forks for every program. What the program sees is what ``python`` would have
shown it (test_warm_python.py compares the two), except that the modules are imported already.
A test whose subject is the start of Python itself starts Python itself.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import importlib
import io
import json
import multiprocessing.process
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import IO, Any


class WarmPython:
    """Runs programs in forks of one server, which ends with the process that made this.

    Example:
        >>> python = WarmPython("torch")
        >>> python.run(["train.py", "--epochs", "2"], cwd=folder).returncode
        0
    """

    def __init__(self, *modules: str) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, __file__, *modules],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            )
        self._having: dict[str, WarmPython] = {}

    def close(self) -> None:
        """End the server, and wait for it."""
        for other in self._having.values():
            other._channel.close()
        self._channel.close()
        self._server.wait(30)

    def having(self, module: str) -> WarmPython:
        """A fork of the server that has imported this module too; the same one every time."""
        if module not in self._having:
            other = object.__new__(WarmPython)
            other._channel, theirs = socket.socketpair()
            other._having = {}
            with theirs:
                self._send({"module": module}, theirs.fileno())
            self._having[module] = other
        return self._having[module]

    def start(
        self,
        words: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stderr: int | None = None,
    ) -> Running:
        """Start ``python WORDS``: a script, ``-m`` and a module, or ``-c`` and code.

        Args:
            env: variables besides those of this process.
            stderr: ``subprocess.STDOUT`` to have both in one.
        """
        out, err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115  # closed by wait()
        request = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or Path.cwd()),
            "env": {**os.environ, **(env or {})},
        }
        status, theirs = os.pipe()
        target = out if stderr == subprocess.STDOUT else err
        self._send(request, theirs, out.fileno(), target.fileno())
        os.close(theirs)
        return Running([sys.executable, *request["words"]], os.fdopen(status), out, err)

    def run(
        self, words: Sequence[str | Path], *, timeout: float = 300, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """As ``start``, to the end."""
        return self.start(words, **options).wait(timeout)

    def run_ranks(
        self, words: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> list[subprocess.CompletedProcess[str]]:
        """Run it on two ranks, each told what ``torchrun`` would tell it."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **(env or {})}
        ranks = [{**world, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
        started = [self.start(words, env=rank, **options) for rank in ranks]
        return [rank.wait() for rank in started]

    def _send(self, request: object, *files: int) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(request).encode())
            file.seek(0)
            socket.send_fds(self._channel, [b"."], [file.fileno(), *files])


class Running:
    """A program that was started."""

    def __init__(self, words: list[str], status: IO[str], out: IO[bytes], err: IO[bytes]) -> None:
        self._words, self._status, self._out, self._err = words, status, out, err

    def wait(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """How it ended; a program that takes longer is killed.

        Raises:
            subprocess.TimeoutExpired: so many seconds were not enough.
        """
        with self._status, self._out, self._err:
            pid = self._status.readline()
            if not select.select([self._status], [], [], timeout)[0]:
                os.kill(int(pid), signal.SIGKILL)
                raise subprocess.TimeoutExpired(self._words, timeout)
            code = self._status.readline()
            if not code:
                raise RuntimeError(f"the server of {self._words} ended")
            out, err = (file.seek(0) or file.read().decode() for file in (self._out, self._err))
            return subprocess.CompletedProcess(self._words, int(code), out, err)


def _serve(modules: Sequence[str]) -> None:
    """The server. The forks of it return here too, and become what was asked for."""
    channel = socket.socket(fileno=os.dup(0))
    while True:
        for module in modules:
            importlib.import_module(module)
        gc.collect()
        gc.freeze()  # what is never collected is never copied
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what is forked here
        request, files = _fork_for_each(channel)
        channel.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if "module" not in request:
            break
        channel, modules = socket.socket(fileno=files[0]), [request["module"]]
    _wait_for_a_fork(*files)
    _end(_exit_code(**request))


def _fork_for_each(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork for each request; returns it, and the files that came with it, in the fork."""
    while True:
        message, files, _, _ = socket.recv_fds(channel, 1, 4)
        if not message:
            os._exit(0)  # the tests are over
        if os.fork() == 0:
            with open(files[0], "rb") as request:
                return json.loads(request.read()), files[1:]
        for file in files:
            os.close(file)


def _wait_for_a_fork(status: int, out: int, err: int) -> None:
    """Fork, and tell how the fork ended; returns in the fork, which writes into these files."""
    pid = os.fork()
    if pid:
        os.close(out), os.close(err)
        os.write(status, f"{pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(status, f"{code}\n".encode())
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, out, err)):
        os.dup2(file, number)
        os.close(file)
    os.close(status)


def _exit_code(**request: Any) -> int:
    """Run the program, with what Python does when it ends; -2 if it was interrupted."""
    code = 0
    try:
        _become(**request)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    except BaseException as error:
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
        sys.excepthook(type(error), error, error.__traceback__)
    threading._shutdown()
    atexit._run_exitfuncs()
    return code


def _end(code: int) -> None:
    """End this process as ``multiprocessing`` ends one.

    To take down all modules one by one, as Python does, would write to most of the memory that is
    shared with the server, so that the kernel must copy it: that takes half a second.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _become(words: list[str], cwd: str, env: dict[str, str]) -> None:
    """Be ``python WORDS`` in this directory."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    multiprocessing.process.ORIGINAL_DIR = cwd
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()  # each process begins with another seed
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    paths = [os.path.abspath(path) for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[1:1] = dict.fromkeys(paths)
    sys.orig_argv = [sys.executable, *words]
    sys.excepthook = _show
    main = types.ModuleType("__main__")
    main.__dict__.update({"__builtins__": builtins, "__annotations__": {}})
    sys.modules["__main__"] = main
    sys.argv = words if words[0] not in ("-m", "-c") else [words[0], *words[2:]]
    if words[0] == "-m":
        sys.path[0] = cwd
        runpy._run_module_as_main(words[1])
        return
    if words[0] == "-c":
        sys.path[0] = ""
        code = compile(words[1], "<string>", "exec", dont_inherit=True)
    else:
        file = os.path.abspath(words[0])
        sys.path[0] = os.path.dirname(os.path.realpath(file))
        with io.open_code(file) as source:
            code = compile(source.read(), file, "exec", dont_inherit=True)
        main.__dict__.update({"__file__": file, "__cached__": None})
        main.__loader__ = SourceFileLoader("__main__", file)
    exec(code, main.__dict__)


def _show(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """As Python shows an exception, without the frames of this file."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    sys.__excepthook__(kind, error.with_traceback(traceback), traceback)


if __name__ == "__main__":
    _serve(sys.argv[1:])
