"""Ctrl-C, pressed at moments that can be named."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from cmiei_hooks.cli import commands, main
from cmiei_hooks.cli.interruptions import Interruptions

PRESS = "import signal; signal.raise_signal(signal.SIGINT)"


@pytest.fixture(autouse=True)
def listening():
    """Python's own handler, which a shell takes away from what runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_what_other_code_makes_of_it_is_still_the_interruption():
    with pytest.raises(KeyboardInterrupt), Interruptions(""):
        try:
            press()
        except KeyboardInterrupt:
            raise RuntimeError("DataLoader worker exited unexpectedly") from None


def test_what_is_lost_comes_again(capfd):
    class Loses:
        def __del__(self):
            press()

    with pytest.raises(KeyboardInterrupt), Interruptions(""):
        Loses()
        time.sleep(1)  # something that goes on
    assert capfd.readouterr().err == ""


@pytest.mark.negative_control
def test_without_it_python_shows_what_is_lost_and_goes_on(capfd, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)

    class Loses:
        def __del__(self):
            press()

    Loses()
    assert "Exception ignored in" in capfd.readouterr().err


@pytest.mark.negative_control
def test_an_error_without_ctrl_c_stays_that_error():
    hook = sys.unraisablehook
    with pytest.raises(RuntimeError), Interruptions(""):
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert sys.unraisablehook is hook


def test_another_handler_and_other_threads_are_left_alone():
    def own(*_):
        raise ValueError

    signal.signal(signal.SIGINT, own)
    with Interruptions(""):
        assert signal.getsignal(signal.SIGINT) is own
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seen = []

    def elsewhere():
        with Interruptions(""):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


PLACES = {
    "import": ("cmiei_hooks.cli.commands", PRESS),
    "the import of torch": ("torch", PRESS),
    "the import of torch, lost in it": ("torch", f"try:\n    {PRESS}\nexcept BaseException: pass"),
    "a module of the user's": ("users_code", PRESS),
}

SCRIPT = """
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

class Pressing(MetaPathFinder, Loader):
    def find_spec(self, name, path, target=None):
        return ModuleSpec(name, self) if name == {name!r} else None
    def exec_module(self, module):
        exec({code!r})

sys.meta_path.insert(0, Pressing())
from cmiei_hooks.cli import main
sys.argv[1:] = {words!r}
sys.exit(main())
"""


@pytest.mark.parametrize("place", PLACES)
def test_while_something_is_imported(place, tmp_path, python):
    name, code = PLACES[place]
    words = ["discover", "--model", "users_code:model", "--data", "users_code:loader"]
    script = SCRIPT.format(name=name, code=code, words=words)
    if name == "users_code":
        run = python.run(["-c", script], cwd=tmp_path)
    else:
        start = [sys.executable, "-c", script]
        run = subprocess.run(start, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode == 130
    assert run.stdout == ""
    assert run.stderr in ("", "cmiei discover: interrupted\n")
    assert bool(run.stderr) == (place != "import")


def test_the_exit_code_is_130_after_it_was_pressed_in_the_making_of_a_dataclass(tmp_path):
    script = SCRIPT.format(name="torch", code=f"exec({PRESS!r})", words=["discover"])
    script = script.replace("['discover']", "['discover', '--model', 'a:b', '--data', 'a:c']")
    script = f"import signal\n{script}".replace("sys.exit(main())", _LATE)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 130


_LATE = f"""
from cmiei_hooks.cli import commands
def read(*_):
    exec({PRESS!r})
commands._read = read
sys.exit(main())
"""


def test_a_program_that_is_run_has_pythons_own_handler(tmp_path, python):
    script = "import signal, sys\nsys.exit(signal.getsignal(2) is signal.default_int_handler)"
    (tmp_path / "train.py").write_text(script)
    words = ["run", "--head", "classifier", "--splits", "5,3", "--", "train.py"]
    assert python.run(["-m", "cmiei_hooks", *words], cwd=tmp_path).returncode == 1


def test_while_the_interruption_is_said(monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "build_parser", pressed)
    monkeypatch.setattr(commands, "_say", pressed)
    assert main(["diagnose"]) == 130
