"""What discover proposes can be attached as it is: it is verified, measures and substitutes."""

from __future__ import annotations

import pytest
import torch
from fusion_models import B, Bottleneck, C, inputs
from test_branches import Late
from test_routes import Between
from torch import Tensor, nn

from cmiei_hooks import discover, verify
from cmiei_hooks.discovery.functions import ACTIVATIONS

MODELS = {
    "one head": lambda: Bottleneck(nn.Identity()),
    **{name: (lambda name=name: Between(eval(name))) for name in ACTIVATIONS},
    "sum": lambda: Late(lambda z: z.sum(0)),
    "mean": lambda: Late(lambda z: z.mean(0)),
}


def step(model: nn.Module, xs: list[Tensor]) -> Tensor:
    returned = model(*xs)
    logits = returned if isinstance(returned, Tensor) else returned[0]
    loss = nn.functional.cross_entropy(logits, torch.arange(B) % C)
    loss.backward()
    return loss


@pytest.mark.parametrize("name", MODELS)
def test_a_proposal_is_attached_and_acts(name):
    model, xs = MODELS[name](), inputs()
    report = discover(model, *xs)
    assert verify(model, *xs, **report.candidates[0].arguments).ok
    model.train()
    with report.attach(k=1, warmup_epochs=0, abs_thr=0.0, rel_thr=1.0, p_max=1.0, log=False) as h:
        step(model, xs)
        assert h.last.influence.shape == (B, 3)
        assert (h.last.substituted >= 0).any()
        step(model, xs)  # the comparison of the first step has found nothing


@pytest.mark.negative_control
def test_another_function_is_refused_in_the_first_step():
    model, xs = Between(torch.tanh).train(), inputs()
    arguments = dict(discover(model, *xs).candidates[0].arguments)
    arguments["head"] = [torch.relu if one is torch.tanh else one for one in arguments["head"]]
    assert not verify(model, *xs, **arguments).ok
