"""Every guard of the promise with its negative control: without the guard, the property breaks."""

from __future__ import annotations

import contextlib
import copy
import pickle

import pytest
import torch
from guards import GUARDED_HEADS, GUARDS, without
from helpers import Fused, record_head_input
from silence import HEADS, OBSERVING, Model, attach, differences, train
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import cmiei_hooks
import cmiei_hooks.counterfactual.isolation
import cmiei_hooks.counterfactual.rerun
import cmiei_hooks.distributed
import cmiei_hooks.training.pre_hook

STEPS = 4
ACTING = OBSERVING | {"p_max": 1.0, "abs_thr": 0.0, "rel_thr": 0.0}


def found(head: str) -> list[str]:
    """What differs between a run with the tool, observing, and a run without it."""

    def run(when: str) -> list:
        torch.manual_seed(0)
        return train(Model(GUARDED_HEADS[head]()), lambda m: m, "fp32", when, steps=STEPS)

    return differences(run("never"), run("after"))


@pytest.mark.parametrize("head", sorted({head for head, _, _ in GUARDS.values()}))
def test_with_all_guards_nothing_differs(head):
    assert found(head) == []


@pytest.mark.negative_control
@pytest.mark.parametrize("guard", GUARDS)
def test_without_the_guard_training_differs(guard):
    head, _, _ = GUARDS[guard]
    with without(guard):
        assert found(head) != []


def own_hook_calls(x: Tensor) -> int:
    """How often a user's forward hook on the head runs in one forward."""
    model, calls = Fused(), []
    model.classifier.register_forward_hook(lambda *_: calls.append(1))
    cmiei_hooks.attach(model, head="classifier", splits=model.widths, **OBSERVING)
    model(x)
    return len(calls)


def test_other_hooks_on_the_head_run_once(x):
    assert own_hook_calls(x) == 1


@pytest.mark.negative_control
def test_re_entering_through_call_would_run_them_again(x, monkeypatch):
    def through_call(head: nn.Module, args: tuple, kwargs: dict) -> Tensor:
        ours = dict(head._forward_pre_hooks)
        head._forward_pre_hooks.clear()
        try:
            return head(*args, **kwargs)
        finally:
            head._forward_pre_hooks.update(ours)

    monkeypatch.setattr("cmiei_hooks.counterfactual.rerun._reenter", through_call)
    assert own_hook_calls(x) == 1 + 4


def keeps_a_graph(model: Fused, x: Tensor, **settings) -> bool:
    settings = OBSERVING | settings
    handle = cmiei_hooks.attach(model, head="classifier", splits=model.widths, **settings)
    model(x)
    return handle.last.influence.requires_grad


@pytest.mark.parametrize("measure", ["kl", "js"])  # a Linear that is not run again; one that is
def test_no_graph_is_kept_alive(model, x, measure):
    assert not keeps_a_graph(model, x, measure=measure)


@pytest.mark.negative_control
def test_without_no_grad_a_graph_would_be_kept_alive(model, x, monkeypatch):
    monkeypatch.setattr(torch, "no_grad", contextlib.nullcontext)
    assert keeps_a_graph(model, x, measure="js")


def generator_moves(x: Tensor) -> bool:
    model = Fused()
    cmiei_hooks.attach(model, head="classifier", splits=model.widths, **ACTING)
    before = torch.get_rng_state()
    model(x)
    return not torch.equal(before, torch.get_rng_state())


def test_the_noise_has_a_generator_of_its_own(x):
    assert not generator_moves(x)


@pytest.mark.negative_control
def test_noise_from_the_global_generator_would_move_it(x, monkeypatch):
    monkeypatch.setattr(
        "cmiei_hooks.training.substitution.noise_generator", lambda *_: torch.default_generator
    )
    assert generator_moves(x)


def noise_of_rank(rank: int, x: Tensor, monkeypatch) -> Tensor:
    monkeypatch.setattr("cmiei_hooks.distributed.rank", lambda: rank)
    torch.manual_seed(0)
    model = Fused()
    cmiei_hooks.attach(model, head="classifier", splits=model.widths, **ACTING)
    inputs = record_head_input(model)
    model(x)
    return inputs[0]


def test_the_rank_is_in_the_noise(x, monkeypatch):
    zero, one, again = (noise_of_rank(rank, x, monkeypatch) for rank in (0, 1, 0))
    assert torch.equal(zero, again)
    assert not torch.equal(zero, one)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "AveragedModel": lambda model: AveragedModel(model).module,
}


def copy_acts(make_copy, x: Tensor) -> bool:
    """Whether the copy of a model substitutes anything."""
    model = Fused()
    handle = cmiei_hooks.attach(model, head="classifier", splits=model.widths, **ACTING)
    other = make_copy(model)
    inputs = record_head_input(other)
    other(x)
    assert handle.step == 0
    return not torch.equal(inputs[0], other.features(x))


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_inert(make_copy, x):
    assert not copy_acts(make_copy, x)


@pytest.mark.negative_control
@pytest.mark.parametrize("name", ["deepcopy", "AveragedModel"])
def test_an_ordinary_copy_of_the_hook_would_act(name, x, monkeypatch):
    def ordinary(
        self: cmiei_hooks.training.pre_hook.PreHook, memo: dict
    ) -> cmiei_hooks.training.pre_hook.PreHook:
        return cmiei_hooks.training.pre_hook.PreHook(self._step)

    monkeypatch.setattr(cmiei_hooks.training.pre_hook.PreHook, "__deepcopy__", ordinary)
    monkeypatch.setattr(cmiei_hooks.training.pre_hook, "refuse_replica", lambda *_: None)
    with pytest.raises(AssertionError, match="step"):  # it feeds the original
        copy_acts(COPIES[name], x)


def test_the_weights_file_holds_weights_only(tmp_path, x):
    model = Fused()
    keys = list(model.state_dict())
    with attach_to(model) as handle:
        model(x)
        torch.save(model.state_dict(), tmp_path / "weights.pth")
        assert handle.step == 1
    assert list(torch.load(tmp_path / "weights.pth", weights_only=True)) == keys


def attach_to(model: Fused) -> cmiei_hooks.Handle:
    return cmiei_hooks.attach(model, head="classifier", splits=model.widths, **ACTING)


def test_an_averaged_model_follows_the_weights_and_nothing_else(x):
    """As stochastic weight averaging does it, in the middle of training."""

    def averaged(with_tool: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = Model(HEADS["batch norm, dropout"]())
        handle = attach(model) if with_tool else None
        average = AveragedModel(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(STEPS):
            optimizer.zero_grad()
            model(torch.randn(8, 6)).square().sum().backward()
            optimizer.step()
            average.update_parameters(model)
            average(torch.randn(8, 6))
        assert handle is None or handle.step == STEPS
        return [*average.parameters(), *average.buffers()]

    assert all(map(torch.equal, averaged(False), averaged(True)))
