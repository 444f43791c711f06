"""What an attachment says it did: by epoch, by window of steps, and at the end."""

from __future__ import annotations

import os

import pytest
import torch
from helpers import WIDTHS, Fused

import cmiei_hooks
from cmiei_hooks import CMIEIError
from cmiei_hooks.training import step as training_step

K1 = {"k": 1, "abs_thr": 0.0, "rel_thr": 1.0}


def attach(model: Fused, records: list, **settings) -> cmiei_hooks.Handle:
    settings = K1 | {"log": records.append} | settings
    return cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, **settings)


def of(records: list, event: str) -> list:
    return [record for record in records if record.event == event]


def mean_influence(model: Fused, batches: list[torch.Tensor]) -> list[float]:
    """Of every modality, by the formula, batch by batch."""
    means = []
    for x in batches:
        features = model.features(x)
        z = model.classifier(features).log_softmax(-1)
        row = []
        for block in torch.arange(sum(WIDTHS)).split(WIDTHS):
            dropped = features.index_fill(1, block, 0)
            row.append((z.exp() * (z - model.classifier(dropped).log_softmax(-1))).sum(-1).mean())
        means.append(torch.stack(row))
    return torch.stack(means).mean(0).tolist()


def test_each_epoch_ends_with_the_averages_over_all_of_it(model):
    records = []
    handle = attach(model, records, warmup_epochs=9)
    batches = [[torch.randn(8, 6) for _ in range(4)] for _ in range(3)]
    for epoch, of_epoch in enumerate(batches):
        handle.set_epoch(epoch)
        for x in of_epoch:
            model(x)
    handle.remove()
    epochs = of(records, "epoch")
    assert [record.epoch for record in epochs] == [0, 1, 2]
    for record, of_epoch in zip(epochs, batches, strict=True):
        expected = mean_influence(model, of_epoch)
        assert [record.metrics[f"CI_{n}"] for n in "rnt"] == pytest.approx(expected, rel=1e-4)


def test_without_epochs_averages_run_over_windows_of_log_period(model):
    records = []
    handle = attach(model, records, warmup_steps=100, log_period=5)
    batches = [torch.randn(8, 6) for _ in range(11)]
    for x in batches:
        model(x)
    windows = of(records, "figures")
    assert [record.step for record in windows] == [0, 5, 10]
    assert handle.metrics() == windows[-1].metrics
    handle.remove()
    for record, window in zip(windows, [batches[:1], batches[1:6], batches[6:11]], strict=True):
        expected = mean_influence(model, window)
        assert [record.metrics[f"CI_{n}"] for n in "rnt"] == pytest.approx(expected, rel=1e-4)


UNTOLD = {"steps": {"warmup_steps": 9}, "asked": {"epoch": lambda: None}, "alone": {"p_max": 0.0}}


@pytest.mark.parametrize("settings", UNTOLD.values(), ids=UNTOLD)
def test_no_line_names_an_epoch_that_nobody_told(model, x, settings):
    records = []
    with attach(model, records, log_period=1, **settings) as handle:
        model(x)
        model(x)
        assert repr(handle) == "<Handle attached to 'classifier', step 2>"
    figures = of(records, "figures")
    assert [record.epoch for record in figures] == [None, None]
    assert not any("epoch" in record.text() for record in figures)


@pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")
@pytest.mark.parametrize("how", ["told", "asked", "resumed"])
@pytest.mark.negative_control
def test_an_epoch_that_was_told_is_named_even_if_it_is_0(model, x, how):
    records, told = [], {"epoch": lambda: 0} if how == "asked" else {}
    handle = attach(model, records, **told)
    if how == "told":
        handle.set_epoch(0)
    if how == "resumed":
        with attach(Fused(), []) as other:
            other.set_epoch(0)
        handle.load_state_dict(other.state_dict())
    model(x)
    assert of(records, "figures")[0].epoch == 0
    assert "| epoch   0 step      0 |" in of(records, "figures")[0].text()
    assert "epoch 0" in repr(handle)


@pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")
def test_what_was_measured_before_the_first_epoch_is_not_said_to_be_of_one(model, x):
    records = []
    handle = attach(model, records)
    model(x)
    handle.set_epoch(1)
    (before,) = of(records, "epoch")
    assert "| before the first epoch |" in before.text()
    model(x)
    handle.set_epoch(2)
    assert "| epoch   1 whole epoch |" in of(records, "epoch")[-1].text()


def run(epochs: int, steps: int = 3, batch: int = 8, **settings) -> tuple[list, Fused]:
    records, model = [], Fused()
    handle = attach(model, records, **settings)
    for epoch in range(epochs):
        handle.set_epoch(epoch)
        for _ in range(steps):
            model(torch.randn(batch, 6))
    handle.remove()
    handle.remove()
    return records, model


def test_the_end_counts_what_was_done():
    records, _ = run(3, warmup_epochs=1)
    (end,) = of(records, "end")
    assert end.totals == {
        "steps": 9,
        "estimates": 9,
        "samples": 72,
        "substituted": 24,
        "skipped": 0,
    }
    first, *_, last = of(records, "epoch")
    assert (end.first, end.metrics) == (first.metrics, last.metrics)
    assert end.reason == ""


