"""How a function is named, and what is said to other names."""

from __future__ import annotations

import pytest

from cmiei_hooks.errors import CheckpointError
from cmiei_hooks.function_name import functions_in, parse_function

CODE = """
import os
class Net: ...
def loader(): ...
def _hidden(): ...
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "package" / "deep").mkdir(parents=True)
    for file in ("my.py", "my-net.py", "package/nets.py", "package/deep/data.py"):
        (here / file).write_text(CODE)
    (here / "broken.py").write_text("def")
    (tmp_path / "outside.py").write_text(CODE)
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("my:loader", ("my", "loader")),
        ("package.deep.data:Net", ("package.deep.data", "Net")),
        ("my-net:loader", ("my-net", "loader")),
        ("no_such:thing", ("no_such", "thing")),
        ("package.pypy:f", ("package.pypy", "f")),
    ],
)
def test_a_module_a_colon_and_a_function(spec, parts):
    assert parse_function(spec) == parts


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("my.py:loader", "write my:loader"),
        ("./my.py:loader", "write my:loader"),
        ("my.py::loader", "write my:loader"),
        ("my:loader()", "write my:loader"),
        ("my: loader", "write my:loader"),
        ("my-net.py:loader", "write my-net:loader"),
        ("package/nets.py:Net", "write package.nets:Net"),
        ("package/nets:Net", "write package.nets:Net"),
        ("package\\nets.py:Net", "write package.nets:Net"),
        ("package.nets.py:Net", "write package.nets:Net"),
        (".my:loader", "write my:loader"),
        ("my.loader", "write my:loader"),
        ("package.deep.data.Net", "write package.deep.data:Net"),
        ("unknown.module.factory", "write unknown.module:factory"),
        ("my.py", "write my:FUNCTION with one of its functions: Net, loader"),
        ("my", "write my:FUNCTION with one of its functions: Net, loader"),
        ("my.py:laoder", "write my:FUNCTION; it has no function 'laoder': did you mean 'loader'?"),
        ("my.py:whatever", "write my:FUNCTION with one of its functions: Net, loader"),
        ("broken.py:f", "write broken:f"),
        ("no.py:f", "there is no file no.py: did you mean 'my.py'?"),
        ("folder/no.py:f", "there is no file folder/no.py: check the path"),
        ("", "name the module, a colon and the function"),
        (":f", "name the module, a colon and the function"),
    ],
)
def test_what_was_meant(spec, remedy):
    with pytest.raises(CheckpointError) as error:
        parse_function(spec)
    assert remedy in error.value.remedy
    if remedy.startswith("write ") and "FUNCTION" not in remedy:
        parse_function(remedy.removeprefix("write "))


def test_a_file_elsewhere_is_named_with_its_directory(project):
    for spec in ("../outside.py:loader", f"{project.parent}/outside.py:loader"):
        with pytest.raises(CheckpointError) as error:
            parse_function(spec)
        said = f"write outside:loader, with PYTHONPATH={project.parent} in front of the command"
        assert error.value.remedy == said


def test_the_functions_of_a_file_are_found_without_running_it(project):
    (project / "runs.py").write_text("raise SystemExit\ndef model(): ...")
    assert functions_in(project / "runs.py") == ["model"]
    assert functions_in(project / "no.py") == functions_in(project / "broken.py") == []
