"""Config: defaults, limits, and every source it can be loaded from."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from yacs.config import CfgNode

from cmiei_hooks import CMIEIError, Config, add_cmiei_config

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
    "DROP": "zero",
    "MEASURE": "kl",
    "FIRST_EPOCH": 0,
    "END_EPOCH": None,
    "SEED": None,
    "LOG_PERIOD": 50,
    "INPLACE": False,
    "RELATIVE": False,
    "SYNC": False,
    "HEAD": None,
    "SPLITS": None,
    "NAMES": None,
}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_those_of_the_method():
    assert Config().to_dict() == METHOD | TOOL


def test_default_yml_has_every_key_with_its_default_and_a_comment():
    path = CONFIGS / "default.yml"
    section = yaml.safe_load(path.read_text())["MODEL"]["C_MIEI"]
    assert section == METHOD | TOOL
    assert Config.load(path) == Config()
    lines = path.read_text().splitlines()
    for key in section:
        (line,) = [line for line in lines if line.strip().startswith(f"{key}:")]
        assert "#" in line, key


def test_the_demo_configuration_of_demo_on_rgbnt201():
    config = Config.load(CONFIGS / "RGBNT201" / "DeMo_C_MIEI.yml")
    assert config == Config(
        enabled=True,
        first_epoch=1,
        head="classifier",
        splits=(512, 512, 512),
        names=("r", "n", "t"),
    )


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("enabled", [1, "yes", None]),
        ("k", [0, -1, 2.5, 3.0, True, "3", None]),
        ("sigma", [-0.1, math.nan, math.inf, "0.05", True, None]),
        ("abs_thr", [-1e-9, math.nan, "0.03", None]),
        ("rel_thr", [-1, math.nan, "1.25"]),
        ("relative", [0, "yes", None]),
        ("sample_level", [0, "False", None]),
        ("p_max", [-0.01, 1.01, math.nan, "half"]),
        ("warmup_epochs", [-1, 1.5, None]),
        ("drop", ["noise", 0, None, "Zero"]),
        ("measure", ["KL", "l2", None]),
        ("first_epoch", [-1, 0.0]),
        ("end_epoch", [0, -3, 7.5, "5"]),
        ("seed", [-1, 1.0, "0"]),
        ("log_period", [0, None]),
        ("inplace", [0]),
        ("sync", ["no"]),
        ("head", [3, [], [1, 2], ["a", "a"], b"a"]),
        ("splits", [[512], [4, 0], [4, -2], [4, 2.0], "4,4", 8, [True, 4]]),
        ("names", ["rnt", ["r", "r"], ["r", ""], ["r", False], ["r", 1]]),
    ],
)
def test_every_field_refuses_what_is_out_of_range(field, values):
    for value in values:
        with pytest.raises(CMIEIError) as caught:
            Config(**{field: value})
        text = str(caught.value)
        assert field.upper() in text
        assert repr(value) in text or str(value) in text
        assert "expected:" in text
        assert "remedy:" in text
    assert {f.name for f in dataclasses.fields(Config)} == {k.lower() for k in METHOD | TOOL}


def test_limits_are_inclusive_where_they_should_be():
    Config(k=1, sigma=0, abs_thr=0, rel_thr=0, p_max=0, warmup_epochs=0, end_epoch=1, seed=0)
    assert Config(p_max=1).p_max == 1.0
    assert Config(abs_thr=math.inf).abs_thr == math.inf  # never triggered: only observe


def test_names_and_splits_must_have_the_same_number():
    with pytest.raises(CMIEIError, match="2 names"):
        Config(splits=(4, 4, 4), names=("a", "b"))


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
    "text", ["D: 2024-99-99\n", "? [a, b]\n: 1\n", "K: !!int abc\n", "K: \0\n", "[" * 3000]
)
def test_what_pyyaml_stumbles_over_is_refused(tmp_path, text):
    with pytest.raises(CMIEIError, match="not valid YAML"):
        Config.load(write(tmp_path / "c.yml", text))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("MODEL:\n  C_MIEI:\n    K: 3\n    SIGMMA: 0.1\n", 4, "did you mean 'SIGMA'"),
        (
            "MODEL:\n  C_MIEI:\n    K: 3\n    SIGMA: 0.1\n    K: 4\n",
            5,
            "line 3 and again in line 5",
        ),
        ("MODEL:\n  C_MIEI:\n    SIGMA: 1e-3\n", 3, "YAML reads 1e-3 as text: write 0.001"),
        ("MODEL:\n  C_MIEI:\n    SIGMA: 1e-9\n", 3, "YAML reads 1e-9 as text: write 1.0e-09"),
        ("MODEL:\n  C_MIEI:\n    REL_THR: 1.5e1\n", 3, "YAML reads 1.5e1 as text: write 15.0"),
        ("MODEL:\n  C_MIEI:\n    SEED: !!python/int 7\n", 3, "a value with the tag"),
        ("MODEL:\n  C_MIEI:\n    K: !mine 7\n", 3, "a value with the tag !mine"),
        ("A: 1\nMODEL:\n  C_MIEI: {K: 3}\nMODEL: {}\n", 4, "line 2 and again in line 4"),
        ("MODEL:\n  C_MIEI:\n    SIGMA: '0.1'\n", 3, "without quotes"),
        ("MODEL:\n  C_MIEI:\n    P_MAX: 1.5\n", 3, "from 0 to 1"),
        ("MODEL:\n  C_MIEI:\n    ENABLED: 1\n", 3, "True or False"),
        ("K: 3\nk: 4\n", 2, "K is set twice"),
        ("MODEL:\n  C_MIEI:\n    NAMES: [r, no, t]\n", 3, "in quotes"),
    ],
)
def test_errors_in_a_file_name_the_line(tmp_path, text, line, message):
    path = write(tmp_path / "c.yml", text)
    with pytest.raises(CMIEIError) as caught:
        Config.load(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such.yml", "cannot be read"),
        ({"MODEL": {"NAME": "DeMo"}}, "no section MODEL.C_MIEI"),
        ({"MODEL": 3}, "not a section"),
        ({"C_MIEI": [1]}, "not a section"),
        ({"K": 3, "nonsense": 1}, "unknown setting 'nonsense'"),
        (argparse.Namespace(lr=0.1), "no setting of C-MIEI"),
        (3, "no configuration"),
    ],
)
def test_sources_that_hold_no_settings(source, message):
    with pytest.raises(CMIEIError, match=message):
        Config.load(source)


def test_a_file_that_is_not_yaml_or_not_a_mapping(tmp_path):
    with pytest.raises(CMIEIError, match="not valid YAML"):
        Config.load(write(tmp_path / "a.yml", "K: [1\n"))
    with pytest.raises(CMIEIError, match="does not hold settings"):
        Config.load(write(tmp_path / "b.yml", "- 1\n"))


def test_an_argparse_namespace_gives_the_fields_it_has():
    namespace = argparse.Namespace(lr=0.1, epochs=60, sigma=0.2, p_max=1.0, seed=7)
    assert Config.load(namespace) == Config(sigma=0.2, p_max=1.0, seed=7)


def test_an_omegaconf_node():
    node = OmegaConf.create({"MODEL": {"C_MIEI": {"K": 2, "SPLITS": [4, 4], "NAMES": ["a", "b"]}}})
    assert Config.load(node) == Config(k=2, splits=(4, 4), names=("a", "b"))


def test_override_knows_its_fields():
    assert Config().override(k=1, sigma=0.2) == Config(k=1, sigma=0.2)
    with pytest.raises(CMIEIError, match="did you mean 'sigma'"):
        Config().override(sigmma=0.2)


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


def test_registration_refuses_what_is_not_an_open_yacs_node():
    frozen = CfgNode({"MODEL": {}})
    frozen.freeze()
    with pytest.raises(CMIEIError, match=r"before cfg.freeze\(\)"):
        add_cmiei_config(frozen)
    with pytest.raises(CMIEIError, match="yacs"):
        add_cmiei_config({"MODEL": {}})


def test_relative_and_batch_level_contradict_each_other():
    with pytest.raises(CMIEIError, match="RELATIVE compares the samples"):
        Config(relative=True, sample_level=False)
