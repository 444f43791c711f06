"""What users may import, and that every module can be reached by its dotted name."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import runpy
import subprocess
import sys
import textwrap
from functools import reduce

import pytest

import cmiei_hooks

PUBLIC = {
    "AuditReport",
    "CMIEIError",
    "CMIEIWarning",
    "Candidate",
    "ComparisonReport",
    "Config",
    "Console",
    "DiscoverReport",
    "Handle",
    "JSONLines",
    "LogRecord",
    "Measurement",
    "Metrics",
    "RuledOut",
    "Scalars",
    "StandardLogging",
    "VerifyReport",
    "add_cmiei_config",
    "attach",
    "audit",
    "compare",
    "detach",
    "discover",
    "functional",
    "verify",
}


def test_the_public_names():
    assert set(cmiei_hooks.__all__) == PUBLIC
    assert all(hasattr(cmiei_hooks, name) for name in PUBLIC)


def test_type_checkers_see_the_names_that_python_has():
    (block,) = [
        statement
        for statement in ast.parse(inspect.getsource(cmiei_hooks)).body
        if isinstance(statement, ast.If)
    ]
    typed = {
        alias.name: getattr(importlib.import_module(f"cmiei_hooks.{line.module}"), alias.name)
        for line in block.body
        if line.module
        for alias in line.names
    }
    typed["functional"] = importlib.import_module("cmiei_hooks.functional")
    assert set(typed) == PUBLIC - {"CMIEIError", "CMIEIWarning"}
    for name, value in typed.items():
        assert getattr(cmiei_hooks, name) is value, name


@pytest.mark.slow
def test_a_fresh_process_can_use_every_name():
    script = """
        import pickle, pydoc, sys
        import cmiei_hooks
        assert "torch" not in sys.modules
        assert set(cmiei_hooks.__all__) <= set(dir(cmiei_hooks))
        assert not hasattr(cmiei_hooks, "nonsense")
        assert pickle.loads(pickle.dumps(cmiei_hooks.Config(k=7))).k == 7
        assert "torch" not in sys.modules
        assert callable(cmiei_hooks.functional.select)
        help_text = pydoc.render_doc(cmiei_hooks.attach, renderer=pydoc.plaintext)
        assert help_text.splitlines()[2].startswith("attach(model")
        assert "attach" in pydoc.render_doc(cmiei_hooks, renderer=pydoc.plaintext)
        assert pickle.loads(pickle.dumps(cmiei_hooks.attach)) is cmiei_hooks.attach
        from cmiei_hooks import *
        assert audit is cmiei_hooks.audit and issubclass(CMIEIError, ValueError)
        assert "torch" in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


CALLBACKS = {
    f"cmiei_hooks.integrations.{name}"
    for name in ("lightning", "transformers", "transformers_trainer")
}


def test_no_name_hides_a_module():
    modules = [
        module.name
        for module in pkgutil.walk_packages(cmiei_hooks.__path__, "cmiei_hooks.")
        # The callbacks are imported with their frameworks, in tests/integrations.
        if module.name != "cmiei_hooks.__main__" and module.name not in CALLBACKS
    ]
    assert len(modules) > 50
    for name in modules:
        _, *path = name.split(".")
        module = importlib.import_module(name)
        assert reduce(getattr, path, cmiei_hooks) is module, name


def test_python_m_cmiei_hooks_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cmiei_hooks", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("cmiei_hooks", run_name="__main__")
    assert end.value.code in (0, None)
    assert "diagnose" in capsys.readouterr().out
