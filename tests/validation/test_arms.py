"""The arms: what they are for each configuration, and that each of them can run."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused

import cmiei_hooks
from cmiei_hooks.errors import CMIEIError, ConfigError, ValidationError
from cmiei_hooks.validation.arms import (
    INERT,
    PLAIN,
    Arm,
    Length,
    arms_of,
    comparisons_of,
    own_arms,
    refuse_settings,
    refuse_too_short,
    sensitivity_of,
    why_missing,
)
from cmiei_hooks.validation.peers import make_peer


def test_the_arms_depend_on_the_end_the_warm_up_and_the_level():
    config = cmiei_hooks.Config(enabled=True, first_epoch=1, warmup_epochs=5)
    arms = {arm.name: arm for arm in arms_of(config, Length(1, 40, 400))}
    assert arms["stopped"].settings == {"end_epoch": 29, "end_step": None}
    assert arms["relative"].settings == {
        "end_epoch": 29,
        "end_step": None,
        "relative": True,
    }
    assert arms["strong"].settings["end_epoch"] == 25
    followed = {name: arm.follows for name, arm in arms.items() if arm.follows}
    assert followed == {
        "random": "method",
        "dropout": "method",
        "stopped random": "stopped",
        "strong random": "strong",
        "selfpaced random": "selfpaced",
    }
    assert arms["dropout 30 % until 60 %"].settings == {
        "warmup_epochs": 0,
        "warmup_steps": None,
        "end_epoch": 25,
        "end_step": None,
    }
    ending = {arm.name: arm for arm in arms_of(config.override(end_epoch=20), Length(1, 40, 400))}
    assert ending["never ending"].settings == {"end_epoch": None, "end_step": None}
    assert ending["relative"].settings["end_epoch"] == 20
    assert "stopped" not in ending
    short = {arm.name for arm in arms_of(config, Length(1, 6, 400))}
    assert "stopped" not in short  # it would never act
    batch_level = config.override(sample_level=False)
    assert not {"relative", "strong", "selfpaced", "random gated"} & {
        arm.name for arm in arms_of(batch_level, Length(1, 40, 400))
    }
    names = [arm.name for arm in sensitivity_of(config)]
    assert names == [
        "SIGMA 0.02",
        "SIGMA 0.1",
        "P_MAX 0.2",
        "ABS_THR 0.015",
        "ABS_THR 0.06",
        "REL_THR 1.125",
        "REL_THR 1.5",
    ]


@pytest.mark.parametrize(
    ("settings", "epochs", "stop"),
    [
        ({"warmup_steps": 100}, 0, {"end_epoch": None, "end_step": 280}),
        ({"warmup_steps": 100}, 40, {"end_epoch": None, "end_step": 280}),
        ({"warmup_epochs": 0}, 0, {"end_epoch": None, "end_step": 280}),
        ({"warmup_steps": 300}, 0, None),
        ({"warmup_steps": 100, "end_step": 150}, 0, {"end_epoch": None, "end_step": 150}),
        ({"warmup_epochs": 3, "end_step": 150}, 40, {"end_epoch": None, "end_step": 150}),
        ({"warmup_steps": 100, "end_epoch": 30}, 40, {"end_epoch": 30, "end_step": None}),
    ],
)
def test_the_arms_of_a_training_that_counts_in_steps(settings, epochs, stop):
    config = cmiei_hooks.Config(enabled=True, **settings)
    arms = {arm.name: arm.settings for arm in arms_of(config, Length(0, epochs, 400))}
    ends = bool(settings.keys() & {"end_step", "end_epoch"})
    assert ("never ending" in arms) == ends
    assert ("stopped" in arms) == (stop is not None and not ends)
    relative = arms.get("relative")
    assert relative == (None if stop is None else {**stop, "relative": True})
    assert (arms["strong"]["warmup_steps"], arms["strong"]["end_step"]) == (0, 240)
    assert (arms["selfpaced"]["warmup_steps"], arms["selfpaced"]["end_step"]) == (0, 320)
    for arm in (INERT.settings, *arms.values()):  # none sets what excludes another
        forced = config.override(**arm)
        cmiei_hooks.attach(Fused(), "classifier", WIDTHS, config=forced, log=False).remove()


@pytest.mark.parametrize("ending", [None, 20])
def test_every_arm_is_compared_with_another(ending):
    arms = arms_of(cmiei_hooks.Config(end_epoch=ending), Length(0, 40, 400))
    compared = {name for pair in comparisons_of([PLAIN, *arms]) for name in pair}
    assert {arm.name for arm in arms} <= compared


@pytest.mark.parametrize("settings", [{}, {"rel_thr": 0.3}, {"rel_thr": 0.0}, {"abs_thr": 0.0}])
def test_every_arm_can_run_with_these_settings(settings):
    config = cmiei_hooks.Config(**settings)
    refuse_settings(config, [*arms_of(config, Length(0, 40, 400)), *sensitivity_of(config)])


@pytest.mark.negative_control
def test_an_arm_that_cannot_run_is_refused_by_its_name(golden):
    config = cmiei_hooks.Config(sample_level=False)
    with pytest.raises(ConfigError) as refusal:
        refuse_settings(config, [Arm("relative", settings={"relative": True})])
    golden(refusal.value)


@pytest.mark.parametrize("settings", [{}, {"k": 5, "sigma": 0.3, "relative": True}])
def test_the_soft_arm_is_the_preset_whatever_the_users_settings_are(settings):
    config = cmiei_hooks.Config(enabled=True, **settings)
    arms = {arm.name: arm for arm in arms_of(config, Length(0, 40, 400))}
    assert config.override(**arms["selfpaced"].settings) == cmiei_hooks.Config(
        enabled=True, preset="selfpaced", end_epoch=32
    )


@pytest.mark.parametrize("preset", ["published", "selfpaced"])
def test_a_control_selects_one_or_several_modalities_as_the_arm_that_it_follows(preset):
    config = cmiei_hooks.Config(enabled=True, preset=preset, end_epoch=20)
    arms = {arm.name: arm for arm in arms_of(config, Length(0, 40, 400))}
    for arm in arms.values():
        if arm.follows:
            own, followed = (config.override(**a.settings) for a in (arm, arms[arm.follows]))
            assert (arm.name, own.selection) == (arm.name, followed.selection)
            assert (own.sigma, own.sigma_unit) == (followed.sigma, followed.sigma_unit)


def test_peers_are_compared_with_plain_training_and_with_the_method():
    own = own_arms({"mine": "peers_of_a_user:every_first"})
    assert comparisons_of([PLAIN, Arm("method"), *own]) == [
        ("method", "plain"),
        ("mine", "plain"),
        ("method", "mine"),
    ]


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "functions",
    [
        {"method": "peers_of_a_user:every_first"},
        {"mine": "peers_of_a_user:takes_nothing"},
        {"mine": "peers_of_a_user:missing"},
    ],
    ids=["a name that is taken", "other arguments", "no such function"],
)
def test_an_arm_that_cannot_be_made_is_refused_before_anything_runs(functions, golden):
    with pytest.raises(CMIEIError) as refusal:
        own_arms(functions, ["plain", "method"])
    golden(refusal.value)


def test_the_arms_of_a_preset_that_ends_can_all_be_attached():
    config = cmiei_hooks.Config(enabled=True, preset="selfpaced", end_epoch=32)
    arms = arms_of(config, Length(0, 40, 400))
    assert "relative" not in {arm.name for arm in arms}
    assert [arm.name for arm in sensitivity_of(config)] == [
        "SIGMA 0.5",
        "SIGMA 2",
        "TAU_SAMPLES 0",
        "TAU_SAMPLES 1",
        "TAU_MODALITIES 0",
        "TAU_MODALITIES -0.5",
        "RATE 0.3",
        "RATE 0.7",
        "GATE 0",
    ]
    for arm in (INERT, *arms, *sensitivity_of(config)):
        forced = config.override(**arm.settings)
        cmiei_hooks.attach(Fused(), "classifier", WIDTHS, config=forced, log=False).remove()


@pytest.mark.parametrize(
    ("name", "strategy", "options", "end", "noise"),
    [
        ("dropout 45 % until 80 %", "peers:ModalityDropout", {"rate": 0.45}, 33, None),
        ("random 30 %", "peers:RandomModalities", {"rate": 0.3}, None, 1.0),
        ("random one until 60 %", "peers:RandomModality", {}, 25, 1.0),
        ("OGM-GE 0.8", "gradient_modulation:GradientModulation", {"alpha": 0.8}, None, None),
    ],
)
def test_a_peer_may_be_named_with_other_numbers(name, strategy, options, end, noise):
    config = cmiei_hooks.Config(enabled=True, first_epoch=1)
    (arm,) = [one for one in arms_of(config, Length(1, 40, 400), [name]) if one.name == name]
    assert arm.strategy == f"cmiei_hooks.validation.{strategy}"
    assert arm.options == options
    assert arm.settings["end_epoch"] == end
    assert arm.settings.get("sigma") == noise
    make = make_peer(arm.strategy, arm.options)
    model = Fused()
    handle = cmiei_hooks.attach(
        model,
        "classifier",
        WIDTHS,
        config=config.override(**arm.settings),
        log=False,
        strategy=make,
    )
    handle.set_epoch(1)
    model(torch.randn(16, 6)).square().sum().backward()


@pytest.mark.negative_control
def test_what_is_not_the_name_of_a_peer_is_no_arm():
    arms = arms_of(cmiei_hooks.Config(enabled=True), Length(0, 40, 400), ["random two", "OGM 1"])
    assert not {"random two", "OGM 1"} & {arm.name for arm in arms}


@pytest.mark.parametrize(
    ("length", "least"), [(Length(1, 10, 90), 6), (Length(0, 0, 90), 1), (Length(0, 1, 90), 51)]
)
def test_a_peer_that_ends_before_it_begins_is_refused_with_what_would_do(length, least, golden):
    config = cmiei_hooks.Config(enabled=True, first_epoch=length.first_epoch)
    name = "dropout 30 % until {} %"
    for share in range(1, 101):
        known = {arm.name for arm in arms_of(config, length, [name.format(share)])}
        assert (name.format(share) in known) == (share >= least)
    if least > 1:
        with pytest.raises(ValidationError) as refusal:
            refuse_too_short(name.format(least - 1), config, length)
        assert refusal.value.remedy.startswith(f"write {name.format(least)!r}")
        golden(refusal.value)
    refuse_too_short(name.format(least), config, length)


ALL = {arm.name for arm in arms_of(cmiei_hooks.Config(), Length(0, 40, 400))} | {"never ending"}


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({}, Length(0, 40, 400)),
        ({"end_epoch": 20}, Length(0, 40, 400)),
        ({"sample_level": False}, Length(0, 40, 400)),
        ({"selection": "soft"}, Length(0, 40, 400)),
        ({}, Length(0, 6, 400)),
        ({"warmup_steps": 300}, Length(0, 0, 400)),
    ],
    ids=str,
)
def test_for_every_arm_that_a_training_lacks_there_is_a_reason(settings, length, golden):
    config = cmiei_hooks.Config(enabled=True, **settings)
    lacking = sorted(ALL - {arm.name for arm in arms_of(config, length)})
    assert lacking
    reasons = {name: why_missing(name, config) for name in lacking}
    assert all(reasons.values())
    golden("\n".join(f"{name}: {reason}" for name, reason in reasons.items()))
