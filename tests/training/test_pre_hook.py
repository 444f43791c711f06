"""The hook itself: what copies of it do, where it does nothing, and how it is removed."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings

import pytest
import torch
from helpers import WIDTHS, Fused, trace
from torch import nn
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap

import cmiei_hooks
from cmiei_hooks import CMIEIError, CMIEIWarning
from cmiei_hooks._torch import pre_hooks

ACTING = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 1.0, "log": False}


def attach(model: nn.Module, **settings) -> cmiei_hooks.Handle:
    return cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, **(ACTING | settings))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(WIDTHS), 7)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 2 * self.linear(features)


def parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()}


def of_parameters(model: nn.Module, x: torch.Tensor):
    return lambda p: functional_call(model, p, (x,)).square().sum()


TRANSFORMS = {
    "grad": lambda m, x: grad(of_parameters(m, x))(parameters(m)),
    "vjp": lambda m, x: vjp(of_parameters(m, x), parameters(m))[1](torch.tensor(1.0))[0],
    "jvp": lambda m, x: jvp(m, (x,), (x,))[1],
    "jacrev": lambda m, x: jacrev(m)(x),
    "vmap": lambda m, x: vmap(m)(x),
    "per-sample gradients": lambda m, x: vmap(
        lambda p, row: grad(of_parameters(m, row[None]))(p), (None, 0)
    )(parameters(m), x),
    "ensemble": lambda m, x: vmap(lambda p: functional_call(m, p, (x,)))(
        {name: torch.stack([p, 2 * p]) for name, p in parameters(m).items()}
    ),
    "fx": lambda m, x: torch.fx.symbolic_trace(m)(x),
    "jit.trace": lambda m, x: torch.jit.trace(m, x)(x),
    "export": lambda m, x: torch.export.export(m, (x,)).module()(x),
    "strict export": lambda m, x: torch.export.export(m, (x,), strict=True).module()(x),
}


OF_EXPORT = {
    "export": pytest.param(
        "export",
        marks=pytest.mark.skipif(
            torch.__version__ < "2.7", reason="in torch 2.4 every export is strict"
        ),
    ),
    "strict export": pytest.param(
        "strict export",
        marks=pytest.mark.skipif(
            torch.__version__ < "2.10",
            reason="torch 2.8 strictly exports no model with a hook on itself, as before step 1",
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", [OF_EXPORT.get(name, name) for name in TRANSFORMS])
def test_transforms_and_tracers_pass_through_untouched(name, model, x):
    model.classifier = Scaled()  # no module of torch.nn: tracers look into it
    expected = TRANSFORMS[name](model, x)
    handle = attach(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            torch.testing.assert_close(TRANSFORMS[name](model, x), expected, rtol=0, atol=0)
    own = [w for w in caught if w.category is CMIEIWarning]
    assert len(own) == (0 if name == "strict export" else 1)
    assert handle.step == 0
    assert all(math.isnan(value) for value in handle.metrics().values())
    model(x)
    assert handle.step == 1
    assert handle.metrics()["C_MIEI_Ratio"] == 0.5
    handle.remove()


@pytest.mark.skipif(
    not hasattr(torch.compiler, "_is_exporting_flag"),
    reason="before torch 2.7 a strict export cannot be told from other compiled code",
)
def test_after_its_first_step_a_model_is_exported_strictly(model, x):
    handle = attach(model)
    model(x)
    TRANSFORMS["strict export"](model, x)
    assert handle.step == 1


@pytest.mark.negative_control
def test_without_the_guard_a_transform_would_fail(model, x, monkeypatch):
    monkeypatch.setattr("cmiei_hooks.training.step.transform", lambda: None)
    attach(model)
    with pytest.raises(CMIEIError):
        TRANSFORMS["vmap"](model, x)


def test_the_warning_about_transforms(model, x, golden):
    attach(model)
    with pytest.warns(CMIEIWarning) as caught:
        TRANSFORMS["vmap"](model, x)
    golden(caught[0].message)


def test_functional_call_alone_is_an_ordinary_call(model, x):
    handle = attach(model)
    functional_call(model, dict(model.named_parameters()), (x,))
    assert handle.step == 1


@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
def test_a_copy_made_by_quantisation_runs_and_its_hook_does_nothing(model, x):
    from torch.ao import quantization

    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    handle = attach(model)
    quantised = quantization.prepare_qat(model)
    for training in (True, False):
        quantised.train(training)(x)
    assert handle.step == 0


def test_a_hook_moved_to_another_module_does_nothing_and_says_so(model, x, golden):
    """As module swaps of quantisers do it, in place and without keyword arguments."""
    handle = attach(model)
    (hook,) = model.classifier._forward_pre_hooks.values()
    swapped = nn.Linear(sum(WIDTHS), 7)
    swapped.register_forward_pre_hook(hook)
    model.classifier = swapped
    with pytest.warns(CMIEIWarning) as caught:
        model(x)
        model(x)
    (warning,) = caught
    golden(warning.message)
    assert handle.step == 0


@pytest.mark.parametrize("call", [(), ({},)])
def test_an_inert_copy_never_raises_however_it_is_called(call, model):
    attach(model)
    (hook,) = copy.deepcopy(model).classifier._forward_pre_hooks.values()
    assert hook(nn.Linear(1, 1), (torch.zeros(1),), *call) is None


class Holding(Fused):
    """A model that holds its own handle, as a LightningModule would."""

    def __init__(self) -> None:
        super().__init__()
        self.cmiei = attach(self)


def test_a_handle_on_the_model_is_inert_in_every_copy_of_it(x):
    model = Holding()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
    ]
    for other in copies:
        other(x)
        other.cmiei.set_epoch(3)
        assert other.cmiei.names == model.cmiei.names
        assert not other.cmiei.config.enabled
    assert model.cmiei.step == 0
    model(x)
    assert model.cmiei.step == 1


def test_detach_takes_every_trace_off_a_copy(x, tmp_path):
    model = Holding()
    clean = copy.deepcopy(model)
    cmiei_hooks.detach(clean)
    assert not hasattr(clean, "cmiei")
    assert all(not module._forward_pre_hooks for module in clean.modules())
    assert all(not module._forward_pre_hooks_with_kwargs for module in clean.modules())
    model(x)
    assert model.cmiei.step == 1


@pytest.mark.slow
def test_a_detached_model_is_loaded_without_this_package(python, tmp_path):
    model = nn.Sequential()
    model.add_module("neck", nn.BatchNorm1d(sum(WIDTHS)))
    model.add_module("classifier", nn.Linear(sum(WIDTHS), 7))
    cmiei_hooks.attach(model, head=["neck", "classifier"], splits=WIDTHS, **ACTING)
    clean = copy.deepcopy(model)
    cmiei_hooks.detach(clean)
    torch.save(clean, tmp_path / "model.pt")
    code = "import sys, torch; torch.load(sys.argv[1], weights_only=False); "
    code += "assert not any(name.startswith('cmiei') for name in sys.modules)"
    done = python.run(["-c", code, tmp_path / "model.pt"])
    assert done.returncode == 0, done.stderr


def test_detach_ends_an_active_attachment_and_leaves_the_model_as_it_was(x):
    model = nn.Sequential()
    model.add_module("neck", nn.BatchNorm1d(sum(WIDTHS)))
    model.add_module("classifier", nn.Linear(sum(WIDTHS), 7))
    own = model.classifier.register_forward_pre_hook(lambda *_: None)
    before = trace(model)
    handle = cmiei_hooks.attach(model, head=["neck", "classifier"], splits=WIDTHS, **ACTING)
    cmiei_hooks.detach(model)
    assert trace(model) == before
    assert "removed" in repr(handle)
    handle.remove()
    own.remove()
    cmiei_hooks.attach(model, head=["neck", "classifier"], splits=WIDTHS, **ACTING)


@pytest.mark.skipif(
    not hasattr(torch._C._dynamo.eval_frame, "get_eval_frame_callback"),
    reason="an older torch cannot tell: every step is kept from Dynamo",
)
def test_the_step_is_kept_from_dynamo_only_where_dynamo_compiles_what_is_called(monkeypatch):
    model = Fused()
    handle = cmiei_hooks.attach(
        model, head="classifier", splits=WIDTHS, k=1, warmup_epochs=0, log=False
    )
    (hook,) = [one.call for one in pre_hooks(model.classifier)]
    kept, run = [], hook._run
    monkeypatch.setattr(hook, "_run", lambda *given: kept.append(1) or run(*given))
    model(torch.randn(8, 6))
    assert not kept
    torch._dynamo.run(model)(torch.randn(8, 6))
    assert len(kept) == 1
    assert handle.step == 2
