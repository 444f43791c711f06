"""What docs/frameworks.md says of PEFT: when to attach, and what the head is called."""

from __future__ import annotations

import pytest
from helpers import WIDTHS, Fused

import cmiei_hooks
from cmiei_hooks import CMIEIWarning

pytestmark = pytest.mark.slow  # importing peft takes seconds

EAGER = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 0.0, "log": False}
PATH = "base_model.model.classifier"
WAYS = {
    "the head is saved": {"modules_to_save": ["classifier"]},
    "the head has LoRA": {"target_modules": ["encoders.0", "classifier"]},
    "the head is frozen": {},
}


def wrapped(model: Fused, **ways):
    peft = pytest.importorskip("peft", reason="peft is not installed (extra: frameworks)")
    return peft.get_peft_model(
        model, peft.LoraConfig(r=2, **{"target_modules": ["encoders.0"], **ways})
    )


def attach(model, head="classifier"):
    return cmiei_hooks.attach(model, head=head, splits=WIDTHS, **EAGER)


@pytest.mark.parametrize("head", ["classifier", PATH])
@pytest.mark.parametrize("ways", WAYS.values(), ids=WAYS)
def test_attached_afterwards_the_head_is_found_and_its_input_substituted(ways, head, x):
    model = wrapped(Fused(), **ways)
    handle = attach(model, head)
    model(x).sum().backward()
    assert (handle.last.substituted >= 0).any()
    handle.remove()
    assert not model.get_submodule(PATH)._forward_pre_hooks


@pytest.mark.negative_control
def test_attached_before_a_copy_of_the_head_is_trained_and_the_hook_never_called(x):
    model = Fused()
    handle = attach(model)
    model = wrapped(model, **WAYS["the head is saved"])
    handle.set_epoch(0)
    model(x).sum().backward()
    with pytest.warns(CMIEIWarning, match="put inside another module"):
        handle.set_epoch(1)
    assert handle.step == 0
