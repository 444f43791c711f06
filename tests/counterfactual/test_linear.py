"""The fast path of linear heads: the same as the re-invoked head, and only where it may."""

from __future__ import annotations

import copy
import dataclasses
import functools

import pytest
import torch
import torch.utils.checkpoint
from helpers import WIDTHS, Fused
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

import cmiei_hooks
import cmiei_hooks.counterfactual.linear
from cmiei_hooks import CMIEIError
from cmiei_hooks.counterfactual.influence import estimate
from cmiei_hooks.counterfactual.linear import influence_of_linear
from cmiei_hooks.fusion.head import Head
from cmiei_hooks.fusion.partition import Partition

PARTITION = Partition(tuple(WIDTHS), ("r", "n", "t"))


def head_of(*links: nn.Module, drop: str = "zero", kind: str = "kl", output=None) -> Head:
    names = tuple(f"link{i}" for i in range(len(links)))
    outputs = (None,) * (len(links) - 1) + (output,)
    return Head(names, links, PARTITION, outputs, drop, kind)


def both(head: Head, x: Tensor) -> tuple[Tensor | None, Tensor]:
    captured = head.partition.read((x,), {})
    return influence_of_linear(head, captured), estimate(head, captured).influence


LINEAR = {
    "linear": lambda c: [nn.Linear(12, c)],
    "without bias": lambda c: [nn.Linear(12, c, bias=False)],
    "batch norm, linear": lambda c: [nn.BatchNorm1d(12), nn.Linear(12, c, bias=False)],
    "in a Sequential": lambda c: [nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, c))],
}


MLP = {
    "mlp": lambda c: [nn.Linear(12, 20), nn.ReLU(inplace=True), nn.Linear(20, c)],
    "norms": lambda c: [
        nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 20), nn.LayerNorm(20), nn.GELU()),
        nn.Sequential(nn.Linear(20, 20), nn.BatchNorm1d(20), nn.Tanh(), nn.Linear(20, c)),
    ],
    "dropout": lambda c: [nn.Linear(12, 20), nn.Dropout(0.5, inplace=True), nn.Linear(20, c)],
    "a norm as a link": lambda c: [nn.Linear(12, 20), nn.BatchNorm1d(20), nn.Linear(20, c)],
    "nested": lambda c: [
        nn.Sequential(
            nn.Linear(12, 20), nn.Sequential(nn.BatchNorm1d(20), nn.Dropout()), nn.Linear(20, c)
        )
    ],
    "statistics of the batch": lambda c: [
        nn.Linear(12, 20),
        nn.BatchNorm1d(20, track_running_stats=False),
        nn.Linear(20, c),
    ],
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("drop", ["zero", "mean"])
@pytest.mark.parametrize("classes", [2, 7, 5000])
@pytest.mark.parametrize("make", [*LINEAR.values(), *MLP.values()], ids=[*LINEAR, *MLP])
def test_it_is_the_influence_of_the_head_run_again(make, classes, drop, training):
    links = make(classes)
    for link in links:
        link.train(training)
        for part in link.modules():
            if isinstance(part, nn.BatchNorm1d):
                if part.track_running_stats:
                    part.running_mean.normal_()
                    part.running_var.uniform_(0.5, 2)
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    x = torch.randn(33, 12) * 2 + 0.5
    versions = [b._version for link in links for b in link.buffers()]
    state = torch.get_rng_state()
    fast, slow = both(head_of(*links, drop=drop), x)
    # float32 rounding, which a BatchNorm makes larger where a column has no variance
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=5e-5)
    assert (fast > 1e-3).any()
    assert versions == [b._version for link in links for b in link.buffers()]
    assert torch.equal(state, torch.get_rng_state())
    double = [link.double() for link in links]
    fast, slow = both(head_of(*double, drop=drop), x.double())
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MLP)
@pytest.mark.parametrize("training", [True, False])
def test_where_rows_do_not_depend_on_each_other_all_variants_go_through_at_once(
    name, training, monkeypatch
):
    batches, run = [], cmiei_hooks.counterfactual.linear._run
    monkeypatch.setattr(
        cmiei_hooks.counterfactual.linear,
        "_run",
        lambda layers, rows: (batches.append(len(rows)), run(layers, rows))[1],
    )
    head = head_of(*(link.train(training) for link in MLP[name](7)))
    fast, slow = both(head, torch.randn(33, 12))
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-5)
    at_once = name == "mlp" or (not training and name != "statistics of the batch")
    assert batches == ([4 * 33] if at_once else [33] * 4)


