"""The section in the configuration of a code base that uses yacs."""

from __future__ import annotations

from pathlib import Path

import pytest
from yacs.config import CfgNode

from cmiei_hooks import Config, add_cmiei_config
from cmiei_hooks.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_real_yacs_merges_files_and_lists_after_registration():
    cfg = CfgNode({"MODEL": {"NAME": "DeMo"}, "SOLVER": {"LR": 0.1}})
    assert add_cmiei_config(cfg) is cfg
    assert Config.load(cfg) == Config()
    cfg.merge_from_file(str(CONFIGS / "RGBNT201" / "DeMo_C_MIEI.yml"))
    cfg.merge_from_list(["MODEL.C_MIEI.SIGMA", "1e-1", "MODEL.C_MIEI.END_EPOCH", "40"])
    cfg.freeze()
    config = Config.load(cfg)
    assert config.enabled
    assert (config.sigma, config.end_epoch, config.first_epoch) == (0.1, 40, 1)
    assert config.splits == (512, 512, 512)
    assert cfg.MODEL.NAME == "DeMo"


def test_without_registration_yacs_refuses_the_file():
    cfg = CfgNode({"MODEL": {"NAME": "DeMo"}})
    with pytest.raises(KeyError, match="C_MIEI"):
        cfg.merge_from_file(str(CONFIGS / "RGBNT201" / "DeMo_C_MIEI.yml"))


def test_registration_makes_the_section_from_nothing_and_keeps_what_is_there():
    assert Config.load(add_cmiei_config(CfgNode())) == Config()
    cfg = CfgNode({"MODEL": {"C_MIEI": {"K": 7}}})
    assert Config.load(add_cmiei_config(cfg)) == Config(k=7)


def test_registration_refuses_what_is_not_an_open_yacs_node(golden):
    frozen = CfgNode({"MODEL": {}})
    frozen.freeze()
    inner = CfgNode({"MODEL": CfgNode()})
    inner.MODEL.freeze()
    for cfg in (frozen, inner, {"MODEL": {}}):
        with pytest.raises(ConfigError) as error:
            add_cmiei_config(cfg)
        golden(error.value)
