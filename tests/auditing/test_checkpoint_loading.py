from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from helpers import Fused
from saved_weights import save, weights
from torch import nn

from cmiei_hooks import CMIEIError
from cmiei_hooks.auditing.checkpoint_loading import load_checkpoint


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model": w, "optimizer": {"lr": 0.1}},
        lambda w: {"model": {"state_dict": w}},
        lambda w: {"module": w, "global_steps": 7},  # DeepSpeed
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


def test_a_checkpoint_of_which_nothing_fits_is_fatal_whatever_the_head(tmp_path, golden):
    model = nn.Sequential(nn.Linear(2, 2), nn.Flatten())
    with pytest.raises(CMIEIError) as error:
        load_checkpoint(model, save(tmp_path / "c.pth", {"other": torch.zeros(1)}), "1")
    golden(str(error.value).replace(str(tmp_path), "."))


@pytest.mark.parametrize("prefix", ["net", "model", "ema.shadow"])
def test_names_that_all_begin_alike_are_understood_with_the_remedy(tmp_path, prefix, golden):
    """As Lightning writes them, where the module calls its model ``net``."""
    path = save(tmp_path / "c.pth", {f"{prefix}.{key}": value for key, value in weights().items()})
    with pytest.raises(CMIEIError) as error:
        load_checkpoint(Fused(), path, "classifier")
    golden(error.value.remedy)
    assert load_checkpoint(Fused(), path, "classifier", weights=prefix).loaded == len(weights())


def test_a_missing_counter_of_batches_is_no_missing_weight(tmp_path):
    model = Fused(nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 7)))
    given = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    assert len(load_checkpoint(model, save(tmp_path / "c.pth", given), "classifier").missing) == 1


def test_a_lazy_model_is_refused(tmp_path, golden):
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(CMIEIError) as error:
        load_checkpoint(model, save(tmp_path / "c.pth", {"0.weight": torch.zeros(1)}), "0")
    golden(error.value)


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
def test_a_head_that_is_not_in_the_checkpoint_is_fatal_and_nothing_is_loaded(
    tmp_path, change, golden
):
    model, given = Fused(), weights()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    weight = given.pop("classifier.weight")
    if change == "renamed":
        given["clasifier.weight"] = weight
    if change == "shape":
        given["classifier.weight"] = torch.zeros(99, 12)
    with pytest.raises(CMIEIError) as caught:
        load_checkpoint(model, save(tmp_path / "c.pth", given), "classifier")
    golden(str(caught.value).replace(str(tmp_path), "."))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def largest(model: nn.Module) -> set[float]:
    return {float(parameter.detach().max()) for parameter in model.parameters()}


def twins(own: float, other: float, prefix: str = "module.") -> dict[str, torch.Tensor]:
    """Two sets of weights, of which one has a prefix."""
    values = weights()
    first = {key: torch.full_like(value, own) for key, value in values.items()}
    return first | {prefix + key: torch.full_like(v, other) for key, v in values.items()}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_of_two_spellings_the_one_of_the_model_is_loaded_and_the_rest_listed(
    tmp_path, turned, wrapped
):
    given = twins(1.0, 2.0)
    if turned:  # the order in the file must not matter
        given = dict(reversed(given.items()))
    model = nn.ModuleDict({"module": Fused()}) if wrapped else Fused()
    loaded = load_checkpoint(model, save(tmp_path / "c.pth", given), "classifier")
    assert largest(model) == {2.0 if wrapped else 1.0}
    assert loaded.loaded == len(weights())
    prefix = "" if wrapped else "module."
    assert sorted(loaded.duplicates) == sorted(prefix + key for key in weights())
    assert loaded.missing == loaded.unexpected == ()


@pytest.mark.parametrize(
    ("content", "chosen"),
    [
        ({"state_dict": twins(1.0, 2.0)}, "module"),
        (twins(1.0, 2.0, "ema."), "ema"),
        (twins(1.0, 2.0, "ema.module."), "ema."),
        ({"model": twins(1.0, 1.0), "ema": {k: v + 2 for k, v in twins(0, 0).items()}}, "ema"),
        ({"model": twins(1.0, 1.0), "ema": {"state_dict": twins(2.0, 2.0)}}, "ema"),
    ],
)
def test_weights_may_be_chosen_by_key_or_prefix(tmp_path, content, chosen):
    path, model = save(tmp_path / "c.pth", content), Fused()
    load_checkpoint(model, path, "classifier", weights=chosen)
    assert largest(model) == {2.0}
    load_checkpoint(model, path, "classifier")
    assert largest(model) == {1.0}  # the control: it is a choice


def test_weights_that_are_not_there(tmp_path, golden):
    content = {"model": weights(), "ema": weights(), "epoch": 3}
    for name in ("emma", "nonsense"):
        with pytest.raises(CMIEIError) as error:
            path = save(tmp_path / "c.pth", content)
            load_checkpoint(Fused(), path, "classifier", weights=name)
        golden(str(error.value).replace(str(tmp_path), "."))


def quantized(weight: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)


# They cannot be saved, or only as more than weights.
NEWER = pytest.mark.skipif(torch.__version__ < "2.4", reason="older files hold no such weights")


@pytest.mark.filterwarnings("ignore:.*(Sparse|nested|quantize|TypedStorage).*:UserWarning")
@pytest.mark.parametrize(
    "convert",
    [
        pytest.param(lambda w: w.to(torch.int8), id="int8"),
        pytest.param(lambda w: w > 0, id="bool"),
        pytest.param(lambda w: w.to(torch.float8_e4m3fn), id="float8", marks=NEWER),
        pytest.param(lambda w: w.to(torch.complex64), id="complex"),
        pytest.param(lambda w: w.to("meta"), id="meta"),
        pytest.param(quantized, id="quantized", marks=NEWER),
        pytest.param(lambda w: w.to_sparse(), id="sparse"),
        pytest.param(lambda w: w.to_sparse_csr(), id="compressed"),
        pytest.param(lambda w: torch.nested.nested_tensor([w, w[:2]]), id="nested", marks=NEWER),
    ],
)
def test_weights_that_torch_would_convert_or_cannot_copy_are_refused(tmp_path, convert, golden):
    model, given = Fused(), weights()
    given["encoders.1.weight"] = convert(given["encoders.1.weight"])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CMIEIError) as error:
        load_checkpoint(model, save(tmp_path / "c.pth", given), "classifier")
    golden(str(error.value).replace(str(tmp_path), "."))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_width_are_loaded(tmp_path, dtype):
    model, given = Fused(), {k: v.to(dtype) for k, v in weights().items()}
    load_checkpoint(model, save(tmp_path / "c.pth", given), "classifier")
    assert torch.equal(model.classifier.weight, given["classifier.weight"].float())
