"""The training on views in a file: it learns, and bad files are refused."""

from __future__ import annotations

import functools
import sys

import numpy as np
import pytest

import cmiei_hooks
from cmiei_hooks.errors import ValidationError
from cmiei_hooks.validation import npz as views

attach = functools.partial(cmiei_hooks.attach, log=False)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(4), 40)
    strong = np.eye(4)[y] * 3 + rng.normal(size=(160, 4))
    weak = np.eye(4)[y] + rng.normal(size=(160, 4)) * 1.5
    split = (np.arange(160) >= 80).astype(int)
    return {"strong": strong, "weak": weak, "constant": np.ones((160, 2)), "y": y, "split": split}


@pytest.fixture
def npz(arrays, tmp_path):
    path = tmp_path / "views.npz"
    np.savez(path, **arrays)
    return str(path)


def test_views_are_learned_and_the_stronger_one_is_relied_on(npz):
    found = views.train(attach, 0, npz=npz, views=["strong", "weak"], epochs=20, batch=16)
    assert found["accuracy"] > 0.8
    assert found["accuracy alone strong"] > found["accuracy alone weak"] > 0.3
    assert found["CI strong"] > found["CI weak"]


def test_a_seed_gives_one_result_and_chooses_the_rows(npz):
    arguments = {"npz": npz, "views": ["strong", "weak", "constant"], "epochs": 2, "batch": 8}
    runs = [views.train(attach, seed, rows_per_class=5, **arguments) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    ("names", "change"),
    [
        (["strong", "weka"], {}),
        (["strong"], {}),
        (["strong", "weak"], {"y": np.zeros(3, int)}),
        (["strong", "y"], {}),
        (["strong", "weak"], {"split": np.zeros(160, int)}),
        (["strong", "weak"], {"split": np.ones(160, int)}),
        (["strong", "weak"], {"y": np.array([None] * 160)}),
    ],
    ids=["misspelled", "one view", "other rows", "labels", "no test", "no training", "objects"],
)
def test_files_that_hold_something_else_are_refused(
    arrays, tmp_path, monkeypatch, golden, names, change
):
    monkeypatch.chdir(tmp_path)
    np.savez("bad.npz", **{**arrays, **change})
    with pytest.raises(ValidationError) as refusal:
        views.train(attach, 0, npz="bad.npz", views=names)
    golden(refusal.value)


def test_a_file_that_is_not_there_is_refused(golden):
    with pytest.raises(ValidationError) as refusal:
        views.train(attach, 0, npz="no.npz", views=["a", "b"])
    golden(refusal.value)


def test_without_numpy_it_says_what_to_install(npz, monkeypatch, golden):
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ValidationError) as refusal:
        views.train(attach, 0, npz=npz, views=["strong", "weak"])
    golden(refusal.value)
