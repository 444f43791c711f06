"""Where each modality is, as users write it."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from yacs.config import CfgNode

from cmiei_hooks import CMIEIError
from cmiei_hooks.fusion.modalities import default_names, parse_modalities


def test_default_names():
    assert default_names(3) == ("r", "n", "t")
    assert default_names(2) == ("m0", "m1")


@pytest.mark.parametrize(
    "modalities",
    [
        {"r": 0},
        {},
        [0, 1],
        {"r": 0, "n": 0},
        {"r": [0, 1], "n": [0, 1]},
        {"r": [0, 0], "n": 1},
        {"r": [], "n": 1},
        {"r": -1, "n": 1},
        {"r": True, "n": 0},
        {"r": 0.5, "n": 1},
        {"r": 0.1, "n": 1},
        {"r": None, "n": 1},
        {"r": "", "n": 1},
        {"r": (2, 2), "n": 1},
        {"r": (3, 1), "n": 1},
        {"r": (0, 1, 2), "n": 1},
        {"r": (0, 3), "n": (1, 4), "t": (2, 5)},
        {"r": "(0, 3)", "n": 1},
        {1: 0, "n": 1},
        {"": 0, "n": 1},
    ],
)
def test_modalities_that_say_nothing_are_refused(modalities, golden):
    with pytest.raises(CMIEIError) as error:
        parse_modalities(modalities)
    golden(error.value)


@pytest.mark.parametrize("node", [OmegaConf.create, CfgNode, dict])
def test_modalities_may_come_from_a_configuration(node):
    given = {"r": [0, "depth"], "n": [[0, 512], [1536, 2048]], "t": "thermal.0", "s": 3}
    names, splits = parse_modalities(node(given))
    assert names == ("r", "n", "t", "s")
    assert splits == ((0, "depth"), ((0, 512), (1536, 2048)), ("thermal.0",), (3,))
