"""Token ids: what takes their place, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from heads import CLASSES, PAD, SHAPES
from torch import Tensor, nn
from torch.nn.functional import log_softmax

import cmiei_hooks
from cmiei_hooks import attach, audit
from cmiei_hooks.errors import InputError, SplitsError

SHAPE = SHAPES["the whole model, token ids"]
WHERE = {key: value for key, value in SHAPE.where.items() if key != "fill"}
FILL = {"fill": {"text": PAD}}
ALWAYS = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 0.0, "p_max": 0.5, "log": False}


@pytest.mark.parametrize("where", [WHERE, {"head": "", "modalities": {"text": 0, "image": 1}}])
def test_without_a_fill_value_the_refusal_names_both_remedies(where, golden):
    with attach(SHAPE.make(), **where, **ALWAYS) as handle, pytest.raises(InputError) as caught:
        handle._step.head.first(*SHAPE.batch())
    golden(caught.value)


def test_both_remedies_work():
    model = SHAPE.make()
    with attach(model, **WHERE, **FILL, **ALWAYS) as handle:
        model(*SHAPE.batch())
        assert handle.step == 1

    class Behind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.fused = model.text, SHAPES["the whole model"].make()
            self.fused.text = nn.Identity()

        def forward(self, text: Tensor, image: Tensor) -> Tensor:
            return self.fused(self.embed(text), image)

    behind = Behind()
    with attach(behind, head="fused", modalities={"text": 0, "image": 1}, **ALWAYS) as handle:
        behind(*SHAPE.batch())
        assert handle.step == 1


@pytest.mark.parametrize(
    ("fill", "kind", "said"),
    [
        ({"txt": 0}, SplitsError, "did you mean 'text'"),
        ({"text": 0, "image": 0}, InputError, "'image' has a fill value"),
    ],
)
def test_a_fill_value_for_something_else_is_refused(fill, kind, said):
    model = SHAPE.make()
    with pytest.raises(kind, match=said), attach(model, **WHERE, fill=fill, **ALWAYS):
        model(*SHAPE.batch())


def test_substituted_ids_are_the_fill_value_and_all_others_stay():
    model, (text, image) = SHAPE.make(), SHAPE.batch()
    seen = []
    with attach(model, **WHERE, **FILL, **ALWAYS | {"p_max": 1.0}) as handle:
        hook = model.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(args), with_kwargs=True
        )
        model(text.clone(), image)
        hook.remove()
        chosen = handle.last.substituted
    rows = chosen == handle.names.index("text")
    assert rows.any()
    assert torch.equal(seen[0][0], torch.where(rows[:, None], PAD, text))


@pytest.mark.parametrize("drop", ["zero", "mean"])
def test_dropped_ids_are_the_fill_value_whatever_the_baseline(drop):
    model, batches = SHAPE.make(), [SHAPE.batch(), SHAPE.batch()]
    report = audit(model, batches, **WHERE, **FILL, drop=drop)
    twin = copy.deepcopy(model).eval()
    found = []
    for text, image in batches:
        p = log_softmax(twin(text, image).double(), -1)
        q = log_softmax(twin(torch.full_like(text, PAD), image).double(), -1)
        found.append((p.exp() * (p - q)).sum(-1))
    expected = torch.cat(found).mean().item()
    assert report.influence["text"].mean == pytest.approx(expected, rel=1e-3)
    for name in ("zero", "mean"):
        assert report.baselines[name]["text"].mean == pytest.approx(expected, rel=1e-3)
    assert report.baselines["permuted"]["text"].mean != pytest.approx(expected, rel=1e-3)


@pytest.mark.negative_control
def test_zeros_would_be_another_text():
    model, batches = SHAPE.make(), [SHAPE.batch()]
    found = [audit(model, batches, **WHERE, fill={"text": i}).influence["text"] for i in (0, PAD)]
    assert found[0].mean != pytest.approx(found[1].mean, rel=1e-3)


def test_the_configuration_names_the_fill_value(tmp_path):
    file = tmp_path / "c.yml"
    file.write_text("ENABLED: True\nFILL: {text: 9}\nHEAD: ''\n")
    with attach(SHAPE.make(), config=file, modalities={"text": 0, "image": 1}, log=False) as handle:
        assert handle.config.fill == {"text": 9}


def test_the_checks_of_the_output_of_a_model_that_is_its_own_head_are_left_out():
    """Its hooks would stay, and with them the graph of the last forward."""
    model = SHAPE.make()
    with attach(model, **WHERE, **FILL, **ALWAYS):
        assert len(model._forward_hooks) == 0
        assert model(*SHAPE.batch()).shape[1] == CLASSES
    assert cmiei_hooks.verify(model, *SHAPE.batch(), **WHERE, **FILL, strict=True)
