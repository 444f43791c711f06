"""Steps and epochs: what is counted, refused and written."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import torch
from situations import (
    BATCH,
    CLASSES,
    WIDTHS,
    Net,
    attach,
    data,
    is_right,
    notices,
    situation,
    situations,
    train,
)
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.optim.swa_utils import update_bn
from torch.utils.checkpoint import checkpoint

WIDTH = sum(WIDTHS)


def watched(model: Net) -> list[Tensor]:
    """What the head really gets."""
    inputs: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda m, args: inputs.append(args[0].detach().clone()))
    return inputs


def in_one_step(*calls: Any) -> tuple[list[bool], int]:
    """Which calls inside ``same_step`` get the input of the first one; and the steps counted."""
    model = Net()
    handle = attach(model)
    inputs = watched(model)
    model.train()
    batch = data()
    with handle.same_step():
        for call in calls:
            call(model, batch, handle)
    return [torch.equal(inputs[0], one) for one in inputs], handle.step


def plainly(model: Net, batch: Any, handle: Any) -> None:
    model(*batch).sum().backward()


def without_gradient(model: Net, batch: Any, handle: Any) -> None:
    with torch.no_grad():
        model(*batch)


def nested(model: Net, batch: Any, handle: Any) -> None:
    with handle.same_step():
        model(*batch)


def broken(model: Net, batch: Any, handle: Any) -> None:
    with contextlib.suppress(TypeError):
        model(batch[0], None)


def of_another_size(model: Net, batch: Any, handle: Any) -> None:
    model(*data(3))


CALLS: dict[str, tuple[Any, ...]] = {
    "three alike": ((plainly, plainly, plainly), ([True, True, True], 1)),
    "one inside another": ((plainly, nested), ([True, True], 1)),
    "one that fails first": ((broken, plainly, plainly), ([True, True], 1)),
    "one without gradient, last": ((plainly, without_gradient), ([True, False], 1)),
    "one without gradient, first": ((without_gradient, plainly), ([True, False], 1)),
    "one of another size": ((plainly, of_another_size), "InputError"),
}


@situations("several calls in a step", {name: right for name, (_, right) in CALLS.items()})
def one_step_of(name: str) -> tuple[list[bool], int]:
    return in_one_step(*CALLS[name][0])


@situations("several calls in a step", dict.fromkeys(["warm-up", "a step without"], "InputError"))
def calls_of_different_sizes_in(phase: str) -> None:
    model = Net()
    handle = attach(model, **({"warmup_steps": 9} if phase == "warm-up" else {"k": 2}))
    for sizes in ((4, 4), (4, 3)):
        with handle.same_step():
            for size in sizes:
                model(*data(size)).sum().backward()


@situation("several calls in a step", 2)
def after_an_error_inside_the_next_step_is_a_new_one() -> int:
    model = Net()
    handle = attach(model)
    model.train()
    try:
        with handle.same_step():
            model(*data())
            raise KeyError
    except KeyError:
        model(*data())
    return handle.step


@situation("several calls in a step", (2, 2))
def closures_of_lbfgs() -> tuple[int, int]:
    model = Net()
    handle = attach(model)
    inputs = watched(model)
    model.train()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    batch = data()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(*batch).square().mean()
        loss.backward()
        return loss

    for _ in range(2):
        with handle.same_step():
            optimizer.step(closure)
    return handle.step, min(2, len(inputs) // 2)


class Checkpointed(Net):
    """The head, with a BatchNorm in front of it, is in a checkpointed region."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__(nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, CLASSES)))
        self.reentrant = reentrant

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        features = self.features(x, z)
        if self.reentrant is None:
            return self.head(features)
        return checkpoint(self.head, features, use_reentrant=self.reentrant)


def training(model: Net) -> None:
    train(model)


def update_of_batch_norm(model: Net) -> None:
    around = nn.Module()
    around.model, around.forward = model, lambda pair: model(*pair)
    update_bn([torch.stack(data()) for _ in range(3)], around)


def inference_mode(model: Net) -> None:
    with torch.inference_mode():
        model(*data())


REGIONS = {"no checkpoint": None, "a reentrant checkpoint": True, "a checkpoint": False}


