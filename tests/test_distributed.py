"""Ranks as one process sees them; two of them are in guarantees/test_ranks.py."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from helpers import WIDTHS, Fused

import cmiei_hooks
from cmiei_hooks import distributed

LAUNCHED = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "LOCAL_WORLD_SIZE", "SLURM_PROCID")


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"RANK": "5", "LOCAL_RANK": "1", "GROUP_RANK": "2", "LOCAL_WORLD_SIZE": "2"}, 5),
        ({"RANK": "0", "LOCAL_RANK": "1", "SLURM_PROCID": "3"}, 0),
        ({"LOCAL_RANK": "1", "GROUP_RANK": "2", "LOCAL_WORLD_SIZE": "4"}, 9),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, 4),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, 1),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, 0),
        ({"LOCAL_RANK": "0", "SLURM_PROCID": "8"}, 8),
        ({"LOCAL_RANK": "3", "SLURM_PROCID": "0"}, 3),
        ({"LOCAL_RANK": "3"}, 3),
        ({"SLURM_PROCID": "3"}, 3),
        ({"RANK": "", "LOCAL_RANK": "none", "SLURM_PROCID": "2"}, 2),
    ],
    ids=str,
)
def test_the_rank_before_there_is_a_process_group(monkeypatch, variables, rank):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert distributed.rank() == rank


def test_attached_is_said_once_when_a_script_starts_itself_again(monkeypatch, capsys):
    """As Lightning does: the first process has no variables, its children have LOCAL_RANK."""
    for variables in ({}, {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}):
        for name in LAUNCHED:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        cmiei_hooks.attach(Fused(), head="classifier", splits=WIDTHS)
        assert capsys.readouterr().out.count("C-MIEI attached") == (0 if variables else 1)


def test_alone_everything_works_without_a_process_group(x):
    assert not distributed.active()
    assert distributed.world_size() == 1
    assert distributed.sum_over_ranks(x) is x
    assert distributed.sum_over_ranks_with_grad(x) is x
    assert distributed.gather_objects("mine") == ["mine"]
    distributed.wait_for_all()
    with distributed.joined():
        assert not dist.is_initialized()


@pytest.mark.parametrize(("backend", "device"), [("nccl", "cuda:1"), ("gloo", "cpu")])
def test_sums_on_the_cpu_are_added_up_where_the_backend_can(monkeypatch, x, backend, device):
    """NCCL adds up nothing on the CPU, and before an estimate the sums of the metrics are there."""
    monkeypatch.setattr(dist, "get_backend", lambda: backend)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    assert distributed._reducible_device(x) == torch.device(device)
    assert distributed._reducible_device(x.to("meta")) == torch.device("meta")


def test_joined_makes_a_process_group_and_ends_it(monkeypatch):
    made = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", made.append)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: made.append("destroyed"))
    with distributed.joined():
        assert made == ["gloo"]
    assert made == ["gloo", "destroyed"]
