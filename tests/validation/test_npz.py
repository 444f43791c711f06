"""The trainings of the package: they learn, and bad files are refused before anything runs."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import cmiei_hooks
from cmiei_hooks.errors import ValidationError
from cmiei_hooks.validation import npz as views
from tools.experiments import digits

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
    ("names", "change", "match"),
    [
        (["strong", "weka"], {}, "did you mean 'weak'"),
        (["strong"], {}, "two or more arrays"),
        (["strong", "weak"], {"y": np.zeros(3, int)}, "not views of the same rows"),
        (["strong", "y"], {}, "not views of the same rows"),
        (["strong", "weak"], {"split": np.zeros(160, int)}, "too few rows"),
        (["strong", "weak"], {"split": np.ones(160, int)}, "too few rows"),
        (["strong", "weak"], {"y": np.array([None] * 160)}, "cannot be read"),
    ],
)
def test_files_that_hold_something_else_are_refused(arrays, tmp_path, names, change, match):
    path = tmp_path / "bad.npz"
    np.savez(path, **{**arrays, **change})
    with pytest.raises(ValidationError, match=match):
        views.train(attach, 0, npz=str(path), views=names)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="cannot be read"):
        views.train(attach, 0, npz=str(tmp_path / "no.npz"), views=["a", "b"])


def test_digits_are_learned():
    assert digits.train(attach, 0, epochs=2)["accuracy"] > 0.8
