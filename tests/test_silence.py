"""The promise: attached and not substituting, training is the same to the bit."""

from __future__ import annotations

import pytest
import silence
import torch
from silence import HEADS, Model, differences, train
from torch import nn

CHECKPOINTED = [
    (head, recompute, reentrant)
    for head in HEADS
    for recompute in ("head", "block")
    for reentrant in (False, True)
    # Autograd itself refuses to write in place into the input of a checkpointed head.
    if (head, recompute) != ("in-place relu", "head")
]


def build(head: str, recompute: str = "nothing", reentrant: bool = False) -> Model:
    torch.manual_seed(0)
    return Model(HEADS[head](), recompute, reentrant)


def compiled(model: nn.Module) -> nn.Module:
    torch._dynamo.reset()
    return torch.compile(model, backend="aot_eager")


def compare(head: str, precision: str, wrap=lambda model: model, when="after", **options):
    def run(attach_when: str):
        return train(build(head, **options), wrap, precision, attach_when)

    return differences(run("never"), run(when))


@pytest.mark.cell
@pytest.mark.parametrize("precision", silence.PRECISIONS)
@pytest.mark.parametrize("head", HEADS)
def test_eager(head, precision):
    assert compare(head, precision) == []


@pytest.mark.cell
@pytest.mark.skipif(
    torch.__version__ < "2.13",
    reason="torch 2.1 is known not to run the hooks of a Sequential that it compiles (the tool "
    "warns), 2.4 to round bf16 differently around a graph break",
)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("precision", silence.PRECISIONS)
@pytest.mark.parametrize("head", HEADS)
def test_compiled(head, precision, when):
    found = compare(head, precision, compiled, when)
    # How often AOT writes a buffer back depends on where the graph breaks; the values do not.
    assert [name for name in found if not name.startswith("version")] == []


@pytest.mark.cell
@pytest.mark.parametrize("precision", silence.PRECISIONS)
@pytest.mark.parametrize(("head", "recompute", "reentrant"), CHECKPOINTED)
def test_checkpointed(head, precision, recompute, reentrant):
    assert compare(head, precision, recompute=recompute, reentrant=reentrant) == []
