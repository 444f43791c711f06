"""The metrics of re-identification against plain loops, hand-made cases and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import average_precision_score

from cmiei_hooks import CMIEIError
from tools.experiments.retrieval import retrieval

NAMES = ["mAP", "Rank-1", "Rank-5", "Rank-10"]


def problem(seed, queries=40, gallery=90, people=12, cameras=3, width=6):
    """Embeddings that tell something, lengths that tell nothing."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(people, width, generator=generator)

    def side(n):
        ids = torch.randint(people, (n,), generator=generator)
        length = 0.1 + 5 * torch.rand(n, 1, generator=generator)
        points = centre[ids] + 0.8 * torch.randn(n, width, generator=generator)
        return points * length, ids, torch.randint(cameras, (n,), generator=generator)

    (q, q_ids, q_cameras), (g, g_ids, g_cameras) = side(queries), side(gallery)
    return q, g, q_ids, g_ids, q_cameras, g_cameras


def unit(row):
    length = math.sqrt(sum(v * v for v in row))
    return [v / length for v in row]


def by_loops(query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras):
    """One query after the other, in float64, with the distances written out."""
    query, gallery = ([unit(row) for row in side.double().tolist()] for side in (query, gallery))
    precisions, first = [], []
    for q, who, where in zip(query, query_ids.tolist(), query_cameras.tolist(), strict=True):
        ranked = []
        for j, g in enumerate(gallery):
            if (int(gallery_ids[j]), int(gallery_cameras[j])) != (who, where):
                ranked.append((math.dist(q, g), j, int(gallery_ids[j]) == who))
        ranks = [rank for rank, (*_, right) in enumerate(sorted(ranked), 1) if right]
        if ranks:
            found = [count / rank for count, rank in enumerate(ranks, 1)]
            precisions.append(sum(found) / len(found))
            first.append(ranks[0])
    shares = [sum(rank <= k for rank in first) / len(first) for k in (1, 5, 10)]
    return dict(zip(NAMES, [sum(precisions) / len(precisions), *shares], strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_equals_a_loop_over_queries_and_gallery(seed):
    inputs = problem(seed)
    metrics = retrieval(*inputs)
    assert list(metrics) == NAMES
    assert metrics == pytest.approx(by_loops(*inputs), abs=1e-9)
    assert 0.2 < metrics["mAP"] < metrics["Rank-5"] < 1  # the cases are not trivial


@pytest.mark.parametrize("seed", range(3))
def test_map_is_the_average_precision_of_scikit_learn(seed):
    # Its average precision treats ties as one threshold; with random embeddings there are none.
    q, g, q_ids, g_ids, q_cameras, g_cameras = problem(seed)
    expected = []
    for i in range(len(q)):
        left = ~((g_ids == q_ids[i]) & (g_cameras == q_cameras[i]))
        right = (g_ids == q_ids[i])[left]
        if right.any():
            score = torch.nn.functional.cosine_similarity(q[i : i + 1], g[left])
            assert len(score.unique()) == len(score)
            expected.append(average_precision_score(right.numpy(), score.numpy()))
    metrics = retrieval(q, g, q_ids, g_ids, q_cameras, g_cameras)
    assert metrics["mAP"] == pytest.approx(sum(expected) / len(expected), abs=1e-9)


def directions(*degrees):
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_a_case_worked_out_by_hand():
    # Camera 0 has two queries: identity 1 at 0 degrees, identity 2 at 90 degrees. The gallery by
    # angle is 5 (identity 1, camera 0), 20 (2), 30 (1), 40 (3), 60 (1).
    # First query: the entry at 5 degrees is out; matches at ranks 2 and 4, AP (1/2 + 2/4) / 2.
    # Second query, from the other end: the match is at rank 4, AP 1/4.
    query, query_ids = directions(0, 90), torch.tensor([1, 2])
    gallery = directions(60, 5, 20, 40, 30)
    gallery_ids = torch.tensor([1, 1, 2, 3, 1])
    gallery_cameras = torch.tensor([1, 0, 1, 1, 2])
    metrics = retrieval(
        query, gallery, query_ids, gallery_ids, torch.tensor([0, 0]), gallery_cameras
    )
    assert metrics == pytest.approx(
        {"mAP": (1 / 2 + 1 / 4) / 2, "Rank-1": 0.0, "Rank-5": 1.0, "Rank-10": 1.0}
    )


@pytest.mark.negative_control
def test_an_entry_of_the_same_camera_is_an_easy_match_that_does_not_count():
    query, gallery = directions(0), directions(0, 10, 20)
    ids, cameras = torch.tensor([7, 8, 7]), torch.tensor([0, 1, 1])
    honest = retrieval(query, gallery, torch.tensor([7]), ids, torch.tensor([0]), cameras)
    assert (honest["mAP"], honest["Rank-1"]) == (0.5, 0.0)
    elsewhere = retrieval(query, gallery, torch.tensor([7]), ids, torch.tensor([9]), cameras)
    assert (elsewhere["mAP"], elsewhere["Rank-1"]) == (pytest.approx((1 + 2 / 3) / 2), 1.0)


def test_other_identities_of_the_same_camera_stay():
    query, gallery = directions(0), directions(1, 10)
    ids, cameras = torch.tensor([8, 7]), torch.tensor([0, 1])
    metrics = retrieval(query, gallery, torch.tensor([7]), ids, torch.tensor([0]), cameras)
    assert (metrics["mAP"], metrics["Rank-1"]) == (0.5, 0.0)


def test_the_length_of_an_embedding_does_not_matter():
    inputs = problem(0)
    longer = [side * torch.linspace(0.01, 100, len(side))[:, None] for side in inputs[:2]]
    assert retrieval(*longer, *inputs[2:]) == pytest.approx(retrieval(*inputs))


def test_equal_distances_keep_the_order_of_the_gallery():
    gallery, ids, cameras = torch.zeros(30, 2), torch.arange(30), torch.zeros(30).long()
    metrics = retrieval(directions(0), gallery, torch.tensor([4]), ids, torch.tensor([1]), cameras)
    assert metrics == {"mAP": pytest.approx(0.2), "Rank-1": 0.0, "Rank-5": 1.0, "Rank-10": 1.0}


def test_queries_without_a_match_do_not_count():
    q, g, q_ids, g_ids, q_cameras, g_cameras = problem(0)
    strangers, anywhere = torch.full((5,), 99), torch.zeros(5, dtype=torch.int64)
    more = retrieval(
        torch.cat([torch.randn(5, 6), q]),
        g,
        torch.cat([strangers, q_ids]),
        g_ids,
        torch.cat([anywhere, q_cameras]),
        g_cameras,
    )
    assert more == retrieval(q, g, q_ids, g_ids, q_cameras, g_cameras)


def test_no_match_at_all_is_refused(golden):
    one = torch.ones(1, 2), torch.ones(1, 2)
    ids, camera = torch.tensor([7]), torch.tensor([0])
    with pytest.raises(CMIEIError) as refusal:
        retrieval(*one, ids, ids, camera, camera)
    golden(refusal.value)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_are_refused(side, value, golden):
    inputs = list(problem(0))
    inputs[side][3, 1] = value
    with pytest.raises(CMIEIError) as refusal:
        retrieval(*inputs)
    golden(refusal.value)


@pytest.mark.parametrize("place", range(6))
def test_contradicting_shapes_are_refused(place, golden):
    inputs = list(problem(0))
    inputs[place] = inputs[place][:-1]
    with pytest.raises(CMIEIError) as refusal:
        retrieval(*inputs)
    golden(refusal.value)
