"""A script or module, run in this process as Python would run it by itself."""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from ..errors import CMIEIError

__all__ = ["Program"]

_INTERRUPTED = 130


class Program:
    """What stands behind ``python`` on a command line: ``train.py ARGS`` or ``-m module ARGS``.

    Args:
        words: these words.

    Raises:
        CMIEIError: they name no script and no module.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.is_module = [*words][:1] == ["-m"]
        named = words[1:] if self.is_module else words
        if not named:
            raise CMIEIError(
                "there is no program to run",
                got=" ".join(words) or "nothing after --",
                expected="a script or a module",
                remedy="write it after --, as in: cmiei run ... -- train.py --epochs 5",
            )
        self.name, *self.arguments = named
        if not self.is_module and not Path(self.name).is_file():
            raise CMIEIError(
                f"there is no script {self.name}",
                got=self.name,
                expected="a Python file, or -m and the name of a module",
                remedy=self._meant(),
            )

    def _meant(self) -> str:
        """What to write where there is no such script."""
        path = Path(self.name)
        if path.name.startswith("python"):
            return "leave out python: the script runs in this one"
        if (path / "__main__.py").is_file() or path.with_suffix(".py").is_file():
            return f"write -m {'.'.join(path.parts)}, or the name of the file"
        if not path.suffix and len(path.parts) == 1:
            return f"write -m {self.name} if it is a module, or the path of the script from here"
        return "check the path, which is taken from the working directory"

    @property
    def path(self) -> Path | None:
        """The file that is run; None for a module."""
        return None if self.is_module else Path(self.name)

    def run(self) -> int:
        """Run it in a fresh ``__main__``, and return its exit code.

        An exception is shown by ``sys.excepthook``, without the frames of this package.
        """
        try:
            self._execute()
        except SystemExit as error:
            return _exit_code(error)
        except BaseException as error:
            _show(error)
            return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
        return 0

    def _execute(self) -> None:
        directory = os.getcwd() if self.is_module else str(Path(self.name).resolve().parent)
        if not getattr(sys.flags, "safe_path", False):  # python -P (3.11) adds no directory
            sys.path[0] = directory
        main = ModuleType("__main__")
        main.__dict__.update({"__builtins__": builtins, "__cached__": None})
        if self.is_module:
            sys.argv = ["-m", *self.arguments]  # while the package around the module is imported
            spec = _spec(self.name)
            code, file = _code(spec), spec.origin
            main.__spec__, main.__loader__, main.__package__ = spec, spec.loader, spec.parent
            main.__dict__["__cached__"] = spec.cached
            sys.argv[0] = file or self.name
        else:
            sys.argv = [self.name, *self.arguments]
            file = str(Path(self.name).absolute())
            with io.open_code(file) as source:
                code = compile(source.read(), file, "exec", dont_inherit=True)
            main.__loader__, main.__package__ = SourceFileLoader("__main__", file), None
        main.__file__ = file
        # What unpickles and what spawns a process looks for the script's classes here.
        sys.modules["__main__"] = main
        exec(code, main.__dict__)


def _spec(name: str) -> ModuleSpec:
    """The specification of a module, or of the ``__main__`` of a package."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        return _spec(f"{name}.__main__")
    if spec is None:
        raise ImportError(f"No module named {name}")
    return spec


def _code(spec: ModuleSpec) -> CodeType:
    code = getattr(spec.loader, "get_code", lambda _: None)(spec.name)
    if not isinstance(code, CodeType):
        raise ImportError(f"No code object available for {spec.name}")
    return code


def _show(error: BaseException) -> None:
    """Show an uncaught exception as Python does."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)


def _exit_code(error: SystemExit) -> int:
    """What Python makes of the argument of ``sys.exit``."""
    if error.code is None or isinstance(error.code, int):
        return int(error.code or 0)
    print(error.code, file=sys.stderr)
    return 1