@pytest.mark.negative_control
@pytest.mark.parametrize("name", ["norms", "dropout"])
def test_otherwise_they_must_not(name, monkeypatch):
    monkeypatch.setattr(cmiei_hooks.counterfactual.linear, "_independent", lambda layer: True)
    fast, slow = both(head_of(*MLP[name](7)), torch.randn(33, 12))
    assert not torch.allclose(fast, slow, rtol=1e-2)


@pytest.mark.parametrize("rows", [0, 1])
def test_batches_of_one_and_none(rows):
    for make in (LINEAR["linear"], MLP["mlp"]):
        fast, slow = both(head_of(*make(7)), torch.randn(rows, 12))
        assert fast.shape == (rows, 3)
        torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-6)


def test_chunks_of_classes_make_no_difference(monkeypatch):
    head, x = head_of(nn.Linear(12, 1000).double()), torch.randn(8, 12).double() * 3
    whole, slow = both(head, x)
    monkeypatch.setattr(cmiei_hooks.counterfactual.linear, "_CHUNK", 8 * 8 * 64)
    chunked, _ = both(head, x)
    torch.testing.assert_close(chunked, whole, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(chunked, slow, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("widths", [(4, 4, 4), (6, 6), (3, 5, 4)], ids=str)
@pytest.mark.parametrize("most", [0, 2**24])
def test_products_at_once_and_one_by_one_are_those_of_the_head(monkeypatch, widths, most):
    monkeypatch.setattr("cmiei_hooks.counterfactual.linear._SMALL", most)
    calls = []
    batched = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda *a, **k: calls.append(1) or batched(*a, **k))
    partition = Partition(widths, ("r", "n", "t")[: len(widths)])
    # The columns of a larger tensor: rows that are not neighbours in memory.
    x = torch.randn(9, 30, dtype=torch.float64)[:, 5:17]
    head = Head(("l",), (nn.Linear(12, 7).double(),), partition, (None,), "mean", "kl")
    got, expected = both(head, x)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert bool(calls) == (most > 0 and len(set(widths)) == 1)


def test_very_different_predictions_do_not_overflow():
    head = head_of(nn.Linear(12, 7))
    with torch.no_grad():
        head.last.weight.mul_(300)
    fast, slow = both(head, torch.randn(16, 12))
    assert slow.max() > 100
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-3)


def test_a_block_of_zeros_has_influence_exactly_zero():
    head = head_of(nn.Linear(12, 700))
    with torch.no_grad():
        head.last.weight[:, 4:7] = 0
    fast, _ = both(head, torch.randn(64, 12))
    assert torch.equal(fast[:, 1], torch.zeros(64))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_samples_that_are_not_finite_are_the_same(bad):
    head, x = head_of(nn.Linear(12, 7)), torch.randn(8, 12)
    x[2, 5] = bad
    fast, slow = both(head, x)
    assert torch.equal(fast.isnan(), slow.isnan())
    assert fast[2].isnan().all()
    with torch.no_grad():
        head.last.bias[3] = -torch.inf
    fast, slow = both(head, x)
    assert torch.equal(fast.isnan(), slow.isnan())


def test_one_layer_may_be_the_first_and_the_last():
    tied = nn.Linear(12, 12)
    fast, slow = both(head_of(nn.Sequential(tied, nn.ReLU(), tied)), torch.randn(33, 12))
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["dropout", "statistics"])
def test_layers_in_an_inner_sequential_are_judged_by_themselves(kind):
    inner = nn.Sequential(nn.BatchNorm1d(9), nn.Dropout())
    if kind == "statistics":
        inner = nn.Sequential(nn.BatchNorm1d(9, track_running_stats=False))
    head = nn.Sequential(nn.Linear(12, 9), inner, nn.Linear(9, 7))
    inner.training = False  # the container's own flag says nothing
    x = torch.randn(33, 12)
    before, state = copy.deepcopy(head.state_dict()), torch.get_rng_state()
    fast, slow = both(head_of(head), x)
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-5)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in head.state_dict().items())


def test_what_is_cancelled_is_not_enlarged_by_a_norm():
    head = head_of(nn.Linear(12, 20), nn.LayerNorm(20), nn.Linear(20, 7))
    x = torch.randn(33, 12)
    x[:, :4] *= 1e5
    fast, slow = both(head, x)
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-5)


def test_an_activation_may_make_infinite_features_finite():
    x = torch.randn(8, 12)
    x[2, 5] = torch.inf
    fast, slow = both(head_of(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 7)), x)
    assert slow.isfinite().all()
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-6)


def test_the_mean_of_a_modality_leaves_out_the_rows_that_are_bad_in_it():
    x = torch.randn(33, 12)
    x[0, 0] = torch.nan
    fast, slow = both(head_of(nn.Linear(12, 7), drop="mean"), x)
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-6, equal_nan=True)


