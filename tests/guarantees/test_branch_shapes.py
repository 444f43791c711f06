"""Decisions that are combined: attach, train with substitution, compute it by hand, detach."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from heads import BATCH, BRANCH_SHAPES, SHAPES, BranchShape, Shape
from silence import PRECISIONS, STEPS, differences
from torch import Tensor, nn
from torch.nn.functional import log_softmax

import cmiei_hooks
from cmiei_hooks import audit, verify

EVERY = pytest.mark.parametrize("shape", BRANCH_SHAPES.values(), ids=BRANCH_SHAPES)

ALWAYS = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 0.0, "p_max": 0.5, "log": False}

SILENT = {"k": 1, "warmup_epochs": 0, "p_max": 0.0, "log": False}


def batch() -> Tensor:
    return torch.randn(BATCH, 3, 6)


def combined(returned: object) -> Tensor:
    return returned[0] if isinstance(returned, tuple) else returned


def influence(z: Tensor, without: Tensor) -> Tensor:
    """``[B]``, KL in float64."""
    p, q = log_softmax(z.double(), -1), log_softmax(without.double(), -1)
    return (p.exp() * (p - q)).sum(-1)


class Recorder:
    """What each branch received and returned in one forward, and the generator before it."""

    def __init__(self, model: nn.Module, shape: BranchShape) -> None:
        self.inputs: list[Tensor] = []
        self.logits: list[Tensor] = []
        self.random: list[Tensor] = []
        self.hooks = []
        for name in dict.fromkeys(shape.branches):
            module = model.get_submodule(name)
            self.hooks += [
                module.register_forward_pre_hook(self.before),
                module.register_forward_hook(self.after),
            ]

    def before(self, _: nn.Module, args: tuple) -> None:
        self.random.append(torch.get_rng_state())

    def after(self, _: nn.Module, args: tuple, returned: Tensor) -> None:
        self.inputs.append(args[0].detach().clone())
        self.logits.append(returned.detach().clone())

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()


@contextmanager
def generator_at(state: Tensor) -> Iterator[None]:
    kept = torch.get_rng_state()
    torch.set_rng_state(state)
    yield
    torch.set_rng_state(kept)


@EVERY
@pytest.mark.filterwarnings("error")
def test_attach_train_with_substitution_compute_it_by_hand_detach(shape):
    model = shape.make()
    keys = list(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    handle = cmiei_hooks.attach(model, **shape.where, **ALWAYS, sigma=0.0)
    for step in range(2):
        recorder, twin = Recorder(model, shape), copy.deepcopy(model)
        optimizer.zero_grad()
        returned = model(batch())
        recorder.remove()
        z, chosen = recorder.logits, handle.last.substituted
        zero = torch.zeros_like(z[0])
        expected = [
            influence(shape.combine(z), shape.combine([zero, z[1]])),
            influence(shape.combine(z), shape.combine([z[0], zero])),
        ]
        torch.testing.assert_close(
            handle.last.influence.double(), torch.stack(expected, 1), rtol=1e-3, atol=1e-6
        )
        assert (handle.last.influence > 0).all(), "a modality that never counts shows nothing"

        # The chosen branch on the batch mean of what it receives, with the mask of its own call.
        assert (chosen >= 0).sum() == BATCH // 2
        new = []
        for m, name in enumerate(shape.branches):
            if shape.own_heads:
                given = recorder.inputs[m]
                given = torch.where((chosen == m)[:, None], given.mean(0), given)
                with generator_at(recorder.random[m]), torch.no_grad():
                    mean = twin.get_submodule(name)(given)
            else:
                mean = z[m].mean(0)
            new.append(torch.where((chosen == m)[:, None], mean, z[m]))
        torch.testing.assert_close(combined(returned).detach(), shape.combine(new))
        kept = chosen < 0
        assert torch.equal(combined(returned)[kept], model_combines(model, z)[kept])

        combined(returned).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        assert handle.step == step + 1
    handle.remove()
    for module in model.modules():
        assert not module._forward_pre_hooks
        assert not module._forward_hooks
    assert list(model.state_dict()) == keys


def model_combines(model: nn.Module, z: list[Tensor]) -> Tensor:
    """To the bit as the model does."""
    combine: Callable[[list[Tensor]], Tensor] = getattr(model, "combine", lambda z: z[0] + z[1])
    return combine(z)


WHOLE = {name: shape for name, shape in SHAPES.items() if name.startswith("the whole model")}


def trained(
    shape: BranchShape | Shape,
    precision: str = "fp32",
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    **settings: object,
) -> list[tuple[str, object]]:
    torch.manual_seed(0)
    model = shape.make()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    handle = None
    if settings:
        handle = cmiei_hooks.attach(model, **shape.where, **settings)
    wrapped = wrap(model)
    torch.manual_seed(1)
    seen: list[tuple[str, object]] = []
    for _ in range(STEPS):
        given = shape.batch() if isinstance(shape, Shape) else (batch(),)
        optimizer.zero_grad()
        with PRECISIONS[precision]():
            loss = combined(wrapped(*given)).square().sum()
        loss.backward()
        seen.append(("loss", loss.detach().clone()))
        seen += [(f"grad {n}", p.grad.clone()) for n, p in model.named_parameters()]
        optimizer.step()
        seen += [(n, v.clone()) for n, v in model.state_dict().items()]
        seen += [(f"version {n}", b._version) for n, b in model.named_buffers()]
    if handle is not None:
        assert handle.step == STEPS
        assert max(handle.metrics().values()) > 0
    return [*seen, ("generator", torch.get_rng_state())]


@pytest.mark.cell
@pytest.mark.parametrize("shape", [*BRANCH_SHAPES, *WHOLE])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("settings", [SILENT, ALWAYS | {"warmup_epochs": 9}], ids=["cap", "warmup"])
@pytest.mark.filterwarnings("ignore:.*set_epoch")
def test_observing_training_is_the_same_to_the_bit(shape, precision, settings):
    one = (BRANCH_SHAPES | WHOLE)[shape]
    assert differences(trained(one, precision), trained(one, precision, **settings)) == []


def compiled(model: nn.Module) -> nn.Module:
    torch._dynamo.reset()
    return torch.compile(model, backend="aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*compiled and run before attach")
@pytest.mark.skipif(torch.__version__ < "2.4", reason="compiled code runs only some hooks")
@pytest.mark.parametrize("shape", ["sum", "the whole model, token ids"])
def test_compiled_training_is_the_same_to_the_bit(shape):
    one = (BRANCH_SHAPES | WHOLE)[shape]
    different = differences(trained(one, wrap=compiled), trained(one, wrap=compiled, **SILENT))
    # How often AOT writes a buffer back depends on where the graph breaks; the values do not.
    assert [name for name in different if not name.startswith("version")] == []


GUARDS = {
    "buffers": ("_buffers_lent", lambda module: nullcontext(lambda memo: None)),
    "random numbers": ("_randomness", lambda device: lambda: None),
}


@pytest.mark.negative_control
@pytest.mark.parametrize("shape", ["sum", "the whole model"])
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.filterwarnings("ignore:.*set_epoch")
def test_without_the_guard_training_would_differ(shape, guard, monkeypatch):
    name, replacement = GUARDS[guard]
    monkeypatch.setattr(f"cmiei_hooks.counterfactual.isolation.{name}", replacement)
    if shape == "sum" and guard == "random numbers":
        # The branch would draw its masks again; without the numbers of its call it is refused.
        with pytest.raises(cmiei_hooks.CMIEIError, match="other logits when it runs again"):
            trained(BRANCH_SHAPES[shape], **ALWAYS | {"warmup_epochs": 9})
        return
    one = (BRANCH_SHAPES | WHOLE)[shape]
    assert differences(trained(one), trained(one, **ALWAYS | {"warmup_epochs": 9}))


@EVERY
def test_verify_passes(shape):
    report = verify(shape.make(), batch(), **shape.where, strict=True)
    assert "output is used" in [check.name for check in report.checks]


@EVERY
@pytest.mark.parametrize("drop", ["zero", "mean"])
def test_the_audit_measures_what_is_computed_by_hand(shape, drop):
    model, x = shape.make(), batch()
    report = audit(model, [x], **shape.where, drop=drop)
    recorder = Recorder(model, shape)
    model.eval()(x)
    z = recorder.logits
    left = [one.mean(0).expand_as(one) if drop == "mean" else torch.zeros_like(one) for one in z]
    for name, without in (("rgb", [left[0], z[1]]), ("depth", [z[0], left[1]])):
        expected = influence(shape.combine(z), shape.combine(without)).mean().item()
        assert report.influence[name].mean == pytest.approx(expected, rel=1e-3, abs=1e-6)
