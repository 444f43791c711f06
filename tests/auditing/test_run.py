"""One road for Python and the command line: checkpoints, saved features, several processes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import WIDTHS, Fused

import cmiei_hooks
from cmiei_hooks import CMIEIError, audit
from cmiei_hooks.auditing import checkpoint_loading, options, run
from cmiei_hooks.auditing.options import AuditOptions

WHERE = {"head": "classifier", "splits": WIDTHS}


def batches(count: int = 3) -> list:
    generator = torch.Generator().manual_seed(4)
    return [
        (torch.randn(8, 6, generator=generator), torch.randint(7, (8,), generator=generator))
        for _ in range(count)
    ]


@pytest.fixture
def epochs(tmp_path) -> Path:
    """A directory with the weights of three epochs."""
    directory = tmp_path / "epochs"
    directory.mkdir()
    for epoch in (2, 9, 10):
        torch.manual_seed(epoch)
        torch.save(Fused().state_dict(), directory / f"epoch_{epoch}.pth")
    return directory


def test_a_directory_gives_the_trend_of_its_epochs(epochs):
    report = audit(Fused(), batches(), **WHERE, checkpoints=epochs)
    alone = []
    for epoch in (2, 9, 10):
        model = Fused()
        model.load_state_dict(torch.load(epochs / f"epoch_{epoch}.pth", weights_only=True))
        alone.append(audit(model, batches(), **WHERE))
    assert [p["checkpoint"] for p in report.trend] == ["epoch_2.pth", "epoch_9.pth", "epoch_10.pth"]
    for point, one in zip(report.trend, alone, strict=True):
        assert point["influence"] == {name: i.mean for name, i in one.influence.items()}
        assert point["accuracy"] == one.accuracy.mean
    assert report.influence == alone[-1].influence
    assert report.checkpoint.path.endswith("epoch_10.pth")
    turned = [epochs / "epoch_10.pth", epochs / "epoch_2.pth"]
    report = audit(Fused(), batches(), **WHERE, checkpoints=turned)
    assert report.influence == alone[0].influence
    one = audit(Fused(), batches(), **WHERE, checkpoints=epochs / "epoch_9.pth")
    assert (one.influence, one.trend) == (alone[1].influence, ())


def test_model_and_generators_are_as_before_whatever_was_loaded(epochs):
    model = Fused()
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate()
    audit(model, batches(), **WHERE, checkpoints=epochs)
    (epochs / "epoch_11.pth").write_bytes(b"broken")
    with pytest.raises(CMIEIError):
        audit(model, batches(), **WHERE, checkpoints=epochs)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_a_loader_that_shuffles_gives_every_checkpoint_the_same_batches(epochs):
    data = torch.utils.data.TensorDataset(torch.randn(24, 6))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    twice = [epochs / "epoch_2.pth"] * 2
    first, second = audit(Fused(), loader, **WHERE, checkpoints=twice, limit=8).trend
    assert first == second


def counting(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list:
    calls, function = [], getattr(module, name)

    def counted(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_a_checkpoint_is_hashed_once_and_its_samples_are_joined_once(epochs, monkeypatch, tmp_path):
    hashed = counting(monkeypatch, checkpoint_loading, "sha256")
    joined = counting(monkeypatch, run, "together")
    file = epochs / "epoch_2.pth"
    audit(Fused(), batches(), **WHERE, checkpoints=file, save_features=tmp_path / "f.pt")
    assert (len(hashed), len(joined)) == (1, 1)


@pytest.mark.parametrize("loaded", [True, False])
def test_saved_features_give_the_same_report(epochs, tmp_path, loaded):
    where = WHERE | ({"checkpoints": epochs / "epoch_2.pth"} if loaded else {})
    file = tmp_path / "features.pt"
    torch.manual_seed(1)
    model = Fused()
    one = audit(model, batches(), **where, labels=1, save_features=file).to_dict()
    two = audit(model, None, **where, features=file).to_dict()
    del one["environment"], two["environment"]
    assert one == two


def test_features_of_other_weights_or_another_mode_are_refused(tmp_path, golden):
    file, model = tmp_path / "features.pt", Fused()
    audit(model, batches(), **WHERE, save_features=file)
    with pytest.raises(CMIEIError) as error:
        audit(model, None, **WHERE, features=file, amp=True)
    golden(str(error.value).replace(str(tmp_path), "."))
    with torch.no_grad():
        model.encoders[0].bias[0] += 1
    with pytest.raises(CMIEIError):
        audit(model, None, **WHERE, features=file)


def test_what_does_not_go_with_several_checkpoints(epochs, tmp_path, golden):
    with pytest.raises(CMIEIError) as error:
        audit(Fused(), batches(), **WHERE, checkpoints=epochs, save_features=tmp_path / "f.pt")
    golden(error.value)
    with pytest.raises(CMIEIError) as error:
        audit(Fused(), iter(batches()), **WHERE, checkpoints=epochs)
    golden(error.value)
    one = audit(Fused(), iter(batches()), **WHERE, checkpoints=epochs / "epoch_2.pth")
    assert one.n_samples == 24  # an iterator is enough for one


def test_a_limit_ends_after_the_batch_that_reaches_it():
    def endless() -> Iterator[torch.Tensor]:
        while True:
            yield torch.randn(5, 6)

    report = audit(Fused(), endless(), **WHERE, limit=12)
    assert (report.n_samples, report.partial) == (15, False)


def test_autocast():
    model = Fused()
    half = audit(model, batches(), **WHERE, amp=True)
    full = audit(model, batches(), **WHERE)
    assert half.influence != full.influence
    assert half.influence["r"].mean == pytest.approx(full.influence["r"].mean, rel=0.1)
    assert (half.environment["amp"], full.environment["amp"]) == (True, False)


def test_the_report_of_python_says_what_is_needed_to_repeat_it():
    report = audit(Fused(), batches(), **WHERE, abs_thr=float("inf"), seed=7)
    environment = report.to_dict()["environment"]
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["config"]["ABS_THR"] == "inf"
    assert (environment["seed"], environment["processes"]) == (7, 1)
    assert (environment["mode"], environment["device"]) == ("eval mode", "cpu")
    assert "command" not in environment
    assert {"git", "amp", "inputs", "labels"} <= set(environment)

    def forward(model, batch):
        return model(batch[0])

    environment = audit(
        Fused(), batches(), **WHERE, forward=forward, in_training_branch=True
    ).environment
    assert environment["mode"] == "training branch"
    assert environment["forward"].endswith("forward")


def test_nothing_is_shared_out_unless_it_is_asked_for(monkeypatch):
    for name, value in (("active", True), ("rank", 1), ("world_size", 4)):
        monkeypatch.setattr(options, name, lambda value=value: value)
    assert AuditOptions().shard == (0, 1)
    assert AuditOptions(distributed=True).shard == (1, 4)


def test_random_numbers_in_the_model_are_a_note_and_a_warning(golden):
    class Noisy(Fused):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x))

    with pytest.warns(cmiei_hooks.CMIEIWarning) as caught:
        report = audit(Noisy(), batches(), **WHERE)
    assert [warning.filename for warning in caught] == [__file__]
    golden("\n".join(report.notes))


def test_labels_of_some_batches_only_are_a_note_and_a_warning(golden):
    data = [*batches(2), batches()[2][0]]
    with pytest.warns(cmiei_hooks.CMIEIWarning):
        report = audit(Fused(), data, **WHERE)
    golden("\n".join(report.notes))
    assert report.accuracy is None
