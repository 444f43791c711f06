"""Names that a package imports when they are first asked for."""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

PACKAGE = """
from cmiei_hooks._lazy import lazy
here = 1
__getattr__, __dir__ = lazy(__name__, {"apple": "fruit", "tree": "tree", "bad": "broken"})
"""


@pytest.fixture
def orchard(tmp_path, monkeypatch):
    """A package whose modules have not been imported."""
    folder = tmp_path / "orchard"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "fruit.py").write_text("apple, pear = object(), object()")
    (folder / "tree.py").write_text("import time; time.sleep(0.05); leaf = object()")
    (folder / "broken.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("orchard")
    for name in [name for name in sys.modules if name.split(".")[0] == "orchard"]:
        del sys.modules[name]


def test_a_name_is_imported_when_it_is_asked_for_and_kept(orchard):
    assert "orchard.fruit" not in sys.modules
    apple = orchard.apple
    assert apple is sys.modules["orchard.fruit"].apple
    assert vars(orchard)["apple"] is apple
    assert "orchard.tree" not in sys.modules


def test_a_module_is_its_own_home(orchard):
    from orchard import tree

    assert tree is sys.modules["orchard.tree"]


def test_dir_has_all_names_and_imports_none(orchard):
    assert {"apple", "tree", "bad", "here"} <= set(dir(orchard))
    assert "pear" not in dir(orchard)
    assert not {"orchard.fruit", "orchard.tree"} & set(sys.modules)


def test_another_name_is_an_attribute_error(orchard):
    assert not hasattr(orchard, "pear")
    with pytest.raises(AttributeError, match="module 'orchard' has no attribute 'aple'") as error:
        _ = orchard.aple
    assert (error.value.name, error.value.obj) == ("aple", orchard)  # for "Did you mean"
    with pytest.raises(ImportError, match="cannot import name 'pear' from 'orchard'"):
        from orchard import pear  # noqa: F401


def test_a_library_that_is_missing_is_said_as_such(orchard):
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        hasattr(orchard, "bad")


def test_threads_that_ask_at_once_get_the_whole_module(orchard):
    with ThreadPoolExecutor(4) as pool:
        leaves = list(pool.map(lambda _: orchard.tree.leaf, range(4)))
    assert len({id(leaf) for leaf in leaves}) == 1
