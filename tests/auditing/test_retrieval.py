"""Rank-1 where the labels are identities: against an implementation written otherwise."""

from __future__ import annotations

import json
import math

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import nn

from cmiei_hooks import CMIEIWarning, audit
from cmiei_hooks.auditing.retrieval import MOST, Vectors, first_ranks, retrieval_of
from tools.experiments.retrieval import retrieval

WHERE = {"head": "classifier", "splits": WIDTHS}


def world(count: int = 60, cameras: int = 3) -> tuple[list, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    identity = torch.arange(count) % 12
    camera = torch.arange(count) // 12 % cameras
    centres = [torch.randn(12, width, generator=generator) for width in (5, 3, 2)]
    noise = [torch.randn(count, c.shape[1], generator=generator) for c in centres]
    return [c[identity] + n for c, n in zip(centres, noise, strict=True)], identity, camera


def test_the_rank_by_hand():
    """Two identities on a circle; without the second modality they cannot be told apart."""
    one = torch.tensor([[1.0], [1.0], [1.0]])
    other = torch.tensor([[1.0], [0.9], [-1.0]])
    ranks = first_ranks([one, other], torch.tensor([0, 0, 1]), None)
    assert ranks[0].tolist() == [1, 1, 2]  # complete, without the first, without the second
    assert ranks[2].isnan().all()  # nobody shares its identity


def test_it_agrees_with_the_metric_of_re_identification():
    """Each sample as the only query, all others as the gallery, cameras as groups."""
    features, identity, camera = world()
    ranks = first_ranks(features, identity, camera)
    kept_of = [[0, 1, 2], [1, 2], [0, 2], [0, 1]]
    for column, kept in enumerate(kept_of):
        joined = torch.cat([features[m] for m in kept], dim=1)
        for i in range(len(identity)):
            rest = torch.arange(len(identity)) != i
            query = (joined[i : i + 1], joined[rest], identity[i : i + 1], identity[rest])
            found = retrieval(*query, camera[i : i + 1], camera[rest])
            assert (ranks[i, column] == 1) == (found["Rank-1"] == 1)
    assert 0.2 < (ranks[:, 0] == 1).double().mean() < 1  # it can fail


def test_samples_of_the_same_identity_and_camera_do_not_count():
    features = [torch.tensor([[1.0, 0], [1.0, 0.01], [0, 1.0], [0.5, 0.9]])] * 2
    identity, camera = torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 0, 1])
    assert first_ranks(features, identity, None)[0, 0] == 1
    near = [torch.tensor([[1.0, 0], [1.0, 0.01], [0.9, 0.1], [0.5, 0.9]])] * 2
    assert first_ranks(near, identity, camera)[0, 0] == 2  # the twin of its camera is left out


def test_equal_similarities_count_against_it():
    zeros = [torch.zeros(4, 2), torch.zeros(4, 3)]
    identity = torch.tensor([0, 0, 1, 1])
    assert first_ranks(zeros, identity, None).tolist() == [[3, 3, 3]] * 4


def test_only_the_first_samples_of_one_width_and_finite_features_count():
    features, identity, _ = world()
    calls = [Vectors(0, tuple(features), identity, None)]
    whole = retrieval_of("rnt", calls, by_identity=False, seed=0)
    other = Vectors(1, (torch.ones(1, 9),) * 3, torch.tensor([0]), None)
    broken = Vectors(2, tuple(f[:1] * math.nan for f in features), identity[:1], None)
    assert retrieval_of("rnt", [broken, other, *calls], by_identity=False, seed=0) == whole
    many = [Vectors(k, tuple(features), identity, None) for k in range(MOST // 60 + 2)]
    assert retrieval_of("rnt", many, by_identity=False, seed=0).n == MOST


def audited(labels: torch.Tensor, features: torch.Tensor, cameras: list[str] | None = None, **more):
    model = Fused(nn.Linear(12, 7))
    batches = [(features[i::3], labels[i::3]) for i in range(3)]
    if cameras is not None:
        batches = [(*b, cameras[i::3]) for i, b in enumerate(batches)]
        more["group_by"] = 2
    return audit(model, batches, **WHERE, labels=1, **more)


def test_an_audit_with_identities_has_it_and_one_with_classes_has_not(tmp_path):
    torch.manual_seed(0)
    identity = torch.arange(48) % 6
    x = torch.randn(6, 6)[identity] + 0.3 * torch.randn(48, 6)
    cameras = [f"c{i % 4}" for i in range(48)]
    with pytest.warns(CMIEIWarning, match="outside the classes"):
        report = audited(identity + 100, x, cameras)
    found = report.retrieval
    assert found.n == 48
    assert 0 < found.rank1.mean <= 1
    for name in "rnt":
        lost = found.rank1.mean - found.rank1_without[name].mean
        assert found.rank1_loss[name].mean == pytest.approx(lost)
    report.save(tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())["retrieval"]
    assert written["rank1"]["mean"] == found.rank1.mean
    assert set(written) == {"n", "rank1", "rank1_without", "rank1_loss"}
    assert "rank-1 " in (tmp_path / "report.md").read_text()
    assert audited(identity, x).retrieval is None
    assert "retrieval" not in audited(identity, x).to_dict()


class Tokens(Fused):
    """The head receives two tokens of each sample."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([super().features(x)] * 2, dim=1)


def test_a_head_that_receives_no_vectors_has_none():
    identity = torch.arange(12) // 2 + 50
    x = torch.randn(12, 6)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(24, 7))
    with pytest.warns(CMIEIWarning, match="outside the classes"):
        assert audit(Tokens(flat), [(x, identity)], **WHERE, labels=1).retrieval is None
    with pytest.warns(CMIEIWarning, match="outside the classes"):
        assert audit(Fused(), [(x, identity)], **WHERE, labels=1).retrieval is not None


def test_where_nobody_shares_an_identity_there_is_none():
    with pytest.warns(CMIEIWarning, match="outside the classes"):
        report = audited(torch.arange(12) + 50, torch.randn(12, 6))
    assert report.retrieval is None
    assert report.changed_predictions is not None


def test_negative_labels_are_no_identities():
    torch.manual_seed(0)
    x, classes = torch.randn(12, 6), torch.arange(12) // 2
    ignored = classes.where(torch.arange(12) > 3, -100)
    with pytest.warns(CMIEIWarning, match="outside the classes"):
        assert audited(ignored, x).retrieval is None  # the others are classes
    with pytest.warns(CMIEIWarning, match="they give rank-1 instead"):
        assert audited(ignored + 50 * (ignored >= 0), x).retrieval.n == 8


def test_saved_features_give_the_same(tmp_path):
    torch.manual_seed(0)
    identity, x = torch.arange(24) // 3 + 50, torch.randn(24, 6)
    model, where = Fused(), {**WHERE, "labels": 1}
    with pytest.warns(CMIEIWarning, match="outside the classes"):
        saved = audit(model, [(x, identity)], **where, save_features=tmp_path / "f.pt")
        again = audit(model, [], **where, features=tmp_path / "f.pt")
    assert again.retrieval == saved.retrieval is not None
