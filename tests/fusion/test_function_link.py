"""Functions between the modules of a chain, and modules that several parts of a model share."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from functools import partial

import pytest
import silence
import torch
from helpers import WIDTHS
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it
from torch.utils.checkpoint import checkpoint

import cmiei_hooks
from cmiei_hooks import CMIEIError, Config, audit, verify
from cmiei_hooks.fusion import FunctionLink, head_names, locate

WIDTH = sum(WIDTHS)
ALWAYS = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 0.0, "log": False}


class Functional(nn.Module):
    """Linear, a function, Linear, a ReLU that the encoder uses too, Linear."""

    def __init__(self, between: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.encoder, self.relu = nn.Linear(6, WIDTH), nn.ReLU()
        self.l1, self.l2, self.l3 = nn.Linear(WIDTH, 9), nn.Linear(9, 9), nn.Linear(9, 7)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        fused = self.relu(self.encoder(x) + 1)
        return self.l3(self.relu(self.l2(self.between(self.l1(fused)))))


def where(between: object = torch.tanh) -> dict[str, object]:
    return {"head": ["l1", between, "l2", "relu", "l3"], "splits": WIDTHS}


def without_numbers(error: BaseException) -> str:
    return re.sub(r"\d\.\d+(e-\d+)?", "<number>", str(error))


def by_hand(model: Functional, x: Tensor) -> Tensor:
    """The influence ``[B, M]``, computed in float64 by another formula."""
    model = copy.deepcopy(model).double()
    fused = (model.encoder(x.double()) + 1).relu()

    def p(features: Tensor) -> Tensor:
        return model.l3(model.l2(model.l1(features).tanh()).relu()).softmax(-1)

    columns = []
    for part in torch.arange(WIDTH).split(WIDTHS):
        kept = torch.ones(WIDTH, dtype=torch.float64).index_fill(0, part, 0)
        columns.append((p(fused) * (p(fused) / p(fused * kept)).log()).sum(-1))
    return torch.stack(columns, 1).detach()


@pytest.mark.parametrize(
    "function", [torch.tanh, "torch.tanh", lambda x: x.tanh(), Tensor.tanh, partial(torch.tanh)]
)
def test_a_function_in_any_form_gives_the_influence_of_a_run_by_hand(function, x):
    model = Functional()
    handle = cmiei_hooks.attach(model, **where(function), **ALWAYS, p_max=0.0)
    for step in range(2):
        model(x + step).square().mean().backward()
        expected = by_hand(model, x + step).float()
        torch.testing.assert_close(handle.last.influence, expected, rtol=1e-3, atol=1e-6)
    assert handle.step == 2
    report = audit(model, [x], **where(function))
    assert [report.influence[n].mean for n in "rnt"] == pytest.approx(
        by_hand(model, x).mean(0).tolist(), rel=1e-3
    )
    assert verify(model, x, **where(function)).ok


class Scaling:
    def __call__(self, x: Tensor) -> Tensor:
        return 2 * x


NAMES = {
    "torch.relu": torch.relu,
    "torch.nn.functional.gelu": F.gelu,
    "torch.nn.functional.leaky_relu(negative_slope=0.2)": partial(F.leaky_relu, negative_slope=0.2),
    "torch.clamp(..., max=1.0)": partial(torch.clamp, torch.ones(1), max=1.0),
    "<lambda>": lambda x: x,
    "by_hand": by_hand,
    "relu": Tensor.relu,
    "Scaling": Scaling(),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_function_is_the_same_in_every_process(name):
    assert head_names(Functional(), ["l1", NAMES[name], "l3"]) == ["l1", name, "l3"]


def test_copies_of_the_settings_and_the_handle_are_plain(x, tmp_path):
    model = Functional(lambda y: y * 2)
    handle = cmiei_hooks.attach(model, **where(lambda y: y * 2), **ALWAYS)
    model(x)
    plain = ["l1", "<lambda>", "l2", "relu", "l3"]
    assert handle.config.to_dict()["HEAD"] == plain
    assert {type(name) for name in handle.config.to_dict()["HEAD"]} == {str}
    assert list(pickle.loads(pickle.dumps(handle)).config.head) == plain
    copy.deepcopy(model)(x)
    assert handle.step == 1
    torch.save(handle.state_dict(), tmp_path / "state.pt")
    handle.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    handle.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_functions_are_named_in_yaml(tmp_path, x, golden):
    path = tmp_path / "cmiei.yml"
    path.write_text(f"HEAD: [l1, torch.tanh, l2, relu, l3]\nSPLITS: {WIDTHS}\nENABLED: true\nK: 1")
    lines: list[str] = []
    model = Functional()
    handle = cmiei_hooks.attach(model, config=path, log=lambda record: lines.append(record.text()))
    handle.set_epoch(0)
    model(x)
    golden(lines[0])
    again = cmiei_hooks.attach(Functional(), **where(torch.tanh), log=False)
    again.load_state_dict(handle.state_dict())
    assert again.step == 1
    assert Config.load(handle.config.to_dict()) == handle.config


def test_a_module_of_that_name_wins(x):
    model = Functional(torch.tanh)
    model.torch = nn.Module()
    model.torch.tanh = nn.Sigmoid()
    config = Config(head=("l1", "torch.tanh", "l3"), splits=tuple(WIDTHS))
    assert locate(model, config).links[1] is model.torch.tanh


def test_a_wrong_function_is_refused_with_the_difference(x, golden):
    model = Functional()
    cmiei_hooks.attach(model, **where(torch.relu), **ALWAYS)
    with pytest.raises(CMIEIError) as error:
        model(x)
    golden(without_numbers(error.value))
    cmiei_hooks.detach(model)
    with pytest.raises(CMIEIError) as error:
        audit(model, [x], **where(torch.relu))
    golden(without_numbers(error.value))
    failed = [c.name for c in verify(model, x, **where(torch.relu)).checks if not c.ok]
    assert failed == ["re-entry gives the real logits"]


def raises(_: Tensor) -> Tensor:
    raise KeyError("no such thing")


@pytest.mark.parametrize(
    "function", [lambda y: y[:, :4], raises, lambda y: (y, y), torch.cat, nn.functional.nll_loss]
)
def test_a_function_that_cannot_be_a_link_is_named(function, x, golden):
    cmiei = Functional()
    cmiei_hooks.attach(cmiei, **where(function), **ALWAYS)
    with pytest.raises(CMIEIError) as error:
        cmiei(x)
    golden(error.value.problem)


@pytest.mark.parametrize(
    "head",
    [
        [torch.relu, "l3"],
        ["l2", "torch.relu"],
        ["torch.relu"],
        ["l1", "gelu", "l2"],
        ["l1", "torch.gelu", "l2"],
        ["l1", nn.ReLU, "l2"],
        ["l1", nn.ReLU(), "l2"],
        ["relu", "l1", "relu", "l2"],
        "torch.relu",
    ],
    ids=range(9),
)
def test_what_cannot_be_part_of_a_chain_is_refused(head, golden):
    with pytest.raises(CMIEIError) as error:
        cmiei_hooks.attach(Functional(), head=head, splits=WIDTHS, log=False)
    golden(error.value)


def test_one_module_may_be_several_links(x):
    class Twice(Functional):
        def forward(self, x: Tensor) -> Tensor:
            return self.l3(self.relu(self.l2(self.relu(self.l2(self.l1(self.encoder(x)))))))

    model = Twice()
    head = ["l1", "l2", "relu", "l2", "relu", "l3"]
    handle = cmiei_hooks.attach(model, head=head, splits=WIDTHS, **ALWAYS)
    model(x)
    assert handle.step == 1
    assert verify(model, x, head=head, splits=WIDTHS).ok


class Branches(Functional):
    def __init__(self) -> None:
        super().__init__()
        self.k1, self.k2 = nn.Linear(WIDTH, 9), nn.Linear(9, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fused = self.encoder(x)
        return self.l3(self.relu(self.l1(fused))), self.k2(self.relu(self.k1(fused)))


def test_two_attachments_may_share_a_relu_but_no_link_with_weights(x, golden):
    model = Branches()
    handles = [
        cmiei_hooks.attach(model, head=head, splits=WIDTHS, **ALWAYS)
        for head in (["l1", "relu", "l3"], ["k1", "relu", "k2"])
    ]
    model(x)
    assert [handle.step for handle in handles] == [1, 1]
    assert not torch.equal(handles[0].last.influence, handles[1].last.influence)
    with pytest.raises(CMIEIError) as error:
        cmiei_hooks.attach(model, head=["k1", "relu", "l3"], splits=WIDTHS, log=False)
    golden(error.value)


class WithState(silence.Model):
    """Functions with dropout and with a BatchNorm between the Linears."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(24, 10))
        self.l2, norm = nn.Linear(10, 5), nn.BatchNorm1d(10)
        self.norm = norm
        self.steps = [lambda y: F.dropout(norm(y), 0.4, self.training), F.relu]

    def forward(self, x: Tensor) -> Tensor:
        y = self.classifier(self.fuse(x))
        for step in self.steps:
            y = step(y)
        return self.l2(y)


