"""Stands for ``python`` where a warm program starts another: a fork of the same server.

The server copies this file beside its socket, and makes it the ``sys.executable`` of a program that
asks for it. Whoever starts it waits for it, and signals it, as for Python.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys


def ask(words: list[str], address: str) -> int:
    """Have the server run the program, with the open files of this process; how it ended."""
    # What Python has opened for itself is not inheritable.
    numbers = [fd for fd in map(int, os.listdir("/dev/fd")) if fd < 3 or _inherited(fd)]
    status, theirs = os.pipe()
    request = {"words": words, "cwd": os.getcwd(), "env": dict(os.environ), "numbers": numbers}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.connect(address)
        socket.send_fds(server, [json.dumps(request).encode()], [theirs, *numbers])
    os.close(theirs)
    with os.fdopen(status) as lines:
        pid = int(lines.readline())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            signal.signal(number, lambda which, frame: os.kill(pid, which))
        return int(lines.readline())


def _inherited(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # that of the listing itself
        return False


def main(python: str) -> None:
    """Run what the words say: by the server, or by Python if the server has no way to."""
    words = sys.argv[1:]
    while words[:1] in (["-u"], ["-B"]):  # what a program sees is the same with them
        del words[0]
    option = words[0] if words else "-"
    if option.startswith("-") and option not in ("-m", "-c"):
        os.execv(python, [python, *sys.argv[1:]])
    code = ask(words, os.path.join(os.path.dirname(__file__), "socket"))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
