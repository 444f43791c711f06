"""The callback for the Trainer of transformers, compared with the same training by hand."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import WIDTHS
from tiny_trainer import (
    EAGER,
    CMIEICallback,
    FailingStep,
    Task,
    TrainerCallback,
    callback,
    failing_metrics,
    trainer,
)
from torch import nn
from torch.nn.functional import cross_entropy

import cmiei_hooks
from cmiei_hooks.errors import CMIEIError, HeadError, StateError


class ByHand(TrainerCallback):
    """The lines that the callback replaces, with a state that is kept in a file."""

    def __init__(self) -> None:
        self.loaded = None

    def on_train_begin(self, args, state, control, model=None, **_):
        self.handle = cmiei_hooks.attach(
            model, "classifier", WIDTHS, epoch=lambda: state.epoch, **EAGER
        )
        if self.loaded:
            self.handle.load_state_dict(self.loaded)

    def on_save(self, args, state, control, **_):
        self.saved = self.handle.state_dict()

    def on_train_end(self, args, state, control, **_):
        self.handle.remove()


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


WAYS = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 3},
    "evaluation in mid-epoch": {"eval_strategy": "steps", "eval_steps": 3, "eval_on_start": True},
}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_the_weights_are_those_of_the_lines_written_by_hand(tmp_path, options):
    ours, by_hand = callback(), ByHand()
    trainings = [trainer(tmp_path, one, **options) for one in (ours, by_hand)]
    for training in trainings:
        torch.manual_seed(3)
        training.train()
    assert equal(*(training.model for training in trainings))
    mine, other = ours.handle.state_dict(), by_hand.handle.state_dict()
    assert all(mine.pop(key).equal(other.pop(key)) for key in ("sums", "totals", "usual_influence"))
    assert mine == other
    assert mine["step"] == 24
    assert (ours.handle.last.substituted >= 0).any()
    assert not trainings[0].model.classifier._forward_pre_hooks


@pytest.mark.negative_control
def test_without_c_miei_the_weights_are_others(tmp_path):
    trainings = [trainer(tmp_path, callback()), trainer(tmp_path)]
    for training in trainings:
        torch.manual_seed(3)
        training.train()
    assert not equal(*(training.model for training in trainings))


SAVING = {"save_strategy": "steps", "save_steps": 11, "eval_strategy": "steps", "eval_steps": 5}
"""The first checkpoint is in the middle of the second epoch."""


@pytest.mark.parametrize("restores", [False, True], ids=["by itself", "restored by the Trainer"])
def test_resumed_in_mid_epoch_the_weights_are_those_of_one_run(tmp_path, restores):
    whole, resumed = callback(), callback()
    uninterrupted = trainer(tmp_path, whole, **SAVING)
    uninterrupted.train()
    options = {**SAVING, "restore_callback_states_from_checkpoint": restores}
    later = trainer(tmp_path, resumed, **options)
    later.train(resume_from_checkpoint=str(tmp_path / "checkpoint-11"))
    assert equal(uninterrupted.model, later.model)
    one, other = whole.handle.state_dict(), resumed.handle.state_dict()
    assert all(one.pop(key).equal(other.pop(key)) for key in ("sums", "totals", "usual_influence"))
    assert one == other
    logged = [
        [(row["step"], row["CI_r"]) for row in training.state.log_history if "CI_r" in row]
        for training in (uninterrupted, later)
    ]
    assert logged[0] == logged[1]


@pytest.mark.negative_control
def test_without_the_state_a_resumed_run_is_another(tmp_path, monkeypatch):
    uninterrupted = trainer(tmp_path, callback(), **SAVING)
    uninterrupted.train()
    nothing = lambda self, state: None  # noqa: E731  # takes the place of a method
    monkeypatch.setattr("cmiei_hooks.integrations.lifecycle.Lifecycle.load_state_dict", nothing)
    later = trainer(tmp_path, callback(), **SAVING)
    later.train(resume_from_checkpoint=str(tmp_path / "checkpoint-11"))
    assert not equal(uninterrupted.model, later.model)


def test_a_checkpoint_of_a_training_without_the_callback_can_be_gone_on_from(tmp_path):
    trainer(tmp_path, **SAVING).train()
    one = callback()
    trainer(tmp_path, one, **SAVING).train(str(tmp_path / "checkpoint-11"))
    assert one.handle.step == 13
    assert one.handle.epoch == 2
    saved = json.loads((tmp_path / "checkpoint-22" / "trainer_state.json").read_text())
    assert saved["stateful_callbacks"]["CMIEICallback"][0]["handle"]["step"] == 11


class Reporter(TrainerCallback):
    """As those for TensorBoard and Weights & Biases: it is there before any other callback."""

    def __init__(self) -> None:
        self.seen = {}

    def on_log(self, args, state, control, logs=None, **_):
        self.seen.setdefault(state.global_step, {}).update(logs)


def test_the_reporters_get_the_metrics_with_the_loss(tmp_path, capsys):
    reporter, records = Reporter(), []
    one = callback(log=records.append, prefix="fused_", k=1, log_period=3)
    training = trainer(tmp_path, eval_strategy="epoch")
    training.callback_handler.callbacks.insert(1, reporter)
    training.add_callback(one)
    training.train()
    names = {f"fused_{name}" for name in one.handle.metrics()}
    with_loss = {step for step, logs in reporter.seen.items() if "loss" in logs}
    assert with_loss == set(range(3, 25, 3))
    for step, logs in reporter.seen.items():
        assert (names <= logs.keys()) == (step in with_loss)
    figures = [record for record in records if record.event == "figures"]
    assert figures[0].metrics["CI_r"] != reporter.seen[3]["fused_CI_r"]
    history = [row for row in training.state.log_history if "loss" in row]
    assert all(names <= row.keys() for row in history)
    assert "fused_CI_r" in capsys.readouterr().out  # what the Trainer prints


@pytest.mark.negative_control
def test_behind_the_reporters_the_metrics_come_too_late(tmp_path):
    class Staying(CMIEICallback):
        def on_train_begin(self, args, state, control, **objects):
            super().on_train_begin(args, state, control, **objects)
            callbacks = training.callback_handler.callbacks
            callbacks.append(callbacks.pop(0))

    reporter = Reporter()
    training = trainer(tmp_path, reporter, Staying("classifier", WIDTHS, **EAGER))
    training.train()
    assert "CI_r" not in reporter.seen[3]


def test_every_other_callback_is_called_once_although_ours_moves(tmp_path):
    class Counting(TrainerCallback):
        begun = 0

        def on_train_begin(self, args, state, control, **_):
            self.begun += 1

    before, after = Counting(), Counting()
    trainer(tmp_path, before, callback(), after).train()
    assert [before.begun, after.begun] == [1, 1]


def test_a_step_that_fails_takes_the_hook_off(tmp_path):
    one = callback()
    training = trainer(tmp_path, one, kind=FailingStep)
    with pytest.raises(RuntimeError, match="out of luck"):
        training.train()
    assert not training.model.classifier._forward_pre_hooks
    assert one.handle.step == 4
    training.fails = False
    training.train()
    assert one.handle.step == 24


def test_an_evaluation_that_fails_leaves_a_hook_that_does_nothing(tmp_path, x):
    one, model = callback(warmup_epochs=0, k=1), Task()
    failing = {"eval_strategy": "steps", "eval_steps": 3, "metrics": failing_metrics}
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer(tmp_path, one, model=model, **failing).train()
    step, last = one.handle.step, one.handle.last
    model.train()
    model(x, torch.zeros(len(x), dtype=torch.long))["loss"].backward()
    assert (one.handle.step, one.handle.last) == (step, last)
    another = callback()
    trainer(tmp_path, another, model=model).train()  # takes it off
    assert another.handle.step == 24
    assert not model.classifier._forward_pre_hooks
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer(tmp_path, one, model=model, **failing).train()
    one.remove()
    assert not model.classifier._forward_pre_hooks


def test_training_twice_begins_anew(tmp_path):
    one = callback()
    training = trainer(tmp_path, one)
    twice = []
    for _ in range(2):
        training.model.load_state_dict(Task().state_dict())
        training.optimizer = None
        torch.manual_seed(3)
        training.train()
        twice.append((one.handle.step, one.handle.state_dict()["totals"].tolist()))
    assert twice[0] == twice[1]


class TwoHeads(Task):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(sum(WIDTHS), 7)

    def forward(self, x, labels=None):
        features = self.features(x)
        logits = self.classifier(features) + self.other(features)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def both() -> tuple[CMIEICallback, CMIEICallback]:
    return callback(), CMIEICallback("other", WIDTHS, prefix="other_", **{**EAGER, "k": 3})


@pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")  # one head alone is not the output
@pytest.mark.parametrize("restores", [False, True], ids=["by itself", "restored by the Trainer"])
def test_several_callbacks_have_a_state_each(tmp_path, restores):
    options = {**SAVING, "save_steps": 4, "restore_callback_states_from_checkpoint": restores}
    whole = trainer(tmp_path, *both(), model=TwoHeads(), **options)
    whole.train()
    saved = json.loads((tmp_path / "checkpoint-12" / "trainer_state.json").read_text())
    states = saved["stateful_callbacks"]["CMIEICallback"]
    newest = {state["handle"]["head"]: state["handle"]["step"] for state in states}
    assert newest == {"classifier": 12, "other": 12}
    assert len(states) == 4  # and not more with every checkpoint
    again = both()
    later = trainer(tmp_path, *again, model=TwoHeads(), **options)
    later.train(str(tmp_path / "checkpoint-12"))
    assert [one.handle.step for one in again] == [24, 24]
    assert equal(whole.model, later.model)
    assert {"CI_r", "other_CI_r"} <= later.state.log_history[-3].keys()


def test_a_state_of_another_callback_is_refused_if_the_trainer_restores_it(tmp_path, golden):
    trainer(tmp_path, callback(), **SAVING).train()
    options = {**SAVING, "restore_callback_states_from_checkpoint": True}
    other = CMIEICallback(["features", "classifier"], WIDTHS)
    with pytest.raises(StateError) as error:
        trainer(tmp_path, other, **options).train(str(tmp_path / "checkpoint-11"))
    golden(error.value)


def test_a_checkpoint_of_other_splits_is_refused_and_nothing_stays_attached(tmp_path):
    trainer(tmp_path, callback(), **SAVING).train()
    widths = WIDTHS[::-1]
    training = trainer(tmp_path, CMIEICallback("classifier", widths, **EAGER), **SAVING)
    with pytest.raises(StateError, match="belongs to another attachment"):
        training.train(str(tmp_path / "checkpoint-11"))
    assert not training.model.classifier._forward_pre_hooks


def test_what_is_not_a_trainer_is_refused(golden):
    with pytest.raises(CMIEIError) as error:
        callback().on_train_begin(None, None, None)
    golden(error.value)
    with pytest.raises(HeadError):
        CMIEICallback(Task().classifier, WIDTHS)


def test_with_enabled_false_nothing_is_attached_saved_or_logged(tmp_path):
    one = CMIEICallback("classifier", WIDTHS, config={"ENABLED": False}, log=False)
    trainings = [trainer(tmp_path, one, **SAVING), trainer(tmp_path, **SAVING)]
    for training in trainings:
        torch.manual_seed(3)
        training.train()
    assert equal(*(training.model for training in trainings))
    assert one.state()["handle"] == {}
    assert not any("CI_r" in row for row in trainings[0].state.log_history)
    trainer(tmp_path, one, **SAVING).train(str(tmp_path / "checkpoint-11"))
