"""One small training for each way of telling the epochs; each says which steps acted.

Every step is an estimation step, and every sample that may be substituted is. ``run`` notes for
each training call of the head whether anything was substituted: ``A`` for a step that acted, ``.``
for one that did not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import torch
from helpers import WIDTHS, Fused
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

import cmiei_hooks
from cmiei_hooks import CMIEIError

ALWAYS = {"k": 1, "abs_thr": 0.0, "rel_thr": 0.0, "p_max": 1.0, "log": False}


class Run:
    """A model in training, with one attachment or more, and what their steps did."""

    def __init__(self, model: nn.Module | None = None) -> None:
        torch.manual_seed(0)
        self.model = Fused() if model is None else model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.handles: list[cmiei_hooks.Handle] = []
        self.acted: list[str] = []

    def attach(self, head: str = "classifier", **settings) -> cmiei_hooks.Handle:
        handle = cmiei_hooks.attach(
            self.model, head=head, splits=WIDTHS, seed=0, **{**ALWAYS, **settings}
        )
        self.handles.append(handle)
        self.acted.append("")
        return handle

    def forward(self, x: Tensor) -> Tensor:
        """One call of the model; a call in training is noted."""
        before = [handle.step for handle in self.handles]
        loss = self.model(x).square().mean()
        for i, handle in enumerate(self.handles):
            if handle.step > before[i]:
                assert handle.last is not None
                self.acted[i] += "A" if bool((handle.last.substituted >= 0).any()) else "."
        return loss

    def step(self, x: Tensor) -> None:
        self.optimizer.zero_grad()
        self.forward(x).backward()
        self.optimizer.step()


def batches(count: int) -> list[Tensor]:
    return [torch.randn(4, 6) for _ in range(count)]


def test_a_plain_loop_with_set_epoch():
    run = Run()
    handle = run.attach(warmup_epochs=2, end_epoch=4)
    for epoch in range(5):
        handle.set_epoch(epoch)
        for x in batches(3):
            run.step(x)
    assert run.acted == ["......AAAAAA..."]


def test_a_plain_loop_that_is_asked_for_its_epoch():
    run = Run()
    epoch = None
    run.attach(warmup_epochs=2, end_epoch=4, epoch=lambda: epoch)
    for epoch in range(5):  # noqa: B007  # the lambda reads it
        for x in batches(3):
            run.step(x)
    assert run.acted == ["......AAAAAA..."]


def test_epochs_that_begin_at_one():
    run = Run()
    epoch = None
    run.attach(warmup_epochs=1, first_epoch=1, epoch=lambda: epoch)
    for epoch in range(1, 4):  # noqa: B007  # the lambda reads it
        for x in batches(2):
            run.step(x)
    assert run.acted == ["..AAAA"]


def test_one_line_that_counts_in_steps():
    run = Run()
    run.attach(warmup_steps=4, end_step=9)
    for _ in range(3):
        for x in batches(4):
            run.step(x)
    assert run.acted == ["....AAAAA..."]


@pytest.mark.negative_control
def test_one_line_without_steps_or_epochs_never_acts_and_says_so():
    run = Run()
    run.attach(warmup_epochs=2)
    with pytest.warns(cmiei_hooks.CMIEIWarning):
        for x in batches(12):
            run.step(x)
    assert run.acted == ["." * 12]


@pytest.mark.negative_control
def test_the_steps_and_the_epochs_of_the_warm_up_cannot_both_be_set():
    with pytest.raises(CMIEIError):
        Run().attach(warmup_steps=4, warmup_epochs=2)


def test_the_epoch_of_a_scheduler():
    run = Run()
    scheduler = torch.optim.lr_scheduler.StepLR(run.optimizer, 1)
    run.attach(warmup_epochs=2, epoch=lambda: scheduler.last_epoch)
    for _ in range(4):
        for x in batches(3):
            run.step(x)
        scheduler.step()
    assert run.acted == ["......AAAAAA"]


def test_fractions_of_an_epoch_are_rounded_down():
    """As trainers count that add the share of the epoch that is done."""
    run = Run()
    progress = 0.0
    run.attach(warmup_epochs=1, epoch=lambda: progress)
    for x in batches(8):
        run.step(x)
        progress += 0.25
    assert run.acted == ["....AAAA"]


class Stream(IterableDataset[Tensor]):
    """Samples without an end: there is no length and no epoch."""

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield torch.randn(6)


@pytest.mark.parametrize("settings", [{"warmup_steps": 4}, {"warmup_epochs": 2}], ids=str)
def test_data_without_an_end(settings):
    run = Run()
    seen = 0
    if "warmup_epochs" in settings:
        settings["epoch"] = lambda: seen // 2  # "epochs" of two steps, as the user counts them
    run.attach(**settings)
    for x in DataLoader(Stream(), batch_size=4):
        run.step(x)
        seen += 1
        if seen == 10:
            break
    assert run.acted == ["....AAAAAA"]


@pytest.mark.parametrize("way", ["set_epoch", "epoch", "steps"])
def test_validation_in_the_middle_of_an_epoch(way):
    """Neither eval mode nor a call without gradient is a step, and neither begins an epoch."""
    run = Run()
    epoch = 0
    settings = {
        "set_epoch": {"warmup_epochs": 1},
        "epoch": {"warmup_epochs": 1, "epoch": lambda: epoch},
        "steps": {"warmup_steps": 4},
    }
    handle = run.attach(**settings[way])
    for epoch in range(2):
        if way == "set_epoch":
            handle.set_epoch(epoch)
        for i, x in enumerate(batches(4)):
            run.step(x)
            if i == 1:
                run.model.eval()
                validate(run, batches(3))
                run.model.train()
                validate(run, batches(2))  # a loop that forgets eval mode
    assert run.acted == ["....AAAA"]
    assert handle.step == 8


@torch.no_grad()
def validate(run: Run, data: Iterable[Tensor]) -> None:
    for x in data:
        run.forward(x)


def test_gradient_accumulation_counts_calls_of_the_head():
    run = Run()
    run.attach(warmup_steps=4)
    for i, x in enumerate(batches(8)):
        (run.forward(x) / 2).backward()
        if i % 2:
            run.optimizer.step()
            run.optimizer.zero_grad()
    assert run.acted == ["....AAAA"]


def test_accumulation_over_the_end_of_an_epoch():
    run = Run()
    epoch = 0
    run.attach(warmup_epochs=1, epoch=lambda: epoch)
    for epoch in range(2):  # noqa: B007  # the lambda reads it
        for x in batches(3):  # the second optimizer step has calls of both epochs
            run.forward(x).backward()
    assert run.acted == ["...AAA"]


@pytest.mark.parametrize("way", ["set_epoch", "epoch", "steps"])
@pytest.mark.parametrize("stop", [2, 5, 7], ids=lambda stop: f"after {stop}")
def test_resumed_in_mid_training(way, stop):
    """Epochs of three steps; stopped within the warm-up, at its end, and after it."""
    data = batches(12)

    def train(run: Run, begin: int, end: int, state: dict | None = None) -> dict:
        epoch = None
        settings = {
            "set_epoch": {"warmup_epochs": 2},
            "epoch": {"warmup_epochs": 2, "epoch": lambda: epoch},
            "steps": {"warmup_steps": 6},
        }
        with run.attach(**settings[way]) as handle:
            if state is not None:
                handle.load_state_dict(state)
            for step in range(begin, end):
                epoch = step // 3
                if way == "set_epoch" and (step % 3 == 0 or step == begin):
                    handle.set_epoch(epoch)
                run.step(data[step])
            return handle.state_dict()

    whole = Run()
    train(whole, 0, 12)
    first = Run()
    state = train(first, 0, stop)
    second = Run()
    second.model.load_state_dict(first.model.state_dict())
    train(second, stop, 12, state)
    assert whole.acted == ["......AAAAAA"]
    assert first.acted[0] + second.acted[0] == whole.acted[0]
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name])


def test_resumed_without_the_state_epochs_are_right_and_steps_begin_anew():
    """What is told or asked is right by itself; what is counted needs the state."""
    epoch = 5
    run = Run()
    run.attach(warmup_epochs=2, epoch=lambda: epoch)
    run.step(batches(1)[0])
    counted = Run()
    counted.attach(warmup_steps=2)
    for x in batches(3):
        counted.step(x)
    assert (run.acted, counted.acted) == (["A"], ["..A"])


class TwoHeads(Fused):
    """A second head on the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(sum(WIDTHS), 3)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        return torch.cat([self.classifier(features), self.auxiliary(features)], dim=1)


