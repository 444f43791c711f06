"""A preset decides about the settings that are not given, wherever they could have been given."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import pickle

import pytest
import yaml
from helpers import WIDTHS, Fused
from omegaconf import OmegaConf
from yacs.config import CfgNode

import cmiei_hooks
from cmiei_hooks import Config, add_cmiei_config
from cmiei_hooks.cli.settings import overrides
from cmiei_hooks.errors import ConfigError
from cmiei_hooks.settings import PRESETS

SOFT = PRESETS["selfpaced"]


def those_of(config: Config) -> dict[str, object]:
    return {key: getattr(config, key) for key in SOFT}


def test_the_default_is_the_method_as_published():
    assert Config() == Config(preset="published")
    assert PRESETS["published"] == {}


def from_yaml(tmp_path, **settings):
    path = tmp_path / "c.yml"
    path.write_text(yaml.safe_dump({"MODEL": {"C_MIEI": settings}}), encoding="utf-8")
    return path


def from_yacs(tmp_path, **settings):
    """Its node holds every setting, whether the file has it or not."""
    node = add_cmiei_config(CfgNode())
    node.merge_from_file(from_yaml(tmp_path, **settings))
    return node


def from_arguments(tmp_path, **settings):
    """A parser has defaults for all of its options."""
    parser = argparse.ArgumentParser()
    for name in ("preset", "sigma", "k"):
        parser.add_argument(f"--{name}", default=getattr(Config(), name))
    return argparse.Namespace(
        **vars(parser.parse_args([])) | {key.lower(): value for key, value in settings.items()}
    )


SOURCES = {
    "mapping": lambda _, **settings: settings,
    "OmegaConf": lambda _, **settings: OmegaConf.create({"MODEL": {"C_MIEI": settings}}),
    "YAML": from_yaml,
    "yacs": from_yacs,
    "namespace": from_arguments,
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_single_settings_win_over_the_preset(source, tmp_path):
    config = Config.load(source(tmp_path, PRESET="selfpaced"))
    assert those_of(config) == SOFT
    config = Config.load(source(tmp_path, PRESET="selfpaced", SIGMA=0.3))
    assert those_of(config) == {**SOFT, "sigma": 0.3}
    assert config.to_dict()["PRESET"] == "selfpaced"
    assert config.to_dict()["SIGMA"] == 0.3


def test_single_settings_win_when_they_are_the_published_ones_too():
    assert Config(preset="selfpaced", k=3).k == 3
    assert Config.load({"PRESET": "selfpaced", "K": 3}).k == 3
    assert Config.load({"K": 3}).override(preset="selfpaced").k == 3
    assert Config(preset="selfpaced").override(k=3).k == 3
    assert Config(preset="selfpaced", k=3).override(sigma=0.2).k == 3


def test_attach_takes_a_preset_and_the_command_line_does():
    handle = cmiei_hooks.attach(
        Fused(), "classifier", WIDTHS, preset="selfpaced", k=2, end_epoch=9, log=False
    )
    assert those_of(handle.config) == {**SOFT, "k": 2}
    given = overrides(["PRESET", "selfpaced", "SEED", "5"])
    assert those_of(Config().override(**given)) == SOFT


def test_another_preset_takes_the_place_of_the_first():
    config = Config(preset="selfpaced", seed=4, splits={"a": 1, "b": 2})
    assert config.override(preset="published") == Config(seed=4, splits={"a": 1, "b": 2})
    assert config.override(splits=[3, 4]).names == ("a", "b")


def test_a_warm_up_in_steps_takes_the_place_of_that_of_the_preset():
    config = Config(preset="selfpaced", warmup_steps=100)
    assert (config.warmup_steps, config.selection) == (100, "soft")


def test_a_config_survives_copies_and_the_settings_of_a_record():
    config = Config(preset="selfpaced", k=3)
    for copied in (
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        dataclasses.replace(config),
        Config.load(config.to_dict()),
        Config.load(config),
    ):
        assert copied == config
        assert copied.override(sigma=0.5) == config.override(sigma=0.5)


@pytest.mark.negative_control
def test_a_preset_beside_a_copy_of_all_defaults_is_refused(golden):
    everything = Config().to_dict()
    with pytest.raises(ConfigError) as refusal:
        Config.load(everything | {"PRESET": "selfpaced"})
    golden(refusal.value)


@pytest.mark.negative_control
def test_a_preset_that_ends_asks_for_the_end(golden):
    with pytest.raises(ConfigError) as refusal:
        cmiei_hooks.attach(Fused(), "classifier", WIDTHS, preset="selfpaced", log=False)
    golden(refusal.value)
    observing = {"preset": "selfpaced", "p_max": 0.0, "log": False}
    cmiei_hooks.attach(Fused(), "classifier", WIDTHS, **observing).remove()


@pytest.mark.negative_control
@pytest.mark.parametrize("settings", [{"sample_level": False}, {"relative": True}])
def test_soft_selection_at_batch_level_or_with_relative_is_refused(settings, golden):
    with pytest.raises(ConfigError) as refusal:
        Config(preset="selfpaced", **settings)
    golden(refusal.value)
