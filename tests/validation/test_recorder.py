"""What a training function gets in place of attach."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import WIDTHS, Fused
from trainings import attaches_twice, never_attaches, train

import cmiei_hooks
from cmiei_hooks import CMIEIError
from cmiei_hooks.errors import ValidationError
from cmiei_hooks.validation.arms import Arm, arms_of, sensitivity_of
from cmiei_hooks.validation.recorder import Recorder

CONFIG = cmiei_hooks.Config(enabled=True, warmup_epochs=1)


def of(kind: str, **settings) -> Recorder:
    return Recorder(Arm(kind, kind, settings), {"k": 1})


def test_the_plain_arm_leaves_the_model_alone():
    recorder, model = of("plain"), Fused()
    handle = recorder(model, head="classifier", splits=WIDTHS, k=2, sigma=0.2)
    assert not any(m._forward_pre_hooks for m in model.modules())
    with handle, handle.suspend():
        handle.set_epoch(0)
    assert math.isnan(handle.metrics()["CI_n"])
    assert handle.names == ("r", "n", "t")
    assert (recorder.config.k, recorder.config.sigma) == (1, 0.2)  # the user's settings win


def test_disabled_registers_nothing_and_attached_does():
    for kind, hooks in (("disabled", 0), ("attached", 1)):
        model = Fused()
        of(kind)(model, head="classifier", splits=WIDTHS)
        assert len(model.classifier._forward_pre_hooks) == hooks


def test_settings_of_the_arm_win_over_the_users_and_these_over_the_functions():
    recorder = Recorder(Arm("a", settings={"sigma": 0.3}), {"sigma": 0.2, "k": 5})
    recorder(Fused(), head="classifier", splits=WIDTHS, sigma=0.1, k=4, p_max=0.1)
    c = recorder.config
    assert (c.sigma, c.k, c.p_max) == (0.3, 5, 0.1)


def test_epochs_and_counts_are_noted():
    recorder = of("attached")
    train(recorder, 0)
    recorder.note()
    assert [e["epoch"] for e in recorder.epochs] == [0, 1, 2, 3]
    ratios = [e["C_MIEI_Ratio"] for e in recorder.epochs]
    assert ratios[0] == 0
    assert min(ratios[1:]) > 0
    assert len(recorder.counts) == 24
    for epoch, ratio in enumerate(ratios):
        counted = sum(recorder.counts[6 * epoch : 6 * epoch + 6]) / (6 * 16)
        assert ratio == pytest.approx(counted)


def test_between_estimates_nothing_is_counted():
    recorder = Recorder(Arm("attached"), {"k": 3})
    train(recorder, 0)
    assert any(recorder.counts)
    assert not any(n for i, n in enumerate(recorder.counts) if i % 3)


def test_the_digest_sees_weights_buffers_and_the_generator():
    digests = []
    for _ in range(2):
        recorder = of("plain")
        train(recorder, 0)
        digests.append(recorder.digest())
    assert digests[0] == digests[1]
    torch.rand(1)
    assert recorder.digest() != digests[1]
    recorder = of("plain")
    train(recorder, 1)
    assert recorder.digest() != digests[0]


def test_an_inert_run_has_the_digest_of_the_plain_one_and_the_method_has_not():
    inert, method = arms_of(CONFIG, 0, 4)[:2]
    digests = []
    for arm in (Arm("plain", "plain"), inert, method):
        recorder = Recorder(arm, {})
        train(recorder, 0)
        digests.append(recorder.digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_function_that_attaches_twice_or_never_is_refused():
    with pytest.raises(ValidationError, match="attaches twice"):
        attaches_twice(of("attached"), 0)
    recorder = of("attached")
    never_attaches(recorder, 0)
    with pytest.raises(ValidationError, match="never called attach"):
        recorder.digest()


def test_arms():
    config = cmiei_hooks.Config(enabled=True, first_epoch=1, warmup_epochs=5)
    arms = {arm.name: arm for arm in arms_of(config, 1, 40)}
    assert arms["stopped"].settings == {"end_epoch": 29}
    assert arms["relative"].settings == {"end_epoch": 29, "relative": True}
    assert arms["strong"].settings["end_epoch"] == 25
    followed = {name: arm.follows for name, arm in arms.items() if arm.follows}
    assert followed == {
        "random": "method",
        "dropout": "method",
        "stopped random": "stopped",
        "strong random": "strong",
    }
    ending = {arm.name: arm for arm in arms_of(config.override(end_epoch=20), 1, 40)}
    assert ending["never ending"].settings == {"end_epoch": None}
    assert ending["relative"].settings["end_epoch"] == 20
    assert "stopped" not in ending
    assert "stopped" not in {arm.name for arm in arms_of(config, 1, 6)}  # it would never act
    batch_level = config.override(sample_level=False)
    assert not {"relative", "strong"} & {arm.name for arm in arms_of(batch_level, 1, 40)}
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


def test_the_plain_arm_refuses_what_attach_would_refuse():
    with pytest.raises(CMIEIError, match="no module named"):
        of("plain")(Fused(), head="clasifier", splits=WIDTHS)
