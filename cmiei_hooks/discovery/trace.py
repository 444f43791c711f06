"""Run the model once and record a fingerprint of every tensor that a module receives or returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..counterfactual import isolated
from ..fusion import Call, Path, call_tensors, replaced, tensors
from ..training import paused

__all__ = [
    "CallRecord",
    "Edit",
    "Fingerprint",
    "Key",
    "Trace",
    "Values",
    "device_of",
    "fingerprint",
    "trace",
]

Key = tuple[str, int]
"""The path of a module, and which of its calls it is (from 0)."""


@dataclass(frozen=True)
class Fingerprint:
    """One tensor, as it was when a module received or returned it."""

    address: Path
    shape: tuple[int, ...]
    floating: bool
    columns: Mapping[int, Tensor]
    """For each axis, float64 ``[width]``: one number for each column, or row. The axes are -1, 0,
    and 1 for tensors of three or more axes."""
    scale: float
    """The order of magnitude of these numbers; differences are compared with it."""


Values = dict[tuple[str, Path], Tensor]
"""Copies of tensors that a call received ("inputs") and returned ("outputs"), if they are kept."""


@dataclass(frozen=True)
class CallRecord:
    """One call of a module in one run."""

    start: int
    end: int
    """A clock that ticks when a call begins or ends: nested calls have nested intervals."""
    inputs: tuple[Fingerprint, ...]
    outputs: tuple[Fingerprint, ...]
    one_argument: bool
    """Whether the only argument is one tensor."""
    values: Values = field(default_factory=dict)


Trace = dict[Key, CallRecord]


@dataclass(frozen=True)
class Edit:
    """Change one tensor that one call returns, to see what depends on it."""

    key: Key
    address: Path


def trace(
    model: nn.Module,
    call: Call,
    mode: Callable[[nn.Module], AbstractContextManager[None]],
    edit: Edit | None = None,
    paths: Collection[str] | None = None,
    keep: Collection[Key] = (),
) -> Trace:
    """Run the model once, record the calls of its modules, and leave the model as it was.

    Every run starts from the same buffers, attributes and random numbers.

    Args:
        model: the bare model.
        call: its arguments; a model may write into them.
        mode: ``eval_mode``, ``training_mode`` or ``training_branch``.
        edit: an output to change on the way.
        paths: of the modules to record; None: all.
        keep: the calls whose tensors are copied, too.
    """
    recorder = _Recorder(keep)
    args, kwargs = call
    with (
        isolated(model, device_of(model, call)),
        paused(model),
        mode(model),
        torch.enable_grad(),  # some models register gradient hooks in forward
        _recording(model, recorder, edit, paths),
    ):
        model(*args, **kwargs)
    return recorder.trace


def device_of(model: nn.Module, call: Call) -> torch.device:
    """Where the model runs: the device of its parameters, or of its inputs if it is offloaded.

    The parameters of an offloaded model are on ``meta`` until the model is called.
    """
    found = [*model.parameters(), *(x for _, x in call_tensors(call))]
    return next((x.device for x in found if x.device.type != "meta"), torch.device("cpu"))


@contextmanager
def _recording(
    model: nn.Module, recorder: _Recorder, edit: Edit | None, paths: Collection[str] | None
) -> Iterator[None]:
    modules = dict(model.named_modules())
    hooks = []
    try:
        if edit is not None:
            hooks.append(modules[edit.key[0]].register_forward_hook(_editing(edit)))
        for path, module in modules.items():
            wanted = paths is None or path in paths
            if wanted and not isinstance(module, torch.jit.ScriptModule):
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

    def __init__(self, keep: Collection[Key]) -> None:
        self.trace: Trace = {}
        self._keep = frozenset(keep)
        self._clock = 0
        self._calls: Counter[str] = Counter()
        self._open: list[tuple[Key, int, tuple[Fingerprint, ...], bool, Values]] = []

    def before(self, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = list(call_tensors((args, kwargs)))
            received = tuple(fingerprint(x, at) for at, x in given)
            key = path, self._calls[path]
            one = not kwargs and len(args) == 1 and isinstance(args[0], Tensor)
            kept = self._copies(key, "inputs", given)
            self._open.append((key, self._tick(), received, one, kept))
            self._calls[path] += 1

        return hook

    def after(self, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, returned: Any) -> None:
            # A call that raised an exception which the model caught never ends: drop it here.
            while self._open:
                key, start, received, one, kept = self._open.pop()
                if key[0] == path:
                    given = list(tensors(returned))
                    outputs = tuple(fingerprint(x, at) for at, x in given)
                    kept |= self._copies(key, "outputs", given)
                    self.trace[key] = CallRecord(start, self._tick(), received, outputs, one, kept)
                    return

        return hook

    def _copies(self, key: Key, side: str, given: list[tuple[Path, Tensor]]) -> Values:
        if key not in self._keep:
            return {}
        return {(side, at): x.detach().clone() for at, x in given}

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def fingerprint(x: Tensor, address: Path = ()) -> Fingerprint:
    """A weighted sum over each column of ``[B, ...]``; it depends on the order of the rows."""
    x = x.detach()
    floating = x.is_floating_point()
    if x.is_nested:
        x = torch.nested.to_padded_tensor(x, 0.0)
    elif x.layout != torch.strided:
        x = x.to_dense()
    values = torch.view_as_real(x).flatten(-2) if x.is_complex() else x
    # Apple GPUs have no float64. Attention masks hold infinities.
    values = values.to(torch.float32 if x.device.type == "mps" else torch.float64)
    values = values.nan_to_num(0.0, 1.0, -1.0)
    if values.dim() < 2:
        values = values.reshape(-1, 1)
    axes = (-1, 0) if values.dim() == 2 else (-1, 0, 1)
    columns = {axis: _sums(values, axis).cpu() for axis in axes}
    scale = _sums(values.abs(), -1).max().item() if values.numel() else 0.0
    return Fingerprint(address, tuple(x.shape), floating, columns, scale)


def _sums(values: Tensor, axis: int) -> Tensor:
    rows = values.movedim(axis, -1).reshape(-1, values.shape[axis])
    # Multiples of the golden ratio give different weights without drawing random numbers.
    steps = torch.arange(len(rows), device=rows.device, dtype=rows.dtype)
    return (steps.mul(0.6180339887498949).frac() + 0.5) @ rows
