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


class Product(nn.Module):
    """Fused by a product in the model's own forward; the text is token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.image, self.out = nn.Embedding(9, 5), nn.Linear(6, 5), nn.Linear(5, C)

    def forward(self, text, image, mask):
        return {
            "logits": self.out((self.words(text) * mask[..., None]).mean(1) * self.image(image))
        }


def test_where_nothing_smaller_separates_them_the_whole_model_is_proposed(capsys):
    mask = torch.ones(B, 4, dtype=torch.long)
    mask[::2, 2:] = 0
    xs = [torch.randint(9, (B, 4)), torch.randn(B, 6), mask]
    model = Product()
    report = discover(model, *xs)
    expected = {"head": "", "modalities": {"text": 0, "image": 1}, "fill": {"text": 0}}
    assert report.candidates[0].arguments == {**expected, "output": "logits"}
    printed = capsys.readouterr().out
    assert "runs it 3 times more" in " ".join(printed.replace("│", " ").split())
    assert "# cmiei diagnose --head '' --fill text=0" in printed
    assert verify(model, *xs, **report.candidates[0].arguments).ok
    model.train()
    with report.attach(
        k=1, warmup_epochs=0, abs_thr=0.0, rel_thr=1.0, p_max=1.0, fill={"text": 3}, log=False
    ) as handle:
        logits = model(*xs)["logits"]
        rows = handle.last.substituted == 0
        assert rows.any()
        again = model.eval()(torch.full_like(xs[0], 3), *xs[1:])["logits"]
        torch.testing.assert_close(logits[rows], again[rows])


@pytest.mark.negative_control
def test_where_a_smaller_head_is_there_the_whole_model_is_not_proposed():
    report = discover(Bottleneck(nn.Identity()), *inputs())
    assert ("",) not in [candidate.head for candidate in report.candidates]
