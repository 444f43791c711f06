"""Only the callbacks import a framework, and one that is missing is named with its extra."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from helpers import ROOT

from cmiei_hooks.errors import CMIEIError

FRAMEWORKS = ("lightning", "pytorch_lightning", "transformers", "accelerate")


def test_the_package_and_its_room_import_no_framework():
    code = (
        "import sys, cmiei_hooks, cmiei_hooks.integrations, cmiei_hooks.cli\n"
        f"print([name for name in {FRAMEWORKS} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_a_missing_framework_is_an_error_that_names_the_extra(framework, monkeypatch, golden):
    module = f"cmiei_hooks.integrations.{framework}"
    for name in [name for name in sys.modules if name.split(".")[0] == framework]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, framework, None)  # as if it were not installed
    for name in (module, "cmiei_hooks.integrations.transformers_trainer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(CMIEIError) as error:
        importlib.import_module(module)
    assert f"pip install 'cmiei-hooks[{framework}]'" in error.value.remedy
    golden(error.value)
