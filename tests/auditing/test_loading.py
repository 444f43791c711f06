from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from helpers import Fused
from torch import nn

from cmiei_hooks import CMIEIError
from cmiei_hooks.auditing.loading import import_function, load_checkpoint, read_state_dict


class Harmful:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return Fused().state_dict()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model": w, "optimizer": {"lr": 0.1}},
        lambda w: {"model": {"state_dict": w}},
        lambda w: {"best_acc1": torch.tensor(0.9), "epoch": 3, "state_dict": w},
        lambda w: {f"module.{k}": v for k, v in w.items()},
        lambda w: {"state_dict": {f"module._orig_mod.{k}": v for k, v in w.items()}},
        OrderedDict,
    ],
)
def test_nesting_and_prefixes_are_understood(tmp_path, wrap):
    model, expected = Fused(), weights()
    assert not torch.equal(model.classifier.weight, expected["classifier.weight"])
    loaded = load_checkpoint(model, save(tmp_path / "c.pth", wrap(expected)), "classifier")
    assert loaded.loaded == len(expected)
    assert loaded.missing == loaded.unexpected == loaded.mismatched == ()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("head", ["classifier", "module.classifier"])
def test_a_wrapper_around_the_model_is_understood_too(tmp_path, prefix, head):
    model, expected = nn.ModuleDict({"module": Fused()}), weights()
    given = {prefix + key: value for key, value in expected.items()}
    loaded = load_checkpoint(model, save(tmp_path / "c.pth", given), head)
    assert loaded.loaded == len(expected)
    assert torch.equal(model["module"].classifier.weight, expected["classifier.weight"])


def test_a_checkpoint_of_which_nothing_fits_is_fatal_whatever_the_head(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2), nn.Flatten())
    with pytest.raises(CMIEIError, match="such as other"):
        load_checkpoint(model, save(tmp_path / "c.pth", {"other": torch.zeros(1)}), "1")


def test_a_missing_counter_of_batches_is_no_missing_weight(tmp_path):
    model = Fused(nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 7)))
    given = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    assert len(load_checkpoint(model, save(tmp_path / "c.pth", given), "classifier").missing) == 1


def test_a_state_dict_that_contains_itself(tmp_path):
    content: dict = {}
    content["state_dict"] = content
    with pytest.raises(CMIEIError, match="no weights"):
        read_state_dict(save(tmp_path / "c.pth", content))


def test_a_lazy_model_is_refused(tmp_path):
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(CMIEIError, match="lazy"):
        load_checkpoint(model, save(tmp_path / "c.pth", {"0.weight": torch.zeros(1)}), "0")


def test_missing_unexpected_and_mismatched_weights_are_reported(tmp_path):
    model, given = Fused(), weights()
    del given["encoders.0.bias"]
    given["decoder.weight"] = torch.zeros(2)
    given["encoders.1.weight"] = torch.zeros(9, 9)
    kept = model.encoders[1].weight.clone()
    loaded = load_checkpoint(model, save(tmp_path / "c.pth", given), "classifier")
    assert loaded.missing == ("encoders.0.bias",)
    assert loaded.unexpected == ("decoder.weight",)
    assert loaded.mismatched == ("encoders.1.weight [9, 9] for [3, 6]",)
    assert loaded.loaded == len(given) - 2
    assert torch.equal(model.encoders[1].weight, kept)
    assert torch.equal(model.classifier.weight, given["classifier.weight"])


@pytest.mark.parametrize("change", ["missing", "renamed", "shape"])
def test_a_head_that_is_not_in_the_checkpoint_is_fatal_and_nothing_is_loaded(tmp_path, change):
    model, given = Fused(), weights()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    weight = given.pop("classifier.weight")
    if change == "renamed":
        given["clasifier.weight"] = weight
    if change == "shape":
        given["classifier.weight"] = torch.zeros(99, 12)
    with pytest.raises(CMIEIError) as caught:
        load_checkpoint(model, save(tmp_path / "c.pth", given), "classifier")
    text = str(caught.value)
    assert "weights of the head 'classifier'" in text
    assert "classifier.weight [7, 12]" in text
    assert ("[99, 12] for [7, 12]" in text) == (change == "shape")
    assert ("did you mean 'clasifier.weight'" in text) == (change == "renamed")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_file_that_would_run_code_is_not_opened(tmp_path):
    target = tmp_path / "harm"
    path = save(tmp_path / "c.pth", {"state_dict": weights(), "extra": Harmful(target)})
    with pytest.raises(CMIEIError, match="blocked: "):
        read_state_dict(path)
    assert not target.exists()
    torch.load(path, weights_only=False)  # the control: it would have
    assert target.exists()


def test_a_whole_pickled_model_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(CMIEIError, match=r"blocked: \S*Fused[\s\S]*model.state_dict\(\)"):
        read_state_dict(save(tmp_path / "c.pth", Fused()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "cannot be read"),
        (lambda p: p.write_bytes(b""), "cannot be read"),
        (lambda p: p.write_bytes(b"<html>not a checkpoint"), "cannot be read"),
        (
            lambda p: p.write_bytes(pickle.dumps({"a": 1}, protocol=2)),
            "no weights|not opened|cannot be read",
        ),
        (lambda p: p.mkdir(), "cannot be read"),
        (
            lambda p: torch.save({"epoch": 3, "model": {"lr": 1}}, p),
            r"no weights[\s\S]*epoch, model",
        ),
        (lambda p: torch.save([1, 2], p), "no weights"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, make, message):
    path = tmp_path / "c.pth"
    make(path)
    with pytest.raises(CMIEIError, match=message):
        read_state_dict(path)


def test_a_truncated_file(tmp_path):
    path = save(tmp_path / "c.pth", weights())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CMIEIError, match="cannot be read"):
        read_state_dict(path)


def test_functions_are_found_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "their_project.py").write_text("def make_model():\n    return 42\n")
    monkeypatch.chdir(tmp_path)
    assert import_function("their_project:make_model")() == 42
    with pytest.raises(CMIEIError, match="did you mean 'make_model'"):
        import_function("their_project:make_modle")


@pytest.mark.parametrize("spec", ["module", "module:", ":function", ""])
def test_a_function_is_named_with_a_colon(spec):
    with pytest.raises(CMIEIError, match="module:function"):
        import_function(spec)


def test_a_module_that_does_not_exist():
    with pytest.raises(CMIEIError, match="PYTHONPATH"):
        import_function("no_such_module_here:function")
