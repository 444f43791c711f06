"""The model and its inputs: which of them are modalities, and how to permute the rows of one."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .._torch import original
from ..errors import InputError
from ..fusion import (
    Call,
    Path,
    call_of_mapping,
    call_tensors,
    mapped,
    refuse_lazy,
    refuse_misfit,
    refuse_non_module,
    with_values,
)

__all__ = ["Inputs", "bare_model", "read_inputs"]


def bare_model(model: nn.Module) -> nn.Module:
    """The model itself, without the wrappers of DistributedDataParallel and torch.compile.

    Raises:
        HeadError: it is not a model, or it holds lazy modules that have never been called.
    """
    refuse_non_module(model)
    model = original(model)  # compiled code ignores hooks that are added later
    if isinstance(model, DistributedDataParallel):
        return bare_model(model.module)
    refuse_lazy(model)
    return model


@dataclass(frozen=True)
class Inputs:
    """A call of the model, and where its arguments hold each modality."""

    call: Call
    addresses: tuple[Path, ...]
    names: tuple[str, ...]
    """One for each address, taken from the keywords, keys or parameters of ``forward``."""
    batch: int

    def fresh(self) -> Call:
        """The call with a copy of every tensor, since a model may write into its inputs."""
        args, kwargs = self.call
        return mapped(args, Tensor.clone), mapped(kwargs, Tensor.clone)

    def permuted(self, modality: int) -> Call:
        """The call with the rows of one modality permuted: each sample gets another one's."""
        address = self.addresses[modality]
        new = _permuted(dict(call_tensors(self.call))[address])
        return with_values(self.fresh(), {address: new})


def read_inputs(model: nn.Module, inputs: Sequence[Any]) -> Inputs:
    """Find the modalities among ``inputs``: tensors ``[B, ...]`` of two or more axes, B >= 2.

    A single mapping is passed as keywords if ``forward`` has these, else as one argument. A tensor
    of whole numbers whose rows are all equal, such as a mask of ones, is not a modality.

    Raises:
        InputError: the model cannot be called with these inputs, or fewer than two are modalities.
    """
    call = _call(model, inputs)
    found = [(at, x) for at, x in call_tensors(call) if x.dim() >= 2]
    batch = found[0][1].shape[0] if found else 0
    addresses = [
        at
        for at, x in found
        if x.shape[0] == batch >= 2 and x.numel() and not torch.equal(_permuted(x), x)
    ]
    if len(addresses) < 2:
        raise InputError(
            "the inputs of the model do not hold two modalities",
            got=_described(call),
            expected="one tensor [B, ...] for each modality, with two or more axes and samples",
            remedy="pass a batch whose samples differ; if the model takes all modalities in one "
            "tensor, choose head= and splits= yourself and check them with cmiei_hooks.verify",
        )
    return Inputs(call, tuple(addresses), _names(model, addresses), batch)


def _call(model: nn.Module, inputs: Sequence[Any]) -> Call:
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        by_keyword = call_of_mapping(model.forward, inputs[0])
        if by_keyword[1]:
            return by_keyword
    call: Call = tuple(inputs), {}
    refuse_misfit(
        model.forward,
        call,
        InputError,
        "the model cannot be called with these inputs",
        got=_described(call),
        expected="the arguments of forward by position, or one dict of its keywords",
        remedy="pass what the training loop passes, with labels if forward takes them",
    )
    return call


def _permuted(x: Tensor) -> Tensor:
    rolled = x.roll(1, 0)
    if not torch.equal(rolled, x) or not x.is_floating_point():
        return rolled
    # All samples are equal, as in torch.zeros(...): add noise, drawn from a private generator.
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    return x + noise.to(x)


def _names(model: nn.Module, addresses: Sequence[Path]) -> tuple[str, ...]:
    parameters = [
        parameter.name
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]

    def root(key: Any) -> str:
        if isinstance(key, str):
            return key
        return parameters[key] if key < len(parameters) else f"m{key}"

    def short(at: Path) -> str:
        if len(at) == 1:
            return root(at[0])
        return at[-1] if isinstance(at[-1], str) else f"{long(at[:-1])}{at[-1]}"

    def long(at: Path) -> str:
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
