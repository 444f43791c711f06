"""The project of a user that the commands are run in."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

Enter = Callable[[Path, pytest.MonkeyPatch], ModuleType]


@pytest.fixture(scope="session")
def enter_project() -> Enter:
    """Go into a folder with a copy of ``their_code.py``, as a command finds it, and import it."""

    def enter(folder: Path, patch: pytest.MonkeyPatch) -> ModuleType:
        shutil.copy(Path(__file__).with_name("their_code.py"), folder)
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.delitem(sys.modules, "their_code", raising=False)
        return import_module("their_code")

    return enter


@pytest.fixture
def their_code(enter_project: Enter, tmp_path, monkeypatch) -> ModuleType:
    """The code of a user, in the working directory."""
    return enter_project(tmp_path, monkeypatch)
