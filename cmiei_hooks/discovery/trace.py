"""Run the model once and note, for every call of every module, a fingerprint of each tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..counterfactual import quiet
from ..fusion import Address, Call, call_tensors, replaced, tensors
from ..training import paused

__all__ = ["Edit", "Print", "Record", "Trace", "fingerprint", "run"]

Key = tuple[str, int]
"""Path of a module and the number of its call."""


@dataclass(frozen=True)
class Print:
    """One tensor as it was when a module got or gave it."""

    address: Address
    shape: tuple[int, ...]
    floating: bool
    columns: Mapping[int, Tensor]
    """Axis -> float64 ``[width]``, a figure for each column; axis -1, and 1 from three axes on."""
    size: float
    """About how large the figures are: what a difference is compared with."""


@dataclass(frozen=True)
class Record:
    """One call of a module."""

    start: int
    end: int
    """Moments; a call lies inside another if its moments do."""
    inputs: tuple[Print, ...]
    outputs: tuple[Print, ...]
    one_argument: bool
    """Whether it was called with one tensor and nothing else."""


Trace = dict[Key, Record]


@dataclass(frozen=True)
class Edit:
    """Replace one tensor of what one call returns."""

    key: Key
    address: Address


def run(
    model: nn.Module,
    call: Call,
    mode: Callable[[nn.Module], AbstractContextManager[None]],
    edit: Edit | None = None,
) -> Trace:
    """Call the model in a mode of ``modes.py``, and leave it as it was.

    Every run starts from the same buffers, attributes and random numbers.
    """
    tensor = next(iter([*model.parameters(), *(x for _, x in call_tensors(call))]))
    recorder = _Recorder()
    args, kwargs = call
    with (
        quiet(model, tensor.device),
        paused(model),
        mode(model),
        torch.enable_grad(),  # some models register gradient hooks in forward
        _listening(model, recorder, edit),
    ):
        model(*args, **kwargs)
    return recorder.trace


@contextmanager
def _listening(model: nn.Module, recorder: _Recorder, edit: Edit | None) -> Iterator[None]:
    modules = dict(model.named_modules())
    hooks = []
    try:
        if edit is not None:
            hooks.append(modules[edit.key[0]].register_forward_hook(_editing(edit)))
        for path, module in modules.items():
            if not isinstance(module, torch.jit.ScriptModule):
                hooks.append(
                    module.register_forward_pre_hook(recorder.before(path), with_kwargs=True)
                )
                hooks.append(module.register_forward_hook(recorder.after(path)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _editing(edit: Edit) -> Callable[..., Any]:
    calls = 0

    def hook(_: nn.Module, __: Any, returned: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls - 1 != edit.key[1]:
            return None
        value = dict(tensors(returned))[edit.address]
        return replaced(returned, edit.address, value.flip(-1) * 2 + 1)

    return hook


class _Recorder:
    """Collects the calls of one run."""

    def __init__(self) -> None:
        self.trace: Trace = {}
        self._now = 0
        self._calls: Counter[str] = Counter()
        self._open: list[tuple[Key, int, tuple[Print, ...], bool]] = []

    def before(self, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            prints = tuple(fingerprint(x, at) for at, x in call_tensors((args, kwargs)))
            one = not kwargs and len(args) == 1 and isinstance(args[0], Tensor)
            self._open.append(((path, self._calls[path]), self._tick(), prints, one))
            self._calls[path] += 1

        return hook

    def after(self, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, returned: Any) -> None:
            # What the model caught an exception from stays open and is dropped here.
            while self._open:
                key, start, prints, one = self._open.pop()
                if key[0] == path:
                    outputs = tuple(fingerprint(x, at) for at, x in tensors(returned))
                    self.trace[key] = Record(start, self._tick(), prints, outputs, one)
                    return

        return hook

    def _tick(self) -> int:
        self._now += 1
        return self._now


def fingerprint(x: Tensor, address: Address = ()) -> Print:
    """A weighted sum over each column of ``[B, ...]``, in which the order of the rows counts."""
    x = x.detach()
    floating = x.is_floating_point()
    if x.is_nested:
        x = torch.nested.to_padded_tensor(x, 0.0)
    elif x.layout != torch.strided:
        x = x.to_dense()
    values = torch.view_as_real(x).flatten(-2) if x.is_complex() else x
    # Apple's GPUs have no float64; infinities are those of attention masks.
    values = values.to(torch.float32 if x.device.type == "mps" else torch.float64)
    values = values.nan_to_num(0.0, 1.0, -1.0)
    if values.dim() < 2:
        values = values.reshape(-1, 1)
    axes = (-1,) if values.dim() == 2 else (-1, 1)
    columns = {axis: _sums(values, axis).cpu() for axis in axes}
    size = _sums(values.abs(), -1).max().item() if values.numel() else 0.0
    return Print(address, tuple(x.shape), floating, columns, size)


def _sums(values: Tensor, axis: int) -> Tensor:
    rows = values.movedim(axis, -1).reshape(-1, values.shape[axis])
    # Multiples of the golden ratio: weights that all differ, and no random number is drawn.
    steps = torch.arange(len(rows), device=rows.device, dtype=rows.dtype)
    return (steps.mul(0.6180339887498949).frac() + 0.5) @ rows
