"""The inputs of the model: which of them are modalities, what they are called, one exchanged."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..fusion import Address, Call, call_of_mapping, call_tensors, mapped, replaced

__all__ = ["Inputs", "read_inputs"]


@dataclass(frozen=True)
class Inputs:
    """A call of the model, and where its modalities stand in it."""

    call: Call
    addresses: tuple[Address, ...]
    names: tuple[str, ...]
    """One for each address; as the model calls them."""
    batch: int

    def fresh(self) -> Call:
        """The call with copies of every tensor: a model may write into its inputs."""
        args, kwargs = self.call
        return mapped(args, Tensor.clone), mapped(kwargs, Tensor.clone)

    def exchanged(self, modality: int) -> Call:
        """The same call with the rows of one modality exchanged among the samples."""
        args, kwargs = self.fresh()
        address = self.addresses[modality]
        new = _exchanged(dict(call_tensors(self.call))[address])
        if isinstance(address[0], int):
            return replaced(args, address, new), kwargs
        return args, replaced(kwargs, address, new)


def read_inputs(model: nn.Module, inputs: Sequence[Any]) -> Inputs:
    """Find the modalities among ``inputs``: tensors ``[B, ...]`` of two or more axes, B >= 2.

    A mapping as the only input is taken for keywords if they fit ``forward``, else it is passed as
    it is. A tensor whose rows cannot be told apart, such as a mask of ones, is no modality.

    Raises:
        InputError: the model cannot be called like this, or fewer than two modalities are left.
    """
    call = _call(model, inputs)
    found = [(at, x) for at, x in call_tensors(call) if x.dim() >= 2]
    batch = found[0][1].shape[0] if found else 0
    addresses = [
        at
        for at, x in found
        if x.shape[0] == batch >= 2 and x.numel() and not torch.equal(_exchanged(x), x)
    ]
    if len(addresses) < 2:
        raise InputError(
            "two modalities cannot be found among the inputs of the model",
            got=_described(call),
            expected="two or more tensors [B, ...] with two or more axes and two or more samples, "
            "one for each modality",
            remedy="pass a batch whose samples differ; if the model takes all modalities in one "
            "tensor, name head= and splits= yourself and check them with cmiei_hooks.verify",
        )
    return Inputs(call, tuple(addresses), _names(model, addresses), batch)


def _call(model: nn.Module, inputs: Sequence[Any]) -> Call:
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        call = call_of_mapping(model.forward, inputs[0])
        if call[1]:
            return call
    try:
        inspect.signature(model.forward).bind(*inputs)
    except TypeError as error:
        raise InputError(
            "the model cannot be called with these inputs",
            got=f"{_described((tuple(inputs), {}))}: {error}",
            expected="the inputs of forward by position, or one dict of its keywords",
            remedy="pass what the training loop passes, labels included if forward takes them",
        ) from None
    return tuple(inputs), {}


def _exchanged(x: Tensor) -> Tensor:
    rolled = x.roll(1, 0)
    if not torch.equal(rolled, x) or not x.is_floating_point():
        return rolled
    # All samples are alike, as in torch.zeros(...): noise from a generator of its own.
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    return x + noise.to(x)


def _names(model: nn.Module, addresses: Sequence[Address]) -> tuple[str, ...]:
    parameters = [
        parameter.name
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]

    def root(key: Any) -> str:
        if isinstance(key, str):
            return key
        return parameters[key] if key < len(parameters) else f"m{key}"

    def short(at: Address) -> str:
        if len(at) == 1:
            return root(at[0])
        return at[-1] if isinstance(at[-1], str) else f"{long(at[:-1])}{at[-1]}"

    def long(at: Address) -> str:
        return "_".join([root(at[0]), *map(str, at[1:])])

    shorts = [short(at) for at in addresses]
    count = Counter(shorts)
    return tuple(
        name if count[name] == 1 else long(at) for name, at in zip(shorts, addresses, strict=True)
    )


def _described(call: Call) -> str:
    found = [
        f"{'.'.join(map(str, at))}: {str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
        for at, x in call_tensors(call)
    ]
    return ", ".join(found) or "no tensor"
