"""What a training function gets in place of attach."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from helpers import WIDTHS, Fused
from trainings import attaches_twice, never_attaches, never_sets_the_epoch, train

import cmiei_hooks
from cmiei_hooks import CMIEIError
from cmiei_hooks.errors import ValidationError
from cmiei_hooks.validation.arms import INERT, Arm
from cmiei_hooks.validation.recorder import Recorder


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
    recorder.finish()
    assert [e["epoch"] for e in recorder.epochs] == [0, 1, 2, 3]
    ratios = [e["C_MIEI_Ratio"] for e in recorder.epochs]
    assert ratios[0] == 0
    assert min(ratios[1:]) > 0
    assert len(recorder.counts) == 24
    for epoch, ratio in enumerate(ratios):
        counted = sum(recorder.counts[6 * epoch : 6 * epoch + 6]) / (6 * 16)
        assert ratio == pytest.approx(counted)


def test_epochs_that_are_asked_for_are_noted_like_those_that_are_told():
    told, asked = of("attached"), of("attached")
    train(told, 0)
    train(asked, 0, tells=False, warmup_epochs=1, epoch="asked")
    for recorder in (told, asked):
        recorder.finish()
    assert asked.epochs == told.epochs
    assert [epoch["step"] for epoch in asked.epochs] == [0, 6, 12, 18]
    assert asked.counts == told.counts


@pytest.mark.parametrize("kind", ["plain", "disabled"])
def test_nothing_asks_for_epochs_where_nothing_is_attached(kind):
    recorder = of(kind)
    train(recorder, 0, tells=False, warmup_epochs=1, epoch="asked")
    recorder.finish()
    assert recorder.epochs == [{"step": 0}]


def test_where_steps_are_counted_windows_are_noted():
    recorder = of("attached")
    train(recorder, 0, tells=False, warmup_steps=10, log_period=8)
    recorder.finish()
    assert [epoch["step"] for epoch in recorder.epochs] == [0, 1, 9, 17]
    assert not any("epoch" in epoch for epoch in recorder.epochs)
    for epoch, end in zip(recorder.epochs, [1, 9, 17, 24], strict=True):
        counts = recorder.counts[epoch["step"] : end]
        assert epoch["C_MIEI_Ratio"] == pytest.approx(sum(counts) / (16 * len(counts)))


def test_a_training_without_warm_up_and_epochs_is_one_epoch():
    recorder = of("attached")
    train(recorder, 0, tells=False, warmup_epochs=0, log_period=8)
    recorder.finish()
    assert [epoch["step"] for epoch in recorder.epochs] == [0]
    assert recorder.epochs[0]["C_MIEI_Ratio"] == pytest.approx(sum(recorder.counts) / (16 * 24))


@pytest.mark.negative_control
@pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")
@pytest.mark.parametrize(
    "settings",
    [{}, {"warmup_steps": 5, "end_epoch": 9}, {"epoch": lambda: None}],
    ids=["nothing", "end", "asked in vain"],
)
def test_settings_that_need_epochs_are_refused_without_them(settings):
    recorder = of("attached")
    train(recorder, 0, epochs=1, tells=False, **settings)
    with pytest.raises(ValidationError):
        recorder.finish()


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
    digests = []
    for arm in (Arm("plain", "plain"), INERT, Arm("method")):
        recorder = Recorder(arm, {})
        train(recorder, 0)
        digests.append(recorder.digest())
    assert digests[0] == digests[1] != digests[2]


def test_a_function_that_attaches_twice_is_refused(golden):
    with pytest.raises(ValidationError) as refusal:
        attaches_twice(of("attached"), 0)
    golden(refusal.value)


@pytest.mark.parametrize("training", [never_attaches, never_sets_the_epoch])
def test_a_function_that_leaves_out_a_call_is_refused(training, golden):
    recorder = of("attached")
    training(recorder, 0)
    with pytest.raises(ValidationError) as refusal:
        recorder.finish()
    golden(refusal.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"head": "clasifier", "splits": WIDTHS},
        {"head": "classifier", "splits": WIDTHS, "end_epoch": 2},  # the warm-up is longer
        {"head": "classifier", "splits": WIDTHS, "modalities": {"a": 0, "b": 1}},
    ],
    ids=["head", "idle", "both"],
)
def test_the_plain_arm_refuses_what_attach_would_refuse(arguments):
    with pytest.raises(CMIEIError) as expected:
        cmiei_hooks.attach(Fused(), **arguments)
    with pytest.raises(CMIEIError) as refusal:
        of("plain")(Fused(), **arguments)
    assert str(refusal.value) == str(expected.value)


def test_settings_win_over_what_the_function_passes_by_position():
    recorder = Recorder(Arm("plain", "plain"), {"splits": [3, 4, 5]})
    handle = recorder(Fused(), "classifier", WIDTHS)
    assert handle.config.splits == (3, 4, 5)


@pytest.mark.parametrize("kind", ["plain", "disabled", "attached"])
def test_a_model_that_holds_the_handle_can_be_copied(kind):
    model = Fused()
    model.handle = of(kind)(model, head="classifier", splits=WIDTHS)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.handle.names == ("r", "n", "t")
        twin.handle.set_epoch(3)
        assert twin.handle.epoch == 0


@pytest.mark.parametrize("kind", ["plain", "disabled", "attached"])
def test_a_training_that_saves_the_state_of_its_handle_runs_in_every_arm(kind):
    handle = of(kind)(Fused(), head="classifier", splits=WIDTHS)
    handle.load_state_dict(handle.state_dict())
    assert bool(handle.state_dict()) == (kind == "attached")


def test_a_strategy_of_the_user_is_counted_too():
    class Everything:
        every_step = False

        def __init__(self, config, noise):
            self.asked = []

        def choose(self, call):
            self.asked.append(call.step)
            return torch.zeros(call.captured.batch, dtype=torch.int64)

        def replace(self, captured, chosen, step):
            return captured.copies()

    made = []
    recorder = Recorder(Arm("attached"), {"k": 3})
    train(recorder, 0, epochs=1, strategy=lambda *a: made.append(Everything(*a)) or made[0])
    assert made[0].asked == [0, 3]
    assert recorder.counts == [16, 0, 0, 16, 0, 0]
