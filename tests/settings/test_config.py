"""Config: defaults, limits, and every source it can be loaded from."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from cmiei_hooks import Config
from cmiei_hooks.counterfactual import BASELINES
from cmiei_hooks.errors import ConfigError, SplitsError
from cmiei_hooks.measures import MEASURES
from cmiei_hooks.settings import choices

CONFIGS = Path(__file__).parents[2] / "configs"

METHOD = {
    "ENABLED": False,
    "K": 3,
    "SIGMA": 0.05,
    "ABS_THR": 0.03,
    "REL_THR": 1.25,
    "SAMPLE_LEVEL": True,
    "P_MAX": 0.5,
    "WARMUP_EPOCHS": 5,
}
TOOL = {
    "PRESET": "published",
    "SELECTION": "dominant",
    "TAU_SAMPLES": 0.5,
    "TAU_MODALITIES": -1.0,
    "RATE": 0.5,
    "GATE": None,
    "SIGMA_UNIT": "feature",
    "DROP": "zero",
    "MEASURE": "kl",
    "FIRST_EPOCH": 0,
    "END_EPOCH": None,
    "WARMUP_STEPS": None,
    "END_STEP": None,
    "SEED": None,
    "LOG_PERIOD": 50,
    "INPLACE": False,
    "RELATIVE": False,
    "SYNC": False,
    "HEAD": None,
    "COMBINE": None,
    "SPLITS": None,
    "NAMES": None,
    "FILL": None,
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_those_of_the_method():
    assert Config().to_dict() == METHOD | TOOL


def test_default_yml_has_every_key_with_its_default():
    path = CONFIGS / "default.yml"
    assert yaml.safe_load(path.read_text())["MODEL"]["C_MIEI"] == METHOD | TOOL
    assert Config.load(path) == Config()


def test_the_demo_configuration_of_demo_on_rgbnt201():
    config = Config.load(CONFIGS / "RGBNT201" / "DeMo_C_MIEI.yml")
    assert config == Config(
        enabled=True,
        first_epoch=1,
        head="classifier",
        splits=(512, 512, 512),
        names=("r", "n", "t"),
    )


OUT_OF_RANGE = {
    "enabled": [1, "yes", None],
    "k": [0, -1, 2.5, 3.0, True, "3", None],
    "sigma": [-0.1, math.nan, math.inf, "0.05", True, None],
    "abs_thr": [-1e-9, math.nan, "0.03", None],
    "rel_thr": [-1, math.nan, "1.25"],
    "relative": [0, "yes", None],
    "sample_level": [0, "False", None],
    "p_max": [-0.01, 1.01, math.nan, "half"],
    "warmup_epochs": [-1, 1.5, None],
    "preset": ["sofd", None, 1, "Soft"],
    "selection": ["random", None],
    "tau_samples": [math.inf, math.nan, "1", None],
    "tau_modalities": [-math.inf, True],
    "rate": [-0.1, 1.1, math.nan],
    "gate": [-0.1, 1.1, math.nan, "0.5"],
    "sigma_unit": ["spread", None],
    "drop": ["noise", 0, None, "Zero"],
    "measure": ["KL", "l2", None],
    "first_epoch": [-1, 0.0],
    "end_epoch": [0, -3, 7.5, "5"],
    "warmup_steps": [-1, 1.5, "5", True],
    "end_step": [0, -3, 7.5, "5"],
    "seed": [-1, 1.0, "0"],
    "log_period": [0, None],
    "inplace": [0],
    "sync": ["no"],
    "head": [
        3,
        [],
        [1, 2],
        ["a", "a"],
        b"a",
        {"r": "a"},
        {"r": "a", "n": 1},
        {True: "a", "n": "b"},
    ],
    "combine": ["max", 1],
    "splits": [[512], [4, 0], [4, -2], [4, 2.0], "4,4", 8, [True, 4]],
    "fill": [{}, 0, {"t": 0.5}, {"t": True}, {False: 0}, {"t": None}],
    "names": ["rnt", ["r", "r"], ["r", ""], ["r", False], ["r", 1]],
}


@pytest.mark.parametrize("field", OUT_OF_RANGE)
def test_every_field_refuses_what_is_out_of_range(field, golden):
    error = SplitsError if field in ("splits", "names") else ConfigError
    refusals = []
    for value in OUT_OF_RANGE[field]:
        with pytest.raises(error) as caught:
            Config(**{field: value})
        assert caught.value.remedy
        refusals.append(str(caught.value))
    golden("\n".join(refusals))


def test_the_refusals_above_cover_every_field():
    assert set(OUT_OF_RANGE) == {field.name for field in dataclasses.fields(Config)}


def test_a_huge_value_is_not_repeated_in_the_error(golden):
    for value in (10**5000, "x" * 5000, [1] * 5000):
        with pytest.raises(ConfigError) as caught:
            Config(p_max=value)
        assert len(caught.value.got) < 250
    assert Config(abs_thr=10**300).abs_thr == 1e300
    with pytest.raises(ConfigError) as caught:
        Config(abs_thr=10**5000)
    golden(caught.value)


@pytest.mark.parametrize("text", ["1e-3", "1e-9", "1.5e1", "0.1", "5", "inf", "-1e-3", "nan"])
@pytest.mark.parametrize("field", ["sigma", "abs_thr", "p_max"])
def test_the_remedy_for_a_number_that_came_as_text_is_a_value_that_is_taken(field, text):
    with pytest.raises(ConfigError) as caught:
        Config(**{field: text})
    proposed = yaml.safe_load(caught.value.remedy.rsplit(" ", 1)[-1])
    accepted = getattr(Config(**{field: proposed}), field)
    assert accepted in (float(text), getattr(Config(), field))


def test_a_setting_is_validated_once_per_construction(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        "cmiei_hooks.settings.config.checked", lambda field, value: seen.append(field.name) or value
    )
    Config.load(write(tmp_path / "c.yml", "K: 2\nSIGMA: 0.1\n"))
    assert seen == [field.name for field in dataclasses.fields(Config)]


def test_a_choice_has_the_words_that_are_implemented():
    # The settings do not import them: they would bring torch to the command line.
    assert choices(Config, "measure") == tuple(MEASURES)
    assert choices(Config, "drop") == tuple(BASELINES)
    assert choices(Config, "sigma") == ()


def test_limits_are_inclusive_where_they_should_be():
    Config(k=1, sigma=0, abs_thr=0, rel_thr=0, p_max=0, warmup_epochs=0, end_epoch=1, seed=0)
    Config(warmup_steps=0, end_step=1)
    assert Config(p_max=1).p_max == 1.0
    assert Config(abs_thr=math.inf).abs_thr == math.inf  # never triggered: only observe


def test_names_and_splits_must_have_the_same_number(golden):
    with pytest.raises(SplitsError) as error:
        Config(splits=(4, 4, 4), names=("a", "b"))
    golden(error.value)


def test_a_whole_configuration_or_the_section_alone(tmp_path):
    section = "K: 1\nSIGMA: 0.1\n"
    whole = "MODEL:\n  NAME: DeMo\n  C_MIEI:\n    K: 1\n    SIGMA: 0.1\nSOLVER:\n  LR: 1e-3\n"
    expected = Config(k=1, sigma=0.1)
    assert Config.load(write(tmp_path / "section.yml", section)) == expected
    assert Config.load(str(write(tmp_path / "whole.yml", whole))) == expected
    assert Config.load({"MODEL": {"C_MIEI": {"K": 1, "SIGMA": 0.1}}, "X": 1}) == expected
    assert Config.load({"C_MIEI": {"K": 1, "SIGMA": 0.1}}) == expected
    assert Config.load({"k": 1, "sigma": 0.1}) == expected
    assert Config.load(expected) is expected
    assert Config.load(write(tmp_path / "empty.yml", "")) == Config()


def test_what_else_is_in_the_file_does_no_harm(tmp_path):
    text = "INPUT: !mine [256, 128]\nLR: 1\nLR: 2\nMODEL:\n  A: 1\n  A: 2\n  C_MIEI: {K: 2}\n"
    assert Config.load(write(tmp_path / "c.yml", text)).k == 2


def test_tuples_as_yacs_writes_them(tmp_path):
    path = write(tmp_path / "c.yml", "SPLITS: !!python/tuple [4, 4]\n")
    assert Config.load(path).splits == (4, 4)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("MODEL:\n  C_MIEI:\n    K: 3\n    SIGMMA: 0.1\n", 4, id="typing error"),
        pytest.param("C_MIEI:\n  K: 3\n  SIGMA: 0.1\n  K: 4\n", 4, id="repeated key"),
        pytest.param("MODEL:\n  C_MIEI:\n    SIGMA: 1e-3\n", 3, id="1e-3"),
        pytest.param("MODEL:\n  C_MIEI:\n    SIGMA: 1e-9\n", 3, id="1e-9"),
        pytest.param("MODEL:\n  C_MIEI:\n    REL_THR: 1.5e1\n", 3, id="1.5e1"),
        pytest.param("MODEL:\n  C_MIEI:\n    SEED: !!python/int 7\n", 3, id="python tag"),
        pytest.param("MODEL:\n  C_MIEI:\n    K: !mine 7\n", 3, id="unknown tag"),
        pytest.param("A: 1\nMODEL:\n  C_MIEI: {K: 3}\nMODEL: {}\n", 4, id="repeated section"),
        pytest.param("MODEL:\n  C_MIEI:\n    SIGMA: '0.1'\n", 3, id="number in quotes"),
        pytest.param("MODEL:\n  C_MIEI:\n    P_MAX: 1.5\n", 3, id="out of range"),
        pytest.param("K: 1\n\nC_MIEI:\n  ENABLED: 1\n", 4, id="number for a truth value"),
        pytest.param("K: 3\nk: 4\n", 2, id="both cases"),
        pytest.param("K: 3\nNAMES: [r, no, t]\n", 2, id="truth value for a name"),
        pytest.param("K: 3\nSPLITS: [4]\n", 2, id="one width"),
    ],
)
def test_errors_in_a_file_name_the_line(tmp_path, text, line, golden):
    path = write(tmp_path / "c.yml", text)
    with pytest.raises((ConfigError, SplitsError)) as error:
        Config.load(path)
    assert error.value.problem.startswith(f"{path}:{line}: ")
    golden(str(error.value).replace(str(path), "c.yml"))


def test_an_error_of_two_settings_names_the_file(tmp_path, golden):
    path = write(tmp_path / "c.yml", "SPLITS: [4, 4]\nNAMES: [a, b, c]\n")
    with pytest.raises(SplitsError) as error:
        Config.load(path)
    golden(str(error.value).replace(str(path), "c.yml"))


@pytest.mark.parametrize(
    "source",
    [
        pytest.param({"MODEL": {"NAME": "DeMo"}}, id="no section"),
        pytest.param({"MODEL": 3}, id="MODEL is a number"),
        pytest.param({"C_MIEI": [1]}, id="section is a list"),
        pytest.param({"K": 3, "nonsense": 1}, id="unknown key"),
        pytest.param({"K": 3, "dim": 1}, id="argument of attach"),
        pytest.param(argparse.Namespace(lr=0.1), id="namespace"),
        pytest.param(3, id="number"),
    ],
)
def test_sources_that_hold_no_settings(source, golden):
    with pytest.raises(ConfigError) as error:
        Config.load(source)
    golden(error.value)


def test_an_argparse_namespace_gives_the_fields_it_has():
    namespace = argparse.Namespace(lr=0.1, epochs=60, sigma=0.2, p_max=1.0, seed=7)
    assert Config.load(namespace) == Config(sigma=0.2, p_max=1.0, seed=7)


def test_an_omegaconf_node():
    node = OmegaConf.create({"MODEL": {"C_MIEI": {"K": 2, "SPLITS": [4, 4], "NAMES": ["a", "b"]}}})
    assert Config.load(node) == Config(k=2, splits=(4, 4), names=("a", "b"))


def test_override_knows_its_fields(golden):
    assert Config().override(k=1, sigma=0.2) == Config(k=1, sigma=0.2)
    with pytest.raises(ConfigError) as error:
        Config().override(sigmma=0.2)
    golden(error.value)


def test_relative_and_batch_level_contradict_each_other(golden):
    with pytest.raises(ConfigError) as error:
        Config(relative=True, sample_level=False)
    golden(error.value)


@pytest.mark.parametrize(
    "settings",
    [{"warmup_steps": 100, "warmup_epochs": 3}, {"end_step": 900, "end_epoch": 40}],
    ids=["warm-up", "end"],
)
def test_steps_and_epochs_contradict_each_other(settings, golden, tmp_path):
    with pytest.raises(ConfigError) as error:
        Config(**settings)
    golden(error.value)
    (step, _), (epoch, _) = settings.items()
    for left_out in (step, epoch):  # the remedy
        Config(**{key: value for key, value in settings.items() if key != left_out})
    text = "".join(f"{key.upper()}: {value}\n" for key, value in settings.items())
    path = write(tmp_path / "c.yml", text)
    with pytest.raises(ConfigError) as error:
        Config.load(path)
    assert error.value.problem.startswith(f"{path}: ")


def test_steps_go_with_the_default_of_the_epochs_and_with_the_other_pair():
    Config(warmup_steps=100, warmup_epochs=5)
    Config(warmup_steps=100, end_epoch=40)
    Config(warmup_epochs=3, end_step=900)


def test_splits_by_name_give_the_names_too(tmp_path):
    expected = Config(splits=[32, 48], names=["audio", "video"])
    assert Config(splits={"audio": 32, "video": 48}) == expected
    assert Config(splits={"audio": 32, "video": 48}, names=["audio", "video"]) == expected
    file = tmp_path / "splits.yml"
    file.write_text("SPLITS: {audio: 32, video: 48}")
    assert Config.load(file) == expected


@pytest.mark.parametrize(
    ("splits", "names"),
    [({"a": 3, "b": 4}, ["b", "a"]), ({"a": 3, "b": 0}, None), ({1: 3, 2: 4}, None)],
)
def test_splits_by_name_that_contradict_themselves(splits, names, golden):
    with pytest.raises(SplitsError) as error:
        Config(splits=splits, names=names)
    golden(error.value)
