"""Batches that lack a modality: the estimate is skipped, and training is as without the tool."""

from __future__ import annotations

import copy
import io
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import cmiei_hooks
from cmiei_hooks import CMIEIWarning
from cmiei_hooks.errors import InputError
from cmiei_hooks.training.presence import Presence
from cmiei_hooks.validation.controls import Counting

ACTING = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 1.0, "p_max": 1.0, "log": False}
R, N, T = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))

pytestmark = pytest.mark.filterwarnings("ignore::cmiei_hooks.CMIEIWarning")


class OfList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(8, 4) for _ in range(3))

    def forward(self, xs: list[Tensor | None]) -> Tensor:
        pairs = zip(self.parts, xs, strict=False)
        return sum(part(x) for part, x in pairs if x is not None and len(x))


class OfDict(OfList):
    def forward(self, xs: dict[str, Tensor | None]) -> Tensor:
        return super().forward([xs.get(name) for name in ("r", "n", "t")])


class OfKeywords(OfList):
    def forward(self, r: Tensor, *, n: Tensor | None = None, t: Tensor | None = None) -> Tensor:
        return super().forward([r, n, t])


class OfPairs(OfList):
    """Each tensor comes with a number of rows."""

    def forward(self, r: tuple, *, n: tuple | None = None, t: tuple | None = None) -> Tensor:
        return super().forward([pair[0] if pair else None for pair in (r, n, t)])


class OfPositions(OfList):
    def forward(self, r: Tensor | None = None, n: Tensor | None = None, more: object = None):
        given = [r, n, *(more or [])]
        return super().forward([x for x in given if x is not None][:3])


class Concatenated(nn.Linear):
    def forward(self, x: Tensor | None = None, rows: int = 6) -> Tensor:
        return self.bias.expand(rows, 4) if x is None else super().forward(x)


class Model(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        return self.head(*args, **kwargs)


POSITIONS = {"r": 0, "n": 1, "t": 2}
NAMES = {"r": "r", "n": "n", "t": "t"}
HEADS = {
    "list": (OfList, {"modalities": POSITIONS}),
    "dict": (OfDict, {"modalities": NAMES}),
    "keywords": (OfKeywords, {"modalities": NAMES}),
    "pairs": (OfPairs, {"modalities": {"r": "r.0", "n": "n.0", "t": "t.0"}}),
    "one tensor": (lambda: Concatenated(8, 4), {"splits": [3, 5]}),
}
FULL = {
    "list": (([R, N, T],), {}),
    "dict": (({"r": R, "n": N, "t": T},), {}),
    "keywords": ((R,), {"n": N, "t": T}),
    "pairs": (((R, 6),), {"n": (N, 6), "t": [T, 6]}),
    "one tensor": ((R,), {}),
}
NONE = {
    "list": (([R, None, T],), {}),
    "dict": (({"r": R, "n": N, "t": None},), {}),
    "keywords": ((R,), {"n": None, "t": T}),
    "pairs": (((R, 6),), {"n": (None, 0), "t": [T, 6]}),
}
"""None in the place of a tensor."""
OMITTED = {"keywords": ((R,), {"t": T}), "pairs": (((R, 6),), {"t": [T, 6]})}
"""Not passed, which is the same as None for the head."""
ABSENT = {
    "list": (([R, N],), {}),
    "dict": (({"r": R, "t": T},), {}),
    "pairs": (((R, 6),), {"n": (), "t": [T, 6]}),
    "one tensor": ((), {}),
}
"""Nothing at all."""
EMPTY = {
    "list": (([R, torch.empty(0, 8), T],), {}),
    "dict": (({"r": R, "n": torch.empty(0), "t": T},), {}),
}
CASES = [
    pytest.param(kind, call, id=f"{kind}, {what}")
    for what, calls in {"None": NONE, "omitted": OMITTED, "absent": ABSENT, "empty": EMPTY}.items()
    for kind, call in calls.items()
]


def attach(model: nn.Module, kind: str, **settings) -> cmiei_hooks.Handle:
    where = HEADS[kind][1]
    handle = cmiei_hooks.attach(model, head="head", **where, **(ACTING | settings))
    handle.set_epoch(0)
    return handle


def warned(run) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in caught if issubclass(w.category, CMIEIWarning)]


@pytest.mark.parametrize(("kind", "lacking"), CASES)
def test_the_step_is_that_of_a_training_without_the_tool(kind, lacking):
    model = Model(HEADS[kind][0]())
    plain = copy.deepcopy(model)
    handle = attach(model, kind)
    full_args, full_kwargs = FULL[kind]
    model(*full_args, **full_kwargs)
    last = handle.last
    states = []
    for each in (model, plain):
        optimizer = torch.optim.Adam(each.parameters())
        torch.manual_seed(7)
        for _ in range(3):
            optimizer.zero_grad()
            each(*lacking[0], **lacking[1]).square().sum().backward()
            optimizer.step()
        states.append([*each.parameters(), torch.get_rng_state()])
    assert all(map(torch.equal, *states))
    assert (handle.skipped, handle.step, handle.last) == (3, 4, last)


@pytest.mark.parametrize(("kind", "lacking"), CASES)
def test_later_batches_are_estimated_again(kind, lacking):
    model = Model(HEADS[kind][0]())
    handle = attach(model, kind)
    for args, kwargs in (FULL[kind], lacking, FULL[kind]):
        model(*args, **kwargs)
    assert handle.skipped == 1
    assert (handle.last.substituted >= 0).all()
    assert handle.state_dict()["totals"][1] == 2


