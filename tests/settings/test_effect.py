"""Settings that are said to have no effect, changed in a training: nothing else changes."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused

import cmiei_hooks
from cmiei_hooks import CMIEIError, Config
from cmiei_hooks.settings import without_effect

ACTING = {"k": 1, "abs_thr": 0.0, "rel_thr": 1.0, "seed": 0}
BASES = {
    "measuring": {"p_max": 0.0, "warmup_epochs": 1},
    "measuring softly": {"p_max": 0.0, "warmup_steps": 2, "selection": "soft"},
    "published": {"warmup_epochs": 1},
    "batch level": {"warmup_epochs": 1, "sample_level": False},
    "soft": {"warmup_epochs": 1, "selection": "soft"},
    "in steps": {"warmup_steps": 2},
}
OTHER = {
    "selection": {"selection": "soft"},
    "sigma": {"sigma": 3.0},
    "sigma_unit": {"sigma_unit": "std"},
    "tau_samples": {"tau_samples": 2.0},
    "tau_modalities": {"tau_modalities": 2.0},
    "rate": {"rate": 0.9},
    "gate": {"gate": 0.2},
    "abs_thr": {"abs_thr": 0.1},
    "rel_thr": {"rel_thr": 2.0},
    "p_max": {"p_max": 0.25},
    "relative": {"relative": True},
    "sample_level": {"sample_level": False},
    "warmup_epochs": {"warmup_epochs": 0},
    "warmup_steps": {"warmup_steps": 5},
    "end_epoch": {"end_epoch": 2},
    "end_step": {"end_step": 5},
}
"""For each setting another value."""


def train(settings: dict) -> list[torch.Tensor]:
    """Three epochs of two steps: the influences, and the gradients."""
    torch.manual_seed(0)
    model, seen = Fused(), []
    handle = cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, log=False, **settings)
    for epoch in range(3):
        handle.set_epoch(epoch)
        for _ in range(2):
            model(torch.randn(8, 6)).square().sum().backward()
            seen.append(handle.last.influence)
    return [*seen, *(parameter.grad for parameter in model.parameters())]


def possible(settings: dict) -> bool:
    try:
        return bool(Config(**settings))
    except CMIEIError:
        return False


def cases(idle: bool) -> list:
    found = []
    for name, base in BASES.items():
        known = without_effect(Config(**ACTING | base))
        for setting, other in OTHER.items():
            changed = ACTING | base | other
            if (setting in known) == idle and changed != ACTING | base and possible(changed):
                found.append(pytest.param(ACTING | base, changed, id=f"{name}-{setting}"))
    return found


@pytest.mark.parametrize(("base", "changed"), cases(idle=True))
def test_what_has_no_effect_changes_nothing(base, changed):
    assert all(map(torch.equal, train(base), train(changed)))


@pytest.mark.parametrize(("base", "changed"), cases(idle=False))
@pytest.mark.negative_control
def test_what_is_shown_changes_the_training(base, changed):
    assert not all(map(torch.equal, train(base), train(changed)))
