"""What users may import, and that every module can be reached by its dotted name."""

from __future__ import annotations

import importlib
import pkgutil
import runpy
import sys
from functools import reduce

import pytest

import cmiei_hooks

PUBLIC = {
    "AuditReport",
    "CMIEIError",
    "CMIEIWarning",
    "Candidate",
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
    "detach",
    "discover",
    "functional",
    "verify",
}


def test_the_public_names():
    assert set(cmiei_hooks.__all__) == PUBLIC
    assert all(hasattr(cmiei_hooks, name) for name in PUBLIC)


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
