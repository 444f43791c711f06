"""What each column of a batch is taken for."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn

from cmiei_hooks import CMIEIError, audit
from cmiei_hooks.auditing.batches import Columns, read_batch

CPU = torch.device("cpu")
X, Z = torch.randn(4, 6), torch.randn(4, 6)
LABELS, CAMERAS = torch.tensor([0, 1, 2, 0]), torch.tensor([5, 5, 6, 6])


class OneInput(nn.Module):
    def forward(self, x, label=None, camera=None):
        return x


class TwoInputs(nn.Module):
    def forward(self, x, z, mask=None):
        return x


class Views(nn.Module):
    def forward(self, *views):
        return views[0]


class AllOptional(nn.Module):
    def forward(self, rgb=None, depth=None):
        return rgb


def read(model: nn.Module, batch: object, **columns: object):
    return read_batch(model, batch, CPU, Columns(**columns), checked=True)


def is_same(call: object, expected: object) -> bool:
    """Equal containers with the same tensors."""
    if isinstance(expected, Tensor):
        return torch.equal(call, expected)
    if isinstance(expected, dict):
        return call.keys() == expected.keys() and all(is_same(call[k], expected[k]) for k in call)
    return len(call) == len(expected) and all(map(is_same, call, expected))


@pytest.mark.parametrize(
    ("model", "batch", "columns", "call", "sources", "label_source"),
    [
        (OneInput(), X, {}, ((X,), {}), {"x": "the batch"}, None),
        (OneInput(), (X, LABELS), {}, ((X,), {}), {"x": "column 0"}, "column 1"),
        (OneInput(), (LABELS, X), {"labels": 0}, ((X,), {}), {"x": "column 1"}, "column 0"),
        (
            TwoInputs(),
            ((X, Z), LABELS),
            {},
            ((X, Z), {}),
            {"x": "column 0, item 0", "z": "column 0, item 1"},
            "column 1",
        ),
        (
            OneInput(),
            (X, LABELS, CAMERAS),
            {"labels": 1, "inputs": (0, -1)},
            ((X, CAMERAS), {}),
            {"x": "column 0", "label": "column -1"},
            "column 1",
        ),
        (
            TwoInputs(),
            (CAMERAS, Z, X, LABELS),
            {"inputs": (2, 1)},
            ((X, Z), {}),
            {"x": "column 2", "z": "column 1"},
            "column 3",
        ),
        (
            OneInput(),
            {"image": X, "y": LABELS},
            {"inputs": ("image",)},
            ((X,), {}),
            {"x": "column 'image'"},
            "column 'y'",
        ),
        (
            TwoInputs(),
            {"x": X, "z": Z, "target": LABELS},
            {},
            ((), {"x": X, "z": Z}),
            {"x": "column 'x'", "z": "column 'z'"},
            "column 'target'",
        ),
        (
            OneInput(),
            {"x": X, "label": LABELS},
            {},
            ((), {"x": X, "label": LABELS}),
            {"x": "column 'x'", "label": "column 'label'"},
            None,
        ),
        (
            OneInput(),
            {"x": X, "label": LABELS},
            {"labels": "label"},
            ((), {"x": X}),
            {"x": "column 'x'"},
            "column 'label'",
        ),
        (
            OneInput(),
            {"rgb": X, "ir": Z, "label": LABELS},
            {},
            (({"rgb": X, "ir": Z, "label": LABELS},), {}),
            {"x": "the batch"},
            "column 'label'",
        ),
        (
            Views(),
            (X, Z, LABELS),
            {},
            ((X, Z), {}),
            {"views[0]": "column 0", "views[1]": "column 1"},
            "column 2",
        ),
        (AllOptional(), (X, LABELS), {}, ((X,), {}), {"rgb": "column 0"}, "column 1"),
        (
            AllOptional(),
            (X, Z, LABELS),
            {"inputs": (0, 1)},
            ((X, Z), {}),
            {"rgb": "column 0", "depth": "column 1"},
            "column 2",
        ),
    ],
)
def test_each_column_goes_where_it_belongs(model, batch, columns, call, sources, label_source):
    found = read(model, batch, **columns)
    assert is_same(found.call, call)
    assert found.sources == sources
    assert found.label_source == label_source
    assert (found.label is None) == (label_source is None)
    assert found.label is None or torch.equal(found.label, LABELS)


@pytest.mark.negative_control
@pytest.mark.parametrize(
    ("model", "batch", "columns"),
    [
        (OneInput(), (X, LABELS, CAMERAS), {"labels": 1}),
        (OneInput(), (X, LABELS, CAMERAS, CAMERAS), {"labels": 1, "group": 2}),
        (TwoInputs(), (X, Z, LABELS, CAMERAS), {}),
        (AllOptional(), (X, Z, LABELS), {}),
    ],
)
def test_optional_arguments_are_never_filled_in_silence(model, batch, columns, golden):
    with pytest.raises(CMIEIError) as error:
        read(model, batch, **columns)
    golden(error.value)
    model(*(v for v in batch if v is not LABELS))  # it would have run with what is not an input


def test_what_does_not_fit_forward_is_refused(golden):
    with pytest.raises(CMIEIError) as error:
        read(TwoInputs(), (X, LABELS))
    golden(error.value)


def test_containers_keep_their_kind():
    kind = namedtuple("kind", "x z")  # as loaders make them
    batch = (kind(X, [Z, {"a": Z}]), LABELS)
    found = read_batch(OneInput(), batch, CPU, Columns(), checked=False).given
    assert type(found[0]) is kind
    assert is_same(found, batch)


def test_the_report_says_what_was_passed_as_what():
    class Sums(Fused):
        def forward(self, a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
            return super().forward(a + b if bias is None else a + b + bias)

    where = {"head": "classifier", "splits": WIDTHS}
    model, batch = Sums(), (LABELS, X, Z, torch.ones(4, 6))
    chosen = audit(model, [batch], **where, inputs=[1, 2], labels=0)
    with_bias = audit(model, [batch], **where, inputs=[1, 2, 3], labels=0)
    assert chosen.influence == audit(model, [(X, Z)], **where).influence
    assert with_bias.influence != chosen.influence
    environment = with_bias.environment
    assert environment["inputs"] == {"a": "column 1", "b": "column 2", "bias": "column 3"}
    assert environment["labels"] == "column 0"
