"""A Python that has imported torch already: each program it runs is a fork of it.

Importing torch takes seconds of a test that runs a script in a process of its own. Here a server
imports it once, and forks for every program. What the program sees is what ``python`` would have
shown it (test_warm_python.py compares the two), except that the modules are imported already.
A test whose subject is the start of Python itself starts Python itself. What a program starts is
Python itself too, unless it is run with ``warm_children``.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

SERVER = Path(__file__).with_name("warm_server.py")


class WarmPython:
    """Runs programs in forks of one server, which ends with the process that made this.

    Example:
        >>> python = WarmPython("torch")
        >>> python.run(["train.py", "--epochs", "2"], cwd=folder).returncode
        0
    """

    def __init__(self, *modules: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name)
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, SERVER, self._folder.name, *modules],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            )
        self._having: dict[str, WarmPython] = {}

    @property
    def executable(self) -> str:
        """Runs such a fork too, once the first program has run; for those who start programs."""
        return str(self._path / "python")

    def close(self) -> None:
        """End the server, and wait for it."""
        for other in self._having.values():
            other._channel.close()
        self._channel.close()
        self._server.wait(30)
        self._folder.cleanup()

    def having(self, module: str) -> WarmPython:
        """A fork of the server that has imported this module too; the same one every time."""
        if module not in self._having:
            other = object.__new__(WarmPython)
            other._channel, theirs = socket.socketpair()
            other._having = {}
            other._path = self._path / module
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
        warm_children: bool = False,
    ) -> Running:
        """Start ``python WORDS``: a script, ``-m`` and a module, or ``-c`` and code.

        Args:
            env: variables besides those of this process.
            stderr: ``subprocess.STDOUT`` to have both in one.
            warm_children: each Python that it starts is a fork of this server too.
        """
        out, err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115  # closed by wait()
        request = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or Path.cwd()),
            "env": {**os.environ, **(env or {})},
            "numbers": [1, 2],
            "warm_children": warm_children,
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
