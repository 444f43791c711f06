"""The names of peers: their numbers, and what is said about others."""

from __future__ import annotations

import pytest

from cmiei_hooks.errors import ValidationError
from cmiei_hooks.validation.peer_names import PEERS, PeerName, read_peer


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("dropout 45 % until 80 %", PeerName("dropout", 0.45, 0.8)),
        ("dropout 1 %", PeerName("dropout", 0.01)),
        ("random 100 %", PeerName("random", 1.0)),
        ("random one until 1 %", PeerName("random one", 0.0, 0.01)),
        ("OGM-GE 1.50 until 100 %", PeerName("OGM-GE", 1.5, 1.0)),
    ],
)
def test_what_a_name_says(name, read):
    assert read_peer(name) == read


def test_the_peers_that_run_without_being_named_are_peers():
    assert all(map(read_peer, PEERS))


@pytest.mark.parametrize(
    "name", ["dropout", "random", "random gated", "stopped random", "method", "SIGMA 0.1", ""]
)
@pytest.mark.negative_control
def test_other_arms_are_not_peers(name):
    assert read_peer(name) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("dropout 130 %", "dropout 100 %"),
        ("dropout 0 %", "dropout 1 %"),
        ("dropout -5 %", "dropout 1 %"),
        ("dropout 12.5 %", "dropout 12 %"),
        ("random 0.3", "random 30 %"),
        ("dropout 30 % until 0 %", "dropout 30 % until 1 %"),
        ("random one until 160 %", "random one until 100 %"),
        ("random 500 % until 0.6", "random 100 % until 60 %"),
        ("OGM-GE 0", "OGM-GE 0.5"),
        ("OGM-GE -1 until 50 %", "OGM-GE 0.5 until 50 %"),
        ("dropout 45%", "dropout 45 %"),
        ("Dropout 45 % until 80%", "dropout 45 % until 80 %"),
        ("OGMGE 0.8", "OGM-GE 0.8"),
    ],
)
def test_the_problem_is_named_and_the_remedy_is_right(name, meant, golden):
    with pytest.raises(ValidationError) as refusal:
        read_peer(name)
    assert refusal.value.remedy == f"write {meant!r}"
    assert read_peer(meant) is not None
    golden(refusal.value)
