"""Two ranks with gloo: what they share, and what they do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import WIDTHS, Fused
from rank import BATCH_LEVEL, batch, run

from cmiei_hooks.functional import select_softly, soft_probabilities
from cmiei_hooks.training import noise_generator

HERE = Path(__file__).parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(once, python) -> Path:
    def start_ranks(folder: Path) -> None:
        path = {"PYTHONPATH": f"{HERE.parents[1]}:{HERE.parent}"}
        ranks = python.run_ranks([HERE / "rank.py", folder], env=path)
        assert all(rank.returncode == 0 for rank in ranks), [rank.stderr for rank in ranks]
        (folder / "stdout").write_text("".join(rank.stdout for rank in ranks))

    return once("two ranks", start_ranks)


@pytest.fixture(scope="module")
def ranks(folder) -> list[dict[str, dict]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def together() -> dict[str, dict]:
    """One process with the batches of both ranks."""
    torch.manual_seed(0)
    model, x = Fused(), torch.cat([batch(0), batch(1)])
    return {
        "sync": run(model, x, **BATCH_LEVEL),
        "sync samples": run(model, x, sigma=0.0, p_max=1.0),
        "sync relative": run(model, x, relative=True, sigma=0.0, p_max=1.0),
    }


def test_ranks_draw_different_noise(ranks):
    one, two = (rank["same batch"] for rank in ranks)
    assert torch.equal(one["features"], two["features"])
    assert torch.equal(one["substituted"], two["substituted"])
    assert (one["input"] != one["features"]).any()
    assert not torch.equal(one["input"], two["input"])


def test_only_rank_0_writes_lines(ranks, folder):
    assert [rank["own"]["lines"] for rank in ranks] == [2, 0]
    assert (folder / "stdout").read_text().count("C-MIEI attached") == 1


def test_ranks_with_unequal_numbers_of_batches_do_not_hang(ranks):
    assert [rank["unequal"]["steps"] for rank in ranks] == [3, 7]
    assert [rank["unequal"]["ratio"] for rank in ranks] == [0.5, 0.5]


def test_nothing_collective_happens_inside_the_hook(ranks):
    for rank in ranks:
        assert rank["unequal"]["collectives in training"]  # those of DistributedDataParallel
        assert not any(rank["unequal"]["collectives in training"])
        assert rank["unequal"]["collectives in metrics"] == [True]  # the watch would have seen it


def test_without_sync_a_prototype_is_the_mean_of_the_ranks_own_batch(ranks):
    for rank in ranks:
        own = rank["own"]
        columns = (own["input"] != own["features"]).all(0)
        assert columns.any()
        mean = own["features"].mean(0).expand_as(own["features"])
        torch.testing.assert_close(own["input"][:, columns], mean[:, columns])


@pytest.mark.parametrize("case", ["sync", "sync samples", "sync relative"])
def test_with_sync_the_ranks_do_what_one_process_with_all_batches_does(ranks, together, case):
    parts = [rank[case] for rank in ranks]
    whole = together[case]
    assert torch.equal(torch.cat([p["substituted"] for p in parts]), whole["substituted"])
    assert (whole["substituted"] >= 0).any()
    torch.testing.assert_close(torch.cat([p["input"] for p in parts]), whole["input"])
    for one, two, both in zip(
        parts[0]["gradients"], parts[1]["gradients"], whole["gradients"], strict=True
    ):
        torch.testing.assert_close(one + two, both, rtol=1e-4, atol=1e-5)


def test_with_sync_a_soft_selection_has_the_means_and_the_spread_of_all_ranks(ranks):
    """The ranks draw different numbers; everything else is that of one process."""
    features = torch.cat([rank["sync soft"]["features"] for rank in ranks])
    influence = torch.cat([rank["sync soft"]["influence"] for rank in ranks])
    mean, spread = features.mean(0), features.std(0, correction=0)
    for number, rank in enumerate(ranks):
        found = rank["sync soft"]
        device, (samples, modalities) = torch.device("cpu"), found["influence"].shape
        words = 3, number, "classifier", 0
        draws = torch.empty(samples, 2 * modalities + 1)
        draws.uniform_(generator=noise_generator(device, *words, "selection"))
        probabilities = soft_probabilities(
            found["influence"],
            tau_samples=0.5,
            tau_modalities=-1.0,
            rate=0.5,
            mean=influence.mean(0),
        )
        assert torch.equal(found["substituted"], select_softly(probabilities, draws))
        columns = found["substituted"].repeat_interleave(torch.tensor(WIDTHS), 1)
        numbers = torch.empty(samples, sum(WIDTHS)).normal_(
            generator=noise_generator(device, *words)
        )
        expected = torch.where(columns, mean + spread * numbers, found["features"])
        torch.testing.assert_close(found["input"], expected)


@pytest.mark.negative_control
def test_the_joint_decision_is_not_that_of_one_rank(ranks):
    joint = ranks[0]["sync"]["substituted"][0]
    assert any(rank["own"]["substituted"][0] != joint for rank in ranks)


def test_with_sync_a_rank_whose_cap_is_zero_does_not_let_the_others_wait(ranks):
    one, eight = (rank["sync, one sample"]["substituted"] for rank in ranks)
    assert one.tolist() == [-1]
    assert (eight >= 0).sum() == 4


@pytest.mark.negative_control
def test_without_sync_the_ranks_do_something_else(ranks, together):
    inputs = torch.cat([rank["own"]["input"] for rank in ranks])
    assert not torch.allclose(inputs, together["sync"]["input"])


def test_reduced_metrics_are_those_of_all_samples(ranks):
    one, two = (rank["own"] for rank in ranks)
    assert one["reduced"] == two["reduced"]
    assert one["metrics"] != two["metrics"]
    for key, value in one["reduced"].items():
        weighted = (8 * one["metrics"][key] + 12 * two["metrics"][key]) / 20
        assert value == pytest.approx(weighted, rel=1e-6)


@pytest.mark.parametrize("case", ["branches", "the whole model"])
def test_a_model_in_ddp_without_a_head_of_its_own(ranks, case):
    one, two = (rank[case] for rank in ranks)
    assert (one["steps"], two["steps"]) == (2, 2)
    assert (one["substituted"] >= 0).sum() == (two["substituted"] >= 0).sum() == 4
    assert all(map(torch.equal, one["parameters"], two["parameters"]))