@situations("calls without gradient", dict.fromkeys(REGIONS, (3, 0, 0)))
def steps_counted_with(region: str) -> tuple[int, ...]:
    found = []
    for use in (training, update_of_batch_norm, inference_mode):
        model = Checkpointed(REGIONS[region])
        handle = attach(model)
        model.train()
        use(model)
        found.append(handle.step)
    return tuple(found)


class Backbone(Net):
    def features(self, x: Tensor, z: Tensor) -> Tensor:
        with torch.no_grad():
            return super().features(x, z)


@situation("calls without gradient", 3)
def a_frozen_backbone_counts() -> int:
    model = Backbone()
    handle = attach(model)
    train(model)
    return handle.step


@situation("function transforms", (("transform",), 1))
def transforms_then_training() -> tuple[tuple[str, ...], int]:
    model = Net()
    handle = attach(model)
    model.train()
    batch, parameters = data(), dict(model.named_parameters())

    def loss(parameters: Any, x: Tensor, z: Tensor) -> Tensor:
        return functional_call(model, parameters, (x, z)).sum()

    grad(loss)(parameters, *batch)
    jacrev(loss)(parameters, *batch)
    vmap(loss, (None, 0, 0))(parameters, *(x[:, None] for x in batch))
    handle.metrics()
    model(*batch).sum().backward()
    return notices(handle), handle.step


@situation("function transforms", (True, 3))
def gradient_penalty_and_other_parameters_are_training() -> tuple[bool, int]:
    model = Net()
    handle = attach(model)
    model.train()
    x, z = data()
    x.requires_grad_()
    (slope,) = torch.autograd.grad(model(x, z).sum(), x, create_graph=True)
    slope.square().sum().backward()
    doubled = {name: (p * 2).detach() for name, p in model.named_parameters()}
    functional_call(model, {n: p.requires_grad_() for n, p in doubled.items()}, (x, z))
    with torch.autograd.forward_ad.dual_level():
        out = model(torch.autograd.forward_ad.make_dual(x.detach(), torch.ones_like(x)), z)
        tangent = torch.autograd.forward_ad.unpack_dual(out).tangent
    return tangent is not None, handle.step


@situations("sizes", dict.fromkeys(["0", "1", "2"], 2))
def a_batch_of(size: str) -> int:
    model = Net()
    handle = attach(model)
    for batch in (int(size), BATCH):
        model(*data(batch)).sum().backward()
    handle.metrics()
    return handle.step


@situation("epochs", [3, 3, 2, 2, 0])
def what_the_loop_says_is_the_epoch() -> list[int]:
    values = (torch.tensor(3), torch.tensor([3.7]), np.int64(2), 2.9, None)
    found = []
    for value in values:
        model = Net()
        handle = attach(model, epoch=lambda value=value: value)
        model(*data())
        found.append(handle.epoch)
    return found


NO_EPOCHS = {"a word": "3", "negative": -1, "infinite": math.inf, "a truth value": True}


@situations("epochs", dict.fromkeys(NO_EPOCHS, "ConfigError"))
def an_epoch_that_is(name: str) -> None:
    model = Net()
    attach(model, epoch=lambda: NO_EPOCHS[name])
    model(*data())


@situation("epochs", [0, 1, 0, 5])
def epochs_may_go_backwards() -> list[int]:
    model, records = Net(), []
    handle = attach(model, log=records.append)
    for epoch in (0, 1, 0, 5):
        handle.set_epoch(epoch)
        train(model, 1)
    handle.remove()
    return [record.epoch for record in records if record.event == "epoch"]


@situation("tensors without values", (0, (4, CLASSES)))
def meta_while_suspended() -> tuple[int, tuple[int, ...]]:
    with torch.device("meta"):
        model, x = Net(), torch.randn(4, 4)
    handle = attach(model)
    with handle.suspend():
        out = model(x, x)
    handle.remove()
    return handle.step, tuple(out.shape)


@situation("heads of other kinds", True)
def frozen_batch_norm() -> bool:
    model = Net(nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, CLASSES)))
    handle = attach(model, p_max=0.0)
    model.head[0].eval()
    return is_right(model, handle)
