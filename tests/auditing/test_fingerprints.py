"""A sample has the same fingerprint in every audit, and another one than other samples."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused

from cmiei_hooks import audit
from cmiei_hooks.auditing.fingerprints import fingerprints

WHERE = {"head": "classifier", "splits": WIDTHS}


def test_it_depends_on_the_sample_alone():
    images, ids = torch.randn(6, 3, 8, 8), torch.arange(6)
    whole = fingerprints({"image": images, "id": ids})[6]
    assert len(set(whole.tolist())) == 6
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    shuffled = fingerprints({"image": images[order], "id": ids[order]})[6]
    assert torch.equal(shuffled, whole[order])
    parts = [fingerprints({"image": images[k : k + 2], "id": ids[k : k + 2]})[2] for k in (0, 2, 4)]
    assert torch.equal(torch.cat(parts), whole)
    strided = images.to(memory_format=torch.channels_last)
    assert torch.equal(fingerprints({"image": strided, "id": ids})[6], whole)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.bool, torch.uint8, torch.complex64]
)
def test_every_column_counts_in_small_tensors_of_every_type(dtype):
    for column in range(8):
        x = torch.zeros(2, 8, dtype=dtype)
        x[1, column] = 1
        first, second = fingerprints((x,))[2].tolist()
        assert first != second
        assert 0 <= first < 2**52


def test_every_tensor_counts_and_those_without_samples_do_not():
    x, y = torch.randn(4, 2), torch.randn(4, 5)
    both, one = fingerprints([x, [y]]), fingerprints([x])
    assert not (both[4] == one[4]).any()
    assert fingerprints([x, torch.tensor(1.0), torch.empty(0, 3), "a name"]).keys() == {4}
    assert fingerprints([]) == {}


def test_the_audit_writes_it_whatever_the_model_is(tmp_path):
    torch.manual_seed(0)
    batches = [(torch.randn(n, 6), torch.arange(n) % 3) for n in (5, 3)]
    first, second = Fused(), Fused()
    one, other = (audit(model, batches, **WHERE) for model in (first, second))
    marks = [row["fingerprint"] for row in one.rows]
    assert marks == [row["fingerprint"] for row in other.rows]
    assert len(set(marks)) == 8
    assert one.influence != other.influence
    file = tmp_path / "features.pt"
    audit(first, batches, **WHERE, save_features=file)
    again = audit(first, None, **WHERE, features=file)
    assert [row["fingerprint"] for row in again.rows] == marks
