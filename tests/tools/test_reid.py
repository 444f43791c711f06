"""The re-identification task: its generator does what its knobs say, its training is the usual."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

import cmiei_hooks
from cmiei_hooks import CMIEIError
from cmiei_hooks.errors import ConfigError
from tools.experiments import reid
from tools.experiments.reid import FEATURES, TriModalModel, evaluate, train, triplet_loss
from tools.experiments.reid_world import Sensor, World, identity_batches, make_images
from tools.experiments.retrieval import retrieval

CLEAR = Sensor(strength=1, noise=0)
SMALL = World(train_identities=32, test_identities=24)
silent = partial(cmiei_hooks.attach, log=False)
nothing = partial(cmiei_hooks.attach, log=False, enabled=False)


def images(world=SMALL, seed=0):
    return make_images(world, torch.Generator().manual_seed(seed))


def with_sensor(**knobs):
    """A small world whose first sensor alone has these knobs, without effects of the cameras."""
    return replace(SMALL, sensors=(replace(CLEAR, **knobs), CLEAR, CLEAR), camera=0)


def queries_of(side):
    """The first image of each identity by each camera, found by a loop."""
    seen, first = set(), []
    for place in zip(side.ids.tolist(), side.cameras.tolist(), strict=True):
        first.append(place not in seen)
        seen.add(place)
    return torch.tensor(first)


def raw_map(side, modality=0, view=None):
    """Of the pixels themselves, without any model."""
    view = side.views[modality] if view is None else view
    q, ids, cameras = queries_of(side), side.ids, side.cameras
    return retrieval(view[q], view[~q], ids[q], ids[~q], cameras[q], cameras[~q])["mAP"]


def chance(side):
    return raw_map(side, view=torch.randn(len(side.ids), 64))


def test_shapes_and_who_is_where():
    train_side, test_side = images()
    for side, people in ((train_side, 32), (test_side, 24)):
        n = people * SMALL.cameras * SMALL.shots
        assert [tuple(view.shape) for view in side.views] == [(n, 64)] * 3
        pairs = torch.stack([side.ids, side.cameras], 1).unique(dim=0, return_counts=True)
        assert len(pairs[0]) == people * SMALL.cameras
        assert set(pairs[1].tolist()) == {SMALL.shots}


def test_identities_of_the_test_are_new_people():
    train_side, test_side = images(with_sensor())
    assert not set(train_side.ids.tolist()) & set(test_side.ids.tolist())
    # Without pose, noise and cameras an image shows the identity and nothing else.
    for a, b in zip(train_side.views, test_side.views, strict=True):
        assert len(a.unique(dim=0)) == 32
        assert len(b.unique(dim=0)) == 24
        assert len(torch.cat([a, b]).unique(dim=0)) == 32 + 24


def test_everything_comes_from_the_seed():
    for a, b in zip(images(), images(), strict=True):
        assert all(map(torch.equal, a.views, b.views))
    assert not torch.allclose(images()[0].views[0], images(seed=1)[0].views[0])


@pytest.mark.parametrize(
    "blind", [{"strength": 0}, {"failure": 1}], ids=["no strength", "it always fails"]
)
def test_a_blind_sensor_tells_nothing(blind):
    _, side = images(with_sensor(**blind))
    assert raw_map(side) == pytest.approx(chance(side), abs=0.02)
    assert raw_map(side, modality=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("knob", "values"),
    [("strength", (0.2, 0.5, 0.8)), ("noise", (3, 1.5, 0.5)), ("failure", (0.6, 0.3, 0.1))],
)
def test_each_knob_moves_what_the_sensor_tells(knob, values):
    scores = [raw_map(images(with_sensor(**{knob: value}))[1]) for value in values]
    assert scores[0] + 0.05 < scores[1] < scores[2] - 0.05


def test_strength_is_the_share_of_identity_in_the_variance():
    # Variance between the identities over all of it; the nonlinear map bends it a little.
    side, _ = images(replace(with_sensor(strength=0.3), train_identities=400, shots=8))
    groups = side.views[0].reshape(400, -1, 64)
    within = groups.var(1).mean()
    total = side.views[0].var(0).mean()
    assert 1 - within / total == pytest.approx(0.3, abs=0.08)


def test_failure_is_the_share_of_images_that_lost_their_identity():
    side, _ = images(with_sensor(failure=0.25))
    view = side.views[0].reshape(32, -1, 64)
    median = view.median(1, keepdim=True).values
    lost = (view - median).abs().amax(-1) > 1e-6
    assert lost.float().mean() == pytest.approx(0.25, abs=0.06)
    spread = view[~lost].std().item()
    assert view[lost].std().item() == pytest.approx(spread, rel=0.1)


def test_the_camera_is_seen_in_the_image_and_hides_the_person():
    def nearest_has_its_camera(side):
        distance = torch.cdist(side.views[0], side.views[0])
        # another person: images of the same one are near in any case
        distance[side.ids[:, None] == side.ids] = math.inf
        nearest = distance.argmin(1)
        return (side.cameras[nearest] == side.cameras).float().mean()

    _, without = images(with_sensor())
    _, strong = images(replace(with_sensor(), camera=1))
    assert nearest_has_its_camera(without) == pytest.approx(1 / SMALL.cameras, abs=0.1)
    assert nearest_has_its_camera(strong) > 0.9
    assert raw_map(strong) < raw_map(without) - 0.2


@pytest.mark.parametrize(
    "knob", [{"strength": 1.1}, {"failure": -0.1}, {"noise": -1}, {"noise": math.nan}]
)
def test_impossible_sensors_are_refused(knob, golden):
    with pytest.raises(CMIEIError) as refusal:
        Sensor(**knob)
    golden(refusal.value)


def test_batches_are_p_identities_with_k_images():
    # Identities with 9, 8, ... 5 images in no order; 4 at a time: a second one from the first two.
    ids = torch.tensor([7] * 9 + [3] * 8 + [5] * 7 + [2] * 6 + [9] * 5)
    ids = ids[torch.randperm(len(ids))]
    batches = list(identity_batches(ids, 2, 4, torch.Generator().manual_seed(0)))
    assert len(batches) == 2 + 1
    for batch in batches:
        people = ids[batch].reshape(2, 4)
        assert (people == people[:, :1]).all()
        assert people[0, 0] != people[1, 0]
    used = torch.cat(batches)
    assert len(used.unique()) == len(used) == 24


def test_an_epoch_of_the_task_uses_every_image_once_in_another_company():
    ids, generator = images()[0].ids, torch.Generator().manual_seed(0)
    epochs = [torch.cat(list(identity_batches(ids, 16, 4, generator))) for _ in range(2)]
    assert all(torch.equal(epoch.sort().values, torch.arange(len(ids))) for epoch in epochs)
    companies = [{frozenset(four) for four in epoch.view(-1, 4).tolist()} for epoch in epochs]
    assert len(companies[0] & companies[1]) < len(companies[0]) / 10


def test_the_triplet_loss_takes_the_hardest_of_each_kind():
    feature, ids = torch.randn(24, 5, dtype=torch.float64), torch.arange(6).repeat(4)
    rows, losses = feature.tolist(), []
    for i, anchor in enumerate(rows):
        near = min(math.dist(anchor, rows[j]) for j in range(24) if ids[j] != ids[i])
        far = max(math.dist(anchor, rows[j]) for j in range(24) if ids[j] == ids[i])
        losses.append(math.log1p(math.exp(far - near)))
    assert triplet_loss(feature, ids).item() == pytest.approx(sum(losses) / 24, abs=1e-12)


def test_the_triplet_loss_has_finite_gradients_where_images_are_equal():
    feature = torch.zeros(4, 3, requires_grad=True)
    triplet_loss(feature, torch.tensor([0, 0, 1, 1])).backward()
    assert feature.grad is not None
    assert feature.grad.isfinite().all()


def test_the_metrics_are_those_of_the_embedding_without_the_blocks():
    _, side = images()
    model = TriModalModel(32)
    for _ in range(50):  # statistics of the bottleneck that move the mean away from 0
        model(*side.views)
    metrics = evaluate(model, side)
    assert not model.training
    with torch.no_grad():
        embedding = model(*side.views)
    blocks = {"r": slice(0, FEATURES), "n": slice(FEATURES, -FEATURES), "t": slice(-FEATURES, None)}
    without = {}
    for name, block in blocks.items():
        left = embedding.clone()
        left[:, block] = 0
        without[name] = raw_map(side, view=left)
        assert metrics[f"mAP without {name}"] == pytest.approx(without[name], abs=1e-9)
        alone = raw_map(side, view=embedding[:, block])
        assert metrics[f"mAP alone {name}"] == pytest.approx(alone, abs=1e-9)
    assert metrics["mAP"] == pytest.approx(raw_map(side, view=embedding), abs=1e-9)
    assert metrics["worst mAP missing"] == min(metrics[f"mAP without {name}"] for name in "rnt")
    assert list(metrics)[:4] == ["mAP", "Rank-1", "Rank-5", "Rank-10"]
    assert len(metrics) == 4 + 4 * 3 + 1 + 4 * 3


def test_training_learns_and_a_blind_modality_stays_blind():
    world = replace(SMALL, sensors=(Sensor(strength=0), *SMALL.sensors[1:]))
    before, after = (train(nothing, 0, epochs=epochs, world=world) for epochs in (0, 8))
    guess = chance(images(world)[1])
    assert after["mAP"] > before["mAP"] + 0.1 > guess + 0.1
    assert after["mAP without r"] > guess + 0.2
    assert after["mAP alone r"] == pytest.approx(guess, abs=0.03)


def test_a_world_can_be_written_in_yaml():
    given = {"sensors": {"n": {"strength": 0.9, "failure": 0.1}}, "cameras": 3}
    world = World.of(given)
    assert (world.sensors[1].strength, world.sensors[1].failure, world.cameras) == (0.9, 0.1, 3)
    assert world.sensors[1].noise == World().sensors[1].noise
    assert world.sensors[::2] == World().sensors[::2]
    assert World.of({}) == World()


@pytest.mark.parametrize(
    "given",
    [
        {"sensor": {}},
        {"sensors": {"x": {}}},
        {"sensors": {"r": {"strenght": 0.5}}},
        {"sensors": {"r": {"strength": 2}}},
    ],
)
def test_a_world_that_cannot_be_is_refused(given, golden):
    with pytest.raises(ConfigError) as refusal:
        World.of(given)
    golden(f"{refusal.value.problem}\n{refusal.value.remedy}")  # got has Python's own words


def test_runs_of_one_seed_are_paired():
    plain = train(nothing, 3, epochs=2, world=SMALL)
    assert train(nothing, 3, epochs=2, world=SMALL) == plain
    assert train(silent, 3, epochs=2, world=SMALL) == plain  # all of it is warm-up
    acting = partial(silent, warmup_epochs=0, k=1, abs_thr=0, rel_thr=1)
    assert train(acting, 3, epochs=2, world=SMALL) != plain
    assert train(nothing, 4, epochs=2, world=SMALL) != plain


def test_training_sees_one_side_and_the_test_the_other(monkeypatch):
    trained, tested = [], []

    def no_triplet_loss(feature, ids):
        trained.append(ids)
        return 0 * feature.sum()

    def spy(model, side):
        tested.append(side)
        return evaluate(model, side)

    plain = train(nothing, 0, epochs=1, world=SMALL)
    monkeypatch.setattr(reid, "triplet_loss", no_triplet_loss)
    monkeypatch.setattr(reid, "evaluate", spy)
    assert train(nothing, 0, epochs=1, world=SMALL) != plain  # the loss is part of the training
    train_side, test_side = images()
    assert torch.equal(torch.cat(trained).sort().values, train_side.ids)
    assert torch.equal(tested[0].ids, test_side.ids)
    assert all(map(torch.equal, tested[0].views, test_side.views))


def test_attach_is_told_the_head_and_every_epoch_and_leaves_nothing():
    called = []

    def attach(model, **arguments):
        handle = silent(model, **arguments)
        set_epoch, remove = handle.set_epoch, handle.remove
        handle.set_epoch = lambda epoch: called.append(epoch) or set_epoch(epoch)
        handle.remove = lambda: called.append("removed") or remove()
        called.append((model, arguments))
        return handle

    train(attach, 0, epochs=3, world=SMALL)
    (model, arguments), *rest = called
    assert arguments == {"head": "classifier", "splits": [64] * 3, "names": ("r", "n", "t")}
    assert rest == [0, 1, 2, "removed"]
    assert not model.classifier._forward_pre_hooks
