"""The model and its inputs: which of them are modalities, and how to permute the rows of one."""

from __future__ import annotations

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
from .input_names import Grouping, InputNames
from .not_modalities import why_no_modality

__all__ = ["Inputs", "bare_model", "call_of", "read_inputs"]


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
    groups: tuple[tuple[Path, ...], ...]
    """For each modality, its tensors."""
    names: tuple[str, ...]
    """One for each modality: the user's, or the keyword, key or parameter of ``forward``."""
    batch: int
    notes: tuple[str, ...] = ()
    """What is not counted as a modality, and why."""

    def fresh(self) -> Call:
        """The call with a copy of every tensor, since a model may write into its inputs."""
        args, kwargs = self.call
        return mapped(args, Tensor.clone), mapped(kwargs, Tensor.clone)

    def permuted(self, modality: int) -> Call:
        """The call with the rows of one modality permuted: each sample gets another one's."""
        given = dict(call_tensors(self.call))
        new = {address: _permuted(given[address]) for address in self.groups[modality]}
        return with_values(self.fresh(), new)


def call_of(model: nn.Module, inputs: Sequence[Any]) -> Call:
    """How the model is called: a single mapping holds keywords if ``forward`` has these.

    Raises:
        InputError: ``forward`` does not take these inputs.
    """
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


def read_inputs(model: nn.Module, call: Call, grouping: Grouping | None = None) -> Inputs:
    """Find the modalities among the arguments: tensors ``[B, ...]`` of two or more axes, B >= 2.

    Masks of 0 and 1, positions, and whole numbers that are equal in all samples are not modalities
    unless the user names them.

    Raises:
        InputError: fewer than two are modalities, or the user names an input that there is not.
    """
    given, known = dict(call_tensors(call)), InputNames(model, call)
    chosen, ignored = (grouping or Grouping({}, ())).addresses(known)
    named = [*ignored, *(at for group in chosen.values() for at in group)]
    batch = next((len(x) for at, x in given.items() if x.dim() >= 2 and at not in ignored), 0)
    _refuse_without_rows({known.names[at]: given[at] for at in named if at not in ignored}, batch)
    others = {known.names[at]: "ignored, as you asked" for at in ignored}
    others |= dict.fromkeys(known.absent, "None")
    groups = {group[0]: (name, tuple(group)) for name, group in chosen.items()}
    for at, x in given.items():
        if at in named or x.dim() < 2:
            continue
        if why := why_no_modality(x, known.names[at], batch):
            others[known.names[at]] = why
        else:
            groups[at] = known.names[at], (at,)
    notes = (f"not counted as a modality: {_listed(others)}",) if others else ()
    if len(groups) < 2 or batch < 2:
        raise InputError(
            "the inputs of the model do not hold two modalities",
            got="; ".join((_described(call), *notes)),
            expected="one tensor [B, ...] for each modality, with two or more axes and samples",
            remedy="pass a batch whose samples differ; if the model takes all modalities in one "
            "tensor, choose head= and splits= yourself and check them with cmiei_hooks.verify",
        )
    ordered = [groups[at] for at in given if at in groups]
    names, addresses = zip(*ordered, strict=True)
    return Inputs(call, addresses, names, batch, notes)


def _listed(others: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in others.items())


def _refuse_without_rows(chosen: Mapping[str, Tensor], batch: int) -> None:
    wrong = [name for name, x in chosen.items() if not x.dim() or len(x) != batch]
    if wrong:
        raise InputError(
            "an input of a modality does not have one row for each sample",
            got=", ".join(f"{name} {list(chosen[name].shape)}" for name in wrong),
            expected=f"{batch} rows",
            remedy="leave it out of inputs=, or name it in ignore=",
        )


def _permuted(x: Tensor) -> Tensor:
    rolled = x.roll(1, 0)
    if not torch.equal(rolled, x) or not x.is_floating_point():
        return rolled
    # All samples are equal, as in torch.zeros(...): add noise, drawn from a private generator.
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    return x + noise.to(x)


def _described(call: Call) -> str:
    found = [
        f"{'.'.join(map(str, at))}: {str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
        for at, x in call_tensors(call)
    ]
    return ", ".join(found) or "no tensor"
