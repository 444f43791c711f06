"""Several calls of the head in one training step: one decision and one noise for all of them."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused, record_head_input

import cmiei_hooks
from cmiei_hooks.errors import InputError

ACTING = {"warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 1.0, "sigma": 0.3, "log": False}


def attached(**settings) -> tuple[Fused, cmiei_hooks.Handle, list[torch.Tensor]]:
    model = Fused()
    handle = cmiei_hooks.attach(
        model, head="classifier", splits=WIDTHS, **(ACTING | {"k": 1} | settings)
    )
    return model, handle, record_head_input(model)


def test_both_passes_get_the_same_input(x):
    model, handle, inputs = attached()
    with handle.same_step():
        model(x)
        model(x)
    assert torch.equal(*inputs)
    assert not torch.equal(inputs[0], model.features(x))
    assert handle.step == 1


@pytest.mark.negative_control
def test_without_it_they_differ(x):
    model, handle, inputs = attached()
    model(x)
    model(x)
    assert not torch.equal(*inputs)
    assert handle.step == 2


def test_with_k_2_every_second_training_step_acts_on_all_its_passes(x):
    model, handle, inputs = attached(k=2)
    for _ in range(4):
        with handle.same_step():
            model(x)
            model(x)
    real = model.features(x)
    assert [torch.equal(features, real) for features in inputs] == 2 * [False, False, True, True]
    assert handle.step == 4


def test_the_noise_of_two_steps_differs_and_that_of_the_passes_does_not(x):
    model, handle, inputs = attached()
    for _ in range(2):
        with handle.same_step():
            model(x)
            model(x)
    assert torch.equal(inputs[0], inputs[1])
    assert torch.equal(inputs[2], inputs[3])
    assert not torch.equal(inputs[0], inputs[2])


def test_inside_another_it_is_the_same_step(x):
    model, handle, inputs = attached()
    with handle.same_step():
        with handle.same_step():
            model(x)
        model(x)
    assert torch.equal(*inputs)
    assert handle.step == 1


def test_an_error_inside_leaves_the_next_step_alone(x):
    model, handle, _ = attached()
    with pytest.raises(KeyError), handle.same_step():
        model(x)
        raise KeyError
    model(x)
    assert handle.step == 2


@pytest.mark.parametrize("reentrant", [True, False])
def test_every_pass_is_recomputed_as_it_was(reentrant, x):
    def gradient(checkpointed: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model, handle, _ = attached(seed=5)
        run = model
        if checkpointed:

            def run(z: torch.Tensor) -> torch.Tensor:
                return torch.utils.checkpoint.checkpoint(model, z, use_reentrant=reentrant)

        leaf = x.clone().requires_grad_()
        with handle.same_step():
            (run(leaf).square().sum() + run(leaf).square().sum()).backward()
        return model.encoders[0].weight.grad

    torch.testing.assert_close(gradient(True), gradient(False))


def test_other_samples_are_refused(x, golden):
    model, handle, _ = attached()
    with handle.same_step():
        model(x)
        with pytest.raises(InputError) as error:
            model(x[:5])
    golden(error.value)


def test_an_inert_handle_has_it_too(x):
    handle = cmiei_hooks.attach(Fused(), head="classifier", splits=WIDTHS, enabled=False, log=False)
    with handle.same_step():
        pass