def test_a_weight_that_was_replaced_decides_the_number_of_classes():
    for classes, declared in ((9, 20), (20, 9)):
        linear = nn.Linear(12, declared, bias=False)
        linear.weight = nn.Parameter(torch.randn(classes, 12))
        fast, slow = both(head_of(linear), torch.randn(33, 12))
        torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-5)


def test_influence_is_never_negative():
    head = head_of(nn.Linear(12, 7))
    with torch.no_grad():
        head.last.weight.mul_(1e-4)
    fast, _ = both(head, torch.randn(500, 12))
    assert fast.min() >= 0


@pytest.mark.skipif(
    not hasattr(torch.utils.checkpoint, "CheckpointPolicy"), reason="came after torch 2.4"
)
def test_selective_checkpointing_does_not_see_it():
    ops = torch.ops.aten
    saved = (ops.mm.default, ops.addmm.default, ops.relu.default, ops._log_softmax.default)
    policy = torch.utils.checkpoint.CheckpointPolicy

    def choose(context, op, *args, **kwargs):
        return policy.MUST_SAVE if op in saved else policy.PREFER_RECOMPUTE

    make = torch.utils.checkpoint.create_selective_checkpoint_contexts
    for links in ([nn.Linear(12, 7)], [nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 7)]):
        gradients = []
        for tool in (False, True):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(6, 12), nn.Sequential(*copy.deepcopy(links)))
            if tool:
                cmiei_hooks.attach(
                    model, head="1", splits=WIDTHS, k=1, warmup_epochs=5, log=False
                ).set_epoch(0)
            x = torch.linspace(-1, 1, 48).view(8, 6).requires_grad_()
            run = torch.utils.checkpoint.checkpoint
            out = run(model, x, use_reentrant=False, context_fn=functools.partial(make, choose))
            out.square().mean().backward()
            gradients.append([p.grad for p in model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Other(nn.Parameter):
    pass


def with_other_parameter() -> nn.Linear:
    head = nn.Linear(12, 7)
    head.weight = Other(head.weight.detach())
    return head


def replaced() -> nn.Linear:
    head = nn.Linear(12, 7)
    head.forward = lambda x: nn.functional.linear(x, head.weight)
    return head


def replaced_in_sequential() -> nn.Sequential:
    head = nn.Sequential(nn.Linear(12, 7))
    head.forward = lambda x: 3 * head[0](x)
    return head


def hooked(kind: str) -> nn.Linear:
    head = nn.Linear(12, 7)
    getattr(head, f"register_forward_{kind}")(lambda *_: None)
    return head


NOT = {
    "a subclass": lambda: head_of(Scaled(12, 7)),
    "a parametrization": lambda: head_of(parametrizations.weight_norm(nn.Linear(12, 7))),
    "legacy weight norm": lambda: head_of(weight_norm(nn.Linear(12, 7))),
    "a replaced forward": lambda: head_of(replaced()),
    "a replaced forward of a Sequential": lambda: head_of(replaced_in_sequential()),
    "a parameter of another kind": lambda: head_of(with_other_parameter()),
    "a norm over rows": lambda: head_of(nn.Linear(12, 9), nn.LayerNorm((8, 9)), nn.Linear(9, 7)),
    "a hook": lambda: head_of(hooked("hook")),
    "a pre-hook": lambda: head_of(hooked("pre_hook")),
    "dropout": lambda: head_of(nn.Dropout(), nn.Linear(12, 7)),
    "layer norm": lambda: head_of(nn.LayerNorm(12), nn.Linear(12, 7)),
    "an activation": lambda: head_of(nn.Sequential(nn.ReLU(), nn.Linear(12, 7))),
    "no linear at the end": lambda: head_of(nn.Linear(12, 7), nn.ReLU()),
    "an unknown layer": lambda: head_of(nn.Linear(12, 12), nn.Softmax(-1), nn.Linear(12, 7)),
    "a hook inside": lambda: head_of(nn.Sequential(nn.Linear(12, 12), hooked("hook"))),
    "another measure": lambda: head_of(nn.Linear(12, 7), kind="js"),
    "a part of the output": lambda: head_of(nn.Linear(12, 7), output=lambda z: z),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("make", NOT.values(), ids=NOT)
def test_anything_else_is_left_to_the_general_path(make):
    head = make()
    assert both(head, torch.randn(8, 12))[0] is None


def test_other_inputs_and_types_are_left_to_the_general_path(golden):
    head, x = head_of(nn.Linear(12, 7)), torch.randn(8, 12)
    for args in ((x, 1.0), (torch.randn(8, 3, 12),)):
        assert influence_of_linear(head, PARTITION.read(args, {})) is None
    blocks = Partition((((0, 4),), ((4, 12),)), ("a", "b"))
    of_blocks = Head(("head",), head.links, blocks, (None,), "zero", "kl")
    assert influence_of_linear(of_blocks, blocks.read((x,), {})) is None
    captured = PARTITION.read((x,), {})
    for links in (
        [nn.Linear(24, 7)],
        [nn.BatchNorm1d(24), nn.Linear(12, 7)],
        [nn.Linear(12, 9), nn.ReLU(), nn.Linear(8, 7)],
        [nn.Linear(12, 9), nn.BatchNorm1d(8), nn.Linear(9, 7)],
        [nn.Linear(12, 7).double()],
        [nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 7).double()],
        [nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 1)],
    ):
        assert influence_of_linear(head_of(*links), captured) is None
    half = head_of(nn.Linear(12, 7).bfloat16())
    assert influence_of_linear(half, PARTITION.read((x.bfloat16(),), {})) is None
    with pytest.raises(CMIEIError) as error:
        both(head_of(nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 1))), x)
    golden(error.value)