def state_differs() -> list[str]:
    """What differs between training without the tool and with it."""
    runs = []
    for when in ("never", "before"):
        torch.manual_seed(0)
        model = WithState()
        given = {"head": ["classifier", *model.steps, "l2"]} if when == "before" else {}
        runs.append(silence.train(model, lambda m: m, "fp32", when, **given))
    return silence.differences(*runs)


@pytest.mark.cell
def test_a_function_with_dropout_and_buffers_is_silent():
    assert state_differs() == []


@pytest.mark.negative_control
def test_the_buffers_of_a_function_would_move_if_nobody_looked_for_them(monkeypatch):
    monkeypatch.setattr("cmiei_hooks.fusion.function_link._modules_of", lambda function: ())
    assert "buffer 0 norm.num_batches_tracked" in state_differs()


def test_the_modules_that_a_function_may_run_are_found():
    norm = nn.BatchNorm1d(9)
    for function in (
        norm.forward,
        partial(F.linear, norm),
        lambda y: 2 * norm(y),
        partial(norm.forward),
    ):
        assert FunctionLink(function).used == (norm,)
        assert not list(FunctionLink(function).children())
    assert FunctionLink(torch.relu).used == ()


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_recompute_repeats_the_substitution(reentrant, x):
    class Checkpointed(Functional):
        kind: bool | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.kind is None:
                return super().forward(x)
            return checkpoint(super().forward, x.requires_grad_(), use_reentrant=self.kind)

    gradients = []
    for kind in (None, reentrant):
        torch.manual_seed(0)
        model = Checkpointed()
        model.kind = kind
        handle = cmiei_hooks.attach(model, **where(), **ALWAYS, seed=1)
        model(x).square().sum().backward()
        assert handle.metrics()["C_MIEI_Ratio"] == 0.5
        gradients.append([p.grad for p in model.parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
