from __future__ import annotations

import pytest
import torch
from torch import nn

from cmiei_hooks.auditing.user_code import call_function, import_function, make_model
from cmiei_hooks.errors import CheckpointError

CODE = """
from torch import nn

def make_model(width=3):
    return nn.Linear(width, 2)

def make_number(n):
    return n
"""


@pytest.fixture(autouse=True)
def their_project(tmp_path, monkeypatch):
    """Modules of the user's in the working directory."""
    (tmp_path / "their_project.py").write_text(CODE)
    (tmp_path / "imports_another.py").write_text("from no_such_module_here.config import cfg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_functions_are_found_from_the_working_directory():
    assert call_function("their_project:make_number", n=42) == 42


@pytest.mark.parametrize(
    "spec",
    [
        "module",
        "module:",
        ":function",
        "",
        "their_project:make_modle",
        "no_such_module_here:function",
        "imports_another:function",
    ],
)
def test_what_is_not_a_function_is_refused(spec, golden):
    with pytest.raises(CheckpointError) as error:
        import_function(spec)
    golden(error.value)


def test_a_function_that_needs_other_arguments(golden):
    for arguments in ({}, {"m": 1}):
        with pytest.raises(CheckpointError) as error:
            call_function("their_project:make_number", **arguments)
        golden(error.value)


def test_a_model_is_made_on_its_device():
    model = make_model("their_project:make_model", {"width": 5}, "auto")
    assert isinstance(model, nn.Linear)
    assert model.weight.shape == (2, 5)
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert model.weight.device.type == expected


def test_what_is_not_a_model_or_not_a_device(golden):
    with pytest.raises(CheckpointError) as error:
        make_model("their_project:make_number", {"n": 3}, "cpu")
    golden(error.value)
    with pytest.raises(CheckpointError) as error:
        make_model("their_project:make_model", {}, "gpu")
    golden(error.value.problem)  # the rest is what torch says