def test_a_forward_replaced_in_the_class_is_left_to_the_general_path(monkeypatch):
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 2 * (x @ self.weight.T))
    assert both(head_of(nn.Linear(12, 7)), torch.randn(8, 12))[0] is None


def test_with_a_global_hook_the_head_is_left_to_the_general_path():
    head = head_of(nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 7)))
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert both(head, torch.randn(8, 12))[0] is None
    finally:
        hook.remove()
    assert both(head, torch.randn(8, 12))[0] is not None


def test_it_is_chosen_by_itself(monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("the head was run again")

    monkeypatch.setattr("cmiei_hooks.counterfactual.rerun._reenter", never)
    model = Fused()
    settings = {"k": 1, "warmup_epochs": 0, "log": False}
    handle = cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, **settings)
    model(torch.randn(16, 6))
    assert (handle.last.influence > 0).any()
    model.classifier.register_forward_hook(lambda *_: None)
    with pytest.raises(AssertionError, match="run again"):
        model(torch.randn(16, 6))


def test_classes_masked_by_the_bias_are_left_out():
    linear = nn.Linear(12, 7)
    with torch.no_grad():
        linear.bias[2:4] = -torch.inf
    fast, slow = both(head_of(linear), torch.randn(9, 12))
    assert fast.isfinite().all()
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-5)


def far_apart(scale: float, count: int = 4) -> tuple[Head, Tensor]:
    """A head of which one modality adds numbers that are much larger than the others'."""
    widths = tuple(range(3, 3 + count))
    names = tuple(f"m{m}" for m in range(count))
    linear, x = nn.Linear(sum(widths), 7), torch.randn(64, sum(widths))
    x[:, :3] *= scale
    return Head(("head",), (linear,), Partition(widths, names), (None,), "zero", "kl"), x


def in_float64(head: Head, x: Tensor) -> Tensor:
    doubled = dataclasses.replace(head, links=(copy.deepcopy(head.first).double(),))
    return estimate(doubled, head.partition.read((x.double(),), {})).influence


@pytest.mark.parametrize("count", [2, 3, 4, 6])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e6, 1e8])
def test_a_modality_that_is_much_larger_leaves_the_others_exact(scale, count):
    head, x = far_apart(scale, count)
    fast = influence_of_linear(head, head.partition.read((x,), {}))
    torch.testing.assert_close(fast.double(), in_float64(head, x), rtol=1e-3, atol=1e-4)


@pytest.mark.negative_control
def test_subtracting_from_the_complete_output_would_not(monkeypatch):
    def subtracted(terms, instead, last, out) -> None:
        out[0].copy_(sum(terms) + last)
        for term, result in zip(terms, out[1:], strict=True):
            torch.sub(out[0], term, out=result)

    monkeypatch.setattr(cmiei_hooks.counterfactual.linear, "_sums_without_each", subtracted)
    head, x = far_apart(1e6)
    fast = influence_of_linear(head, head.partition.read((x,), {}))
    wrong = (fast - in_float64(head, x)).abs() / (1 + fast)
    assert wrong.max() > 1e-3


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_each_modality_that_adds_nothing_has_influence_exactly_zero(count):
    for m in range(count):
        head, x = far_apart(1.0, count)
        start = sum(head.partition.widths[:m])
        with torch.no_grad():
            head.first.weight[:, start : start + head.partition.widths[m]] = 0
        fast = influence_of_linear(head, head.partition.read((x,), {}))
        assert torch.equal(fast[:, m], torch.zeros(64))
        assert (fast.sum(1) > 0).all()