@pytest.mark.parametrize("kind", HEADS)
def test_it_is_said_once(kind, golden):
    model = Model(HEADS[kind][0]())
    args, kwargs = ABSENT.get(kind, OMITTED.get(kind))
    full_args, full_kwargs = FULL[kind]

    def run() -> None:
        handle = attach(model, kind)
        model(*full_args, **full_kwargs)
        for _ in range(3):
            model(*args, **kwargs)
        handle.remove()

    (message,) = warned(run)
    golden(message)


@pytest.mark.negative_control
@pytest.mark.parametrize(("kind", "lacking"), CASES)
def test_otherwise_the_training_would_end(kind, lacking, monkeypatch):
    monkeypatch.setattr(Presence, "read", lambda self, a, k: self._partition.read(a, k))
    model = Model(HEADS[kind][0]())
    attach(model, kind)
    full_args, full_kwargs = FULL[kind]
    model(*full_args, **full_kwargs)
    with pytest.raises(InputError):
        model(*lacking[0], **lacking[1])


@pytest.mark.parametrize("kind", NONE)
def test_none_in_the_first_call_is_a_missing_modality(kind):
    model = Model(HEADS[kind][0]())
    handle = attach(model, kind)
    args, kwargs = NONE[kind]
    model(*args, **kwargs)
    assert (handle.skipped, handle.last) == (1, None)


def test_so_is_an_argument_that_is_left_at_its_default():
    model = Model(OfKeywords())
    handle = attach(model, "keywords")
    model(R, t=T)
    assert handle.skipped == 1


@pytest.mark.parametrize("kind", ABSENT)
def test_a_location_that_no_call_had_is_a_mistake(kind):
    model = Model(HEADS[kind][0]())
    handle = attach(model, kind)
    args, kwargs = ABSENT[kind]
    for _ in range(2):
        with pytest.raises(InputError):
            model(*args, **kwargs)
    assert handle.skipped == 0


def test_a_mistake_is_told_beside_a_missing_modality(golden):
    model = Model(OfList())
    attach(model, "list")
    with pytest.raises(InputError) as error:
        model([R, None])  # nothing at 2
    golden(error.value)


def test_what_was_there_in_one_call_is_missing_in_another():
    model = Model(OfList())
    handle = attach(model, "list")
    model([R, None, T])
    model([R, None])
    assert handle.skipped == 2


def test_only_estimates_are_counted():
    model = Model(OfList())
    handle = attach(model, "list", k=3)
    for xs in ([R, N, T], [R, None, T], [R, N], [R, None, T], [R, N, T]):
        model(xs)
    assert (handle.skipped, handle.step) == (1, 5)


def test_a_number_that_no_longer_means_an_argument():
    model = Model(OfPositions())
    handle = cmiei_hooks.attach(model, head="head", modalities={"r": 0, "n": 1}, **ACTING)
    model(R, N, [T])
    model(None, None, [T, N])  # 0 and 1 are indices of the list now
    assert handle.skipped == 1


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.head, self.reentrant = OfDict(), reentrant

    def forward(self, x: Tensor, **others: Tensor) -> Tensor:
        def block(x: Tensor) -> Tensor:
            return self.head({"r": x, **others})

        return checkpoint(block, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_under_checkpointing_the_recompute_is_untouched_too(reentrant):
    model = Checkpointed(reentrant)
    plain = copy.deepcopy(model)
    handle = attach(model, "dict")
    model(R.clone().requires_grad_(), n=N, t=T)
    gradients = []
    for each in (model, plain):
        x = R.clone().requires_grad_()
        each(x, t=T).square().sum().backward()
        gradients.append([x.grad, each.head.parts[0].weight.grad, each.head.parts[2].weight.grad])
    assert handle.skipped == 1
    assert all(map(torch.equal, *gradients))


def test_a_second_view_without_the_modality_is_left_alone():
    model = Model(OfList())
    handle = attach(model, "list")
    with handle.same_step():
        model([R, N, T])
        z = model([R, None, T])
    assert (handle.skipped, handle.step) == (0, 1)
    assert torch.equal(z, model.eval()([R, None, T]))


def test_a_resumed_run_goes_on_where_the_first_batch_lacks_a_modality():
    model = Model(OfList())
    before = attach(model, "list")
    for xs in ([R, N, T], [R, N]):
        model(xs)
    saved = io.BytesIO()
    torch.save(before.state_dict(), saved)
    before.remove()
    after = attach(model, "list")
    saved.seek(0)
    after.load_state_dict(torch.load(saved, weights_only=True))
    model([R, N])
    assert after.skipped == 2


def test_the_closing_line_counts_them(golden):
    lines = []
    model = Model(OfList())
    handle = attach(model, "list", log=lambda record: lines.append(record.text()))
    for xs in ([R, N, T], [R, None, T], [R, N]):
        model(xs)
    handle.remove()
    golden(lines[-1])


def test_a_control_replaces_as_many_samples_in_the_same_steps():
    counts: list[int] = []
    model = Model(OfList())
    strategy = cmiei_hooks.training.selection.Published
    attach(model, "list", strategy=lambda c, noise: Counting(strategy(c, noise), counts))
    for xs in ([R, N, T], [R, None, T], [R, N, T]):
        model(xs)
    assert counts == [6, 0, 6]


def test_sync_cannot_wait_for_a_rank_without_the_modality(monkeypatch, golden):
    model = Model(OfList())
    attach(model, "list", sync=True)
    monkeypatch.setattr(cmiei_hooks.distributed, "active", lambda: True)
    with pytest.raises(InputError) as error:
        model([R, None, T])
    golden(error.value)
