"""Which call is being recomputed: known by the checkpointed region, never guessed."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cmiei_hooks import CMIEIError
from cmiei_hooks._torch import in_backward
from cmiei_hooks.training.checkpoint_replay import Done, Replays, may_be_recomputed

KINDS = pytest.mark.parametrize("reentrant", [False, True])


class Recorder:
    """Stands for the hook: numbers its calls, and notes what is recalled in backward."""

    def __init__(self) -> None:
        self.replays, self.made, self.recalled = Replays(), 0, []

    def __call__(self, x: Tensor) -> Tensor:
        if in_backward():
            done = self.replays.recall()
            self.recalled.append(None if done is None else done.step)
        else:
            self.replays.remember(Done(self.made, None))
            self.made += 1
        return x.sin()


def leaf() -> Tensor:
    return torch.ones(3, requires_grad=True)


@KINDS
def test_in_backward_tells_a_recompute_from_a_call(reentrant):
    seen = []

    def block(x: torch.Tensor) -> torch.Tensor:
        seen.append(in_backward())
        return x.sin()

    x = torch.randn(3, requires_grad=True)
    out = checkpoint(block, x, use_reentrant=reentrant)
    assert seen == [False]
    out.sum().backward()
    assert seen == [False, True]
    assert not in_backward()


@KINDS
def test_a_call_under_checkpointing_may_be_recomputed(reentrant):
    seen = []

    def block(x: torch.Tensor) -> torch.Tensor:
        seen.append(may_be_recomputed())
        return x.sin()

    checkpoint(block, torch.randn(3, requires_grad=True), use_reentrant=reentrant)
    assert seen == [True]


@pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks"),
    reason="torch before 2.5 or so does not show its hooks; there every call counts",
)
def test_a_plain_call_is_not_recomputed():
    assert not may_be_recomputed()


@KINDS
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_equal_calls_are_told_apart_in_every_order_of_backward(reentrant, order):
    recorder, x = Recorder(), leaf()
    outputs = [checkpoint(recorder, x, use_reentrant=reentrant) for _ in range(3)]
    for index in order:
        outputs[index].sum().backward()
    assert recorder.recalled == order


@KINDS
def test_a_call_outside_the_region_is_never_recalled(reentrant):
    recorder, x = Recorder(), leaf()
    out = checkpoint(recorder, x, use_reentrant=reentrant)
    with torch.no_grad():
        recorder(x)
    recorder(x)
    out.sum().backward()
    assert recorder.recalled == [0]


@KINDS
def test_several_calls_in_one_region_keep_their_order(reentrant):
    recorder, x = Recorder(), leaf()
    out = checkpoint(lambda x: recorder(recorder(x)), x, use_reentrant=reentrant)
    out.sum().backward()
    assert recorder.recalled == [0, 1]


def test_a_graph_that_is_kept_is_recomputed_again():
    recorder, x = Recorder(), leaf()
    out = checkpoint(recorder, x, use_reentrant=False)
    out.sum().backward(retain_graph=True)
    out.sum().backward()
    assert recorder.recalled == [0, 0]


@KINDS
def test_nested_checkpoints(reentrant):
    recorder, x = Recorder(), leaf()

    def inner(x: Tensor) -> Tensor:
        return checkpoint(recorder, x, use_reentrant=reentrant).exp()

    outputs = [checkpoint(inner, x, use_reentrant=reentrant) for _ in range(2)]
    (outputs[0] + outputs[1]).sum().backward()
    # each once in the recompute of the outer region, and once in that of the inner one
    assert sorted(recorder.recalled) == [0, 0, 1, 1]


@KINDS
def test_what_is_remembered_goes_with_the_graph(reentrant):
    recorder = Recorder()
    for _ in range(5):
        checkpoint(recorder, leaf(), use_reentrant=reentrant).sum().backward()
    gc.collect()
    assert len(recorder.replays._regions) == 0


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_several_calls_in_nested_checkpoints(outer, inner):
    recorder, x = Recorder(), leaf()

    def twice(x: Tensor) -> Tensor:
        return recorder(x) + recorder(2 * x).exp()

    def middle(x: Tensor) -> Tensor:
        return checkpoint(twice, checkpoint(twice, x, use_reentrant=inner), use_reentrant=inner)

    checkpoint(middle, x, use_reentrant=outer).sum().backward()
    # the outer recompute comes to all four; then each inner one to its own two, the later first
    assert recorder.recalled[:4] == [0, 1, 2, 3] or not outer
    assert recorder.recalled[-4:] == [2, 3, 0, 1]


def test_a_recompute_by_something_else_is_refused_once_anything_was_substituted(golden):
    recorder, x = Recorder(), leaf()
    x.register_hook(recorder)
    x.sum().backward()
    assert recorder.recalled == [None]
    recorder.replays.remember(Done(0, torch.zeros(1)))
    with pytest.raises(CMIEIError) as error:
        x.sum().backward()
    golden(error.value)


def test_an_own_checkpoint_that_hides_its_first_pass_is_refused(golden):
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(function, x):
            return function(x)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.function, x = inputs
            ctx.save_for_backward(x)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                ctx.function(x).backward(grad)
            return None, x.grad

    recorder = Recorder()
    recorder.replays.acted = True
    out = Own.apply(recorder, leaf())
    with pytest.raises(CMIEIError) as error:
        out.sum().backward()
    golden(error.value)


def test_the_locals_of_other_frames_are_not_kept_alive():
    class Big:
        pass

    def training(recorder: Recorder) -> bool:
        ctx, big = None, Big()  # a name that autograd uses too
        gone = weakref.ref(big)
        with torch.no_grad():
            recorder(torch.ones(2))
        del ctx, big
        return gone() is None

    assert training(Recorder())