REASONS = {
    "all warm-up": (5, {"warmup_epochs": 5}),
    "one epoch": (1, {"warmup_epochs": 5}),
    "steps": (2, {"warmup_steps": 1000}),
    "ABS_THR": (2, {"warmup_epochs": 0, "abs_thr": 9.0}),
    "REL_THR": (2, {"warmup_epochs": 0, "rel_thr": 1e9}),
    "RATE": (2, {"preset": "selfpaced", "rate": 0.0, "end_epoch": 9}),
    "GATE": (2, {"preset": "selfpaced", "end_epoch": 9}),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_end_says_why_nothing_was_substituted(name, golden):
    epochs, settings = REASONS[name]
    records, _ = run(epochs, **settings)
    golden("\n".join(record.text() for record in records[-2:]))


@pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")
def test_the_end_says_that_the_cap_was_zero(golden):
    records, _ = run(1, warmup_epochs=0, batch=3, p_max=0.2)
    golden(records[-1].text())


@pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")
def test_the_end_says_that_no_epoch_was_told(model, x, golden):
    records = []
    with attach(model, records):
        model(x)
    golden(records[-1].text())


def test_where_nothing_is_meant_to_act_there_is_no_reason():
    records, _ = run(2, p_max=0.0)
    assert records[-1].reason == ""


def test_an_attachment_that_was_never_used_says_nothing(model):
    records = []
    attach(model, records).remove()
    assert [record.event for record in records] == ["start"]


SCRIPT = """
import torch, cmiei_hooks
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Linear(12, 7))
cmiei_hooks.attach(model, head="1", splits=[4, 3, 5], warmup_steps=2)
for _ in range(4):
    model(torch.randn(8, 6))
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "raise SystemExit(0)", "del model"])
def test_the_line_comes_when_the_program_ends(python, end):
    done = python.run(["-c", SCRIPT.replace("{end}", end)])
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split("|")[1].split()[0] for line in lines if "attached" not in line] == [
        "step",
        "ended",
    ]
    assert done.stderr == ""


class Trainer:
    """A library's trainer: it counts its epochs itself, here in fractions."""

    def __init__(self) -> None:
        self.epoch = None

    def fit(self, model: Fused) -> None:
        for step in range(12):
            self.epoch = step / 4
            model(torch.randn(8, 6))


def test_the_epoch_is_asked_for_in_each_training_call(model):
    records, trainer = [], Trainer()
    handle = attach(model, records, warmup_epochs=1, epoch=lambda: trainer.epoch)
    trainer.fit(model)
    assert handle.epoch == 2
    ratios = [record.metrics["C_MIEI_Ratio"] for record in of(records, "epoch")]
    assert ratios == [0.0, 0.5]
    assert handle.metrics()["C_MIEI_Ratio"] == 0.5


def test_it_is_asked_once_and_not_in_a_recompute(model, x):
    calls = []
    attach(model, [], epoch=lambda: calls.append(None) or 7, warmup_epochs=0)
    out = torch.utils.checkpoint.checkpoint(model, x.requires_grad_(), use_reentrant=False)
    out.sum().backward()
    model.eval()(x)
    assert len(calls) == 1


def test_before_the_first_epoch_it_is_warm_up(model, x):
    handle = attach(model, [], epoch=lambda: None)
    model(x)
    assert (handle.epoch, handle.metrics()["C_MIEI_Ratio"]) == (0, 0.0)


def test_a_handle_that_asks_cannot_be_told(model, golden):
    handle = attach(model, [], epoch=lambda: 0)
    with pytest.raises(CMIEIError) as error:
        handle.set_epoch(1)
    golden(error.value)


def test_an_epoch_is_not_a_function(model, golden):
    with pytest.raises(CMIEIError) as error:
        attach(model, [], epoch=3)
    golden(error.value)


def test_an_end_before_the_warm_up_is_refused(model, golden):
    with pytest.raises(CMIEIError) as error:
        attach(model, [], warmup_steps=10, end_step=10)
    golden(error.value)


@pytest.mark.parametrize("end", [{"end_epoch": 3}, {"warmup_steps": 10, "end_step": 10}])
def test_where_nothing_is_meant_to_act_an_end_is_not_refused(model, x, end):
    with attach(model, [], p_max=0.0, **end) as handle:  # as the remedy says
        model(x)
        assert handle.last is not None


@pytest.mark.parametrize("counted", [{"warmup_steps": 6}, {"warmup_epochs": 2, "epoch": "asked"}])
def test_a_resumed_run_goes_on_by_itself(counted):
    """No set_epoch after loading: the steps are in the state, or the epoch is asked for."""

    def train(model: Fused, handle: cmiei_hooks.Handle, epochs: range, now: list) -> list:
        seen = []
        for epoch in epochs:
            now[:] = [epoch]
            for step in range(3):
                generator = torch.Generator().manual_seed(10 * epoch + step)
                model(torch.randn(8, 6, generator=generator))
                seen.append(handle.last.substituted.tolist())
        return seen

    def fresh(now: list) -> tuple[Fused, cmiei_hooks.Handle]:
        torch.manual_seed(0)
        model = Fused()
        settings = counted | ({"epoch": lambda: now[0]} if "epoch" in counted else {})
        return model, attach(model, [], seed=3, **settings)

    now = [0]
    model, handle = fresh(now)
    whole = train(model, handle, range(4), now)
    model, handle = fresh(now)
    train(model, handle, range(2), now)
    state = handle.state_dict()
    model, handle = fresh(now)
    handle.load_state_dict(state)
    assert train(model, handle, range(2, 4), now) == whole[6:]
    assert any(index >= 0 for step in whole[6:] for index in step)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_write_the_closing_line_a_second_time(model, x):
    records: list = []
    handle = attach(model, records, warmup_epochs=0)
    model(x)
    assert len(training_step._open) > 0
    child = os.fork()
    if not child:
        os._exit(len(training_step._open))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    handle.remove()
    assert len(of(records, "end")) == 1
