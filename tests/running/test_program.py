"""A program runs as Python runs it; the commands' tests compare it with Python itself."""

from __future__ import annotations

import sys

import pytest

from cmiei_hooks import CMIEIError
from cmiei_hooks.running import Program


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", 0),
        ("raise SystemExit", 0),
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(5)", 5),
        ("raise SystemExit(True)", 1),
        ("raise SystemExit('words')", 1),
        ("raise KeyboardInterrupt", 130),
        ("raise ValueError", 1),
        ("raise BaseException", 1),
        ("1 +", 1),
    ],
)
def test_the_exit_code_is_that_of_python(tmp_path, line, code):
    (tmp_path / "script.py").write_text(line)
    assert Program(["script.py"]).run() == code


def test_the_traceback_has_no_frame_of_this_package(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)  # torch.distributed leaves its own
    (tmp_path / "script.py").write_text("def f():\n    1 / 0\n\nf()\n")
    assert Program(["script.py"]).run() == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines if "File" in line] == [
        f'File "{tmp_path / "script.py"}", line 4, in <module>',
        f'File "{tmp_path / "script.py"}", line 2, in f',
    ]


def test_the_scripts_own_excepthook_is_called(tmp_path):
    code = "import sys\nsys.excepthook = lambda *a: sys.seen.append(a[0])\n1 / 0"
    (tmp_path / "script.py").write_text(code)
    sys.seen = seen = []
    try:
        assert Program(["script.py"]).run() == 1
    finally:
        del sys.seen
        sys.excepthook = sys.__excepthook__
    assert seen == [ZeroDivisionError]


def test_annotations_are_not_postponed_as_in_this_package(tmp_path):
    (tmp_path / "script.py").write_text("def f(x: int): pass\nassert f.__annotations__['x'] is int")
    assert Program(["script.py"]).run() == 0


def test_a_package_runs_its_main_module(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "__init__.py").write_text("import sys\nfirst = sys.argv[0]")
    (tmp_path / "whole" / "__main__.py").write_text(
        "import sys\nfrom . import first\nassert first == '-m'\n"
        "assert (__package__, __spec__.name) == ('whole', 'whole.__main__')\n"
        "assert sys.argv == [__file__, '-x']\nassert sys.modules['__main__'].first is first\n"
    )
    assert Program(["-m", "whole", "-x"]).run() == 0
    sys.modules.pop("whole")


def test_a_link_to_a_script_imports_from_where_the_script_is(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "script.py").write_text("import beside_it")
    (tmp_path / "real" / "beside_it.py").write_text("")
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "script.py")
    assert Program(["link.py"]).run() == 0
    sys.modules.pop("beside_it")


@pytest.mark.parametrize("words", [[], ["-m"], ["no.py"], ["python3", "train.py"]], ids=str)
def test_what_is_no_program_is_refused(words, golden):
    with pytest.raises(CMIEIError) as error:
        Program(words)
    golden(error.value)
