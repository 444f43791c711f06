"""The server of ``WarmPython``: it imports modules once, and forks for every program.

``python warm_server.py FOLDER MODULE...``; requests come through the socket that is its stdin, and
those of the programs that it runs through the socket in the folder, from ``warm_child.py``.
"""

from __future__ import annotations

import atexit
import builtins
import fcntl
import gc
import importlib
import io
import json
import multiprocessing.process
import multiprocessing.spawn
import os
import runpy
import select
import signal
import socket
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any


def _serve(folder: Path, modules: Sequence[str]) -> None:
    """The server. The forks of it return here too, and become what was asked for."""
    channel = socket.socket(fileno=os.dup(0))
    while True:
        for module in modules:
            importlib.import_module(module)
        gc.collect()
        gc.freeze()  # what is never collected is never copied
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what is forked here
        folder.mkdir(exist_ok=True)
        children = _stand_in(folder)
        request, files = _fork_for_each(channel, children)
        channel.close()
        children.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if "module" not in request:
            break
        channel, modules = socket.socket(fileno=files[0]), [request["module"]]
        folder /= request["module"]
    _wait_for_a_fork(files[0], dict(zip(request.pop("numbers"), files[1:], strict=True)))
    if request.pop("warm_children", True):  # a child has warm children too
        sys.executable = str(folder / "python")
        multiprocessing.spawn.set_executable(sys.executable)
    _end(_exit_code(**request))


def _stand_in(folder: Path) -> socket.socket:
    """Write the file that stands for Python; returns what it sends its requests to."""
    source = Path(__file__).with_name("warm_child.py").read_text()
    program = folder / "python"
    program.write_text(f"#!{sys.executable} -IS\n{source}\n\nmain({sys.executable!r})\n")
    program.chmod(0o700)
    children = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    children.bind(str(folder / "socket"))
    return children


def _fork_for_each(
    channel: socket.socket, children: socket.socket
) -> tuple[dict[str, Any], list[int]]:
    """Fork for each request; returns it, and the files that came with it, in the fork."""
    while True:
        if channel in select.select([channel, children], [], [])[0]:
            message, files, _, _ = socket.recv_fds(channel, 1, 4)
            if not message:
                os._exit(0)  # the tests are over
        else:
            message, files, _, _ = socket.recv_fds(children, 1 << 20, 200)
        if os.fork() == 0:
            if message == b".":
                with open(files.pop(0), "rb") as request:
                    message = request.read()
            return json.loads(message), files
        for file in files:
            os.close(file)


def _wait_for_a_fork(status: int, files: Mapping[int, int]) -> None:
    """Fork, and tell how the fork ended; returns in the fork, which has these files.

    Args:
        files: by the number that the program knows it by.
    """
    pid = os.fork()
    if pid:
        for file in files.values():
            os.close(file)
        os.write(status, f"{pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(status, f"{code}\n".encode())
        os._exit(0)
    os.close(status)
    files = {**files} if 0 in files else {0: os.open(os.devnull, os.O_RDONLY), **files}
    # First out of the way: the number that one has may be what another one gets.
    moved = {number: fcntl.fcntl(file, fcntl.F_DUPFD, 512) for number, file in files.items()}
    for file in files.values():
        os.close(file)
    for number, file in moved.items():
        os.dup2(file, number)
        os.close(file)


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
    _serve(Path(sys.argv[1]), sys.argv[2:])