def test_two_heads_whose_epochs_come_from_different_sources():
    run = Run(TwoHeads())
    epoch = 0
    told = run.attach("classifier", warmup_epochs=3)
    run.attach("auxiliary", warmup_epochs=1, epoch=lambda: epoch)
    for epoch in range(4):
        told.set_epoch(epoch)
        for x in batches(2):
            run.step(x)
    assert run.acted == ["......AA", "..AAAAAA"]


def test_two_heads_in_epochs_and_in_steps():
    run = Run(TwoHeads())
    told = run.attach("classifier", warmup_epochs=1)
    run.attach("auxiliary", warmup_steps=5)
    for epoch in range(4):
        told.set_epoch(epoch)
        for x in batches(2):
            run.step(x)
    assert run.acted == ["..AAAAAA", ".....AAA"]


@pytest.mark.parametrize("way", ["set_epoch", "epoch"])
def test_epochs_that_break_off_early(way):
    """An epoch ends where the loop says so, not after the length of a loader."""
    run = Run()
    epoch = 0
    handle = run.attach(warmup_epochs=2, **({"epoch": lambda: epoch} if way == "epoch" else {}))
    for epoch in range(4):
        if way == "set_epoch":
            handle.set_epoch(epoch)
        for i, x in enumerate(batches(5)):
            if i == epoch + 1:  # 1, 2, 3 and 4 steps
                break
            run.step(x)
    assert run.acted == ["...AAAAAAA"]


def test_steps_do_not_notice_that_an_epoch_breaks_off():
    run = Run()
    run.attach(warmup_steps=5)
    for epoch in range(4):
        for x in batches(5)[: epoch + 1]:
            run.step(x)
    assert run.acted == [".....AAAAA"]
