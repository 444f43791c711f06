"""One call of a branch, and the branch run again with another input.

A substitution at a branch replaces what the branch receives: the tensors among its arguments that
require gradient, which trained layers have computed. A branch that receives none is a whole encoder
(or is frozen), and its logits are replaced instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .._torch import in_autocast, version
from ..errors import CMIEIError, HeadError, InputError
from ..functional import rows_of
from ..fusion import (
    Branch,
    Call,
    Captured,
    Path,
    Slice,
    call_tensors,
    describe,
    read_part,
    refuse_kind,
    refuse_weights,
)
from .chain_check import tolerance
from .failure import may_be_of_the_input
from .isolation import isolated, rewinding

__all__ = ["BranchCall", "branch_inputs", "check_branch", "logits_of_branches"]


@dataclass
class BranchCall:
    """One call of the module of a branch."""

    call: Call
    """Its arguments; none if nothing will be substituted."""
    rewind: Callable[[], None] | None = None
    """Sets the random generators back to where the call began."""
    versions: list[int] = field(default_factory=list)
    """Of the tensors in the call, when it began."""
    with_gradient: bool = True
    returned: Any = None

    @classmethod
    def begun(cls, call: Call, *, keep: bool) -> BranchCall:
        """A call that begins.

        Args:
            call: the arguments.
            keep: keep what the branch needs to run again.
        """
        if not keep:
            return cls(((), {}))
        found = [tensor for _, tensor in call_tensors(call)]
        device = found[0].device if found else torch.device("cpu")
        versions = [version(tensor) for tensor in found]
        return cls(call, rewinding(device), versions, torch.is_grad_enabled())

    def features(self, samples: int) -> list[Path]:
        """Where in the arguments the features are that trained layers have computed."""
        return [
            path
            for path, tensor in call_tensors(self.call)
            if tensor.requires_grad and tensor.dim() and len(tensor) == samples
        ]


def branch_inputs(
    branches: Sequence[Branch], calls: Mapping[str, BranchCall], captured: Captured
) -> Captured:
    """What is substituted instead of the captured logits, as one call.

    Args:
        branches: of the head.
        calls: of the branches, by their labels.
        captured: the call of the head with the logits of the branches.

    Raises:
        InputError: a branch was called without gradient, or receives a tensor of another kind.
    """
    given: dict[str, Any] = {}
    found: dict[Path, Tensor] = {}
    groups = []
    for branch in branches:
        call, logits = calls[branch.label], captured.tensors[branch.label,]
        if not call.with_gradient:
            raise _without_gradient(branch)
        paths = {
            (branch.label, 0 if isinstance(path[0], int) else 1, *path): tensor
            for path, tensor in call_tensors(call.call)
            if path in call.features(captured.batch)
        }
        for tensor in paths.values():
            refuse_kind(tensor, f"the input of the branch {branch.label!r}")
        given[branch.label] = call.call if paths else logits
        paths = paths or {(branch.label,): logits}
        found |= paths
        groups.append(tuple(map(Slice, paths)))
    return Captured(((), given), found, tuple(groups), -1)


def logits_of_branches(
    branches: Sequence[Branch],
    calls: Mapping[str, BranchCall],
    captured: Captured,
    given: Mapping[str, Any],
    chosen: Tensor,
) -> Call:
    """The call of the head in which the chosen branch of each sample has run on another input.

    Args:
        branches: of the head.
        calls: of the branches, by their labels.
        captured: the call of the head, with the logits as they are.
        given: the arguments of each branch, or its logits, after the substitution.
        chosen: int64 ``[B]``, the index of a branch, -1 for none; bool ``[B, M]`` for several. Rows
            of other branches stay.
    """
    new: dict[Path, Tensor] = {}
    for m, branch in enumerate(branches):
        logits, value = captured.tensors[branch.label,], given[branch.label]
        if not isinstance(value, Tensor):
            again = _run_substituted(branch, calls[branch.label], value).to(logits.dtype)
            rows = rows_of(chosen, m).reshape(-1, *[1] * (logits.dim() - 1))
            value = torch.where(rows, again, logits)
        new[branch.label,] = value
    return captured.call_with(new)


def _run_substituted(branch: Branch, call: BranchCall, given: Call) -> Tensor:
    try:
        return run_again(branch, call, given)
    except Exception as error:
        if not may_be_of_the_input(error):
            raise
        raise HeadError(
            f"the branch {branch.label!r} fails where its features are substituted",
            got=f"{type(error).__name__}: {error}".splitlines()[0],
            expected="a branch that can run on any numbers: a step that substitutes runs it so",
            remedy="name a smaller module as the branch, behind what refuses them, or set P_MAX 0 "
            "to measure only",
        ) from error


def run_again(branch: Branch, call: BranchCall, given: Call) -> Tensor:
    """The logits of a branch from other arguments, with gradient and without any other trace.

    It draws the same random numbers (dropout masks) as in its own call.
    """
    _refuse_sharded(branch)
    refuse_weights(branch.module)
    args, kwargs = given
    device = next(tensor.device for _, tensor in call_tensors(given))
    with_gradient = torch.is_grad_enabled()
    with isolated(branch.module, device), torch.set_grad_enabled(with_gradient):
        if call.rewind is not None:
            call.rewind()
        returned = branch.module.forward(*args, **kwargs)
        return logits_in(branch, returned).clone()  # it may reuse its output


def logits_in(branch: Branch, returned: Any) -> Tensor:
    """The logits in what a branch returned.

    Raises:
        InputError: they are not a tensor.
    """
    logits = read_part(returned, branch.output)
    if isinstance(logits, Tensor) and logits.is_floating_point() and logits.dim():
        return logits
    raise InputError(
        f"the branch {branch.label!r} does not return logits",
        got=describe(logits),
        expected="a floating-point tensor [B, C]",
        remedy="name the module that returns the logits of this modality, or say with output= "
        "which part of what the branches return they are",
    )


def check_branch(branch: Branch, call: BranchCall, logits: Tensor) -> None:
    """Refuse a branch that gives other logits when it runs again, before anything is substituted.

    Raises:
        InputError: it does, writes into its input, or was called without gradient.
    """
    if not call.with_gradient:
        raise _without_gradient(branch)
    features = call.features(len(logits))
    if not features:
        return
    after = [version(tensor) for _, tensor in call_tensors(call.call)]
    if after != call.versions:
        raise InputError(
            f"the input of the branch {branch.label!r} is written into before the model returns",
            got=f"{describe(call.call[0])}, changed in place",
            expected="a branch that can run again on what it received",
            remedy="leave inplace=True out of its first layer, or set P_MAX 0 to measure only",
        )
    with torch.no_grad():
        given = tuple(call.call[0]), dict(call.call[1])
        again = run_again(branch, call, given)
    coarse = in_autocast(logits.device.type)
    both = again.isfinite() & logits.isfinite() if again.shape == logits.shape else None
    if both is not None:
        largest = logits.where(both, 0).abs().amax()
        difference = (again - logits).where(both, 0).abs().amax()
        if bool(difference <= tolerance(again, logits, coarse=coarse) * largest):
            return
    got = "another shape" if both is None else f"largest difference {difference:.3g}"
    raise InputError(
        f"the branch {branch.label!r} gives other logits when it runs again on the same input",
        got=got,
        expected="the same logits: a substitution runs the branch again",
        remedy="a forward hook of yours on the branch, or random numbers that torch does not "
        "draw, change them: name a module that contains the hook, or set P_MAX 0 to measure only",
    )


def _refuse_sharded(branch: Branch) -> None:
    if any(hasattr(parameter, "to_local") for parameter in branch.module.parameters()):
        raise InputError(
            f"the branch {branch.label!r} has sharded parameters of its own",
            got=f"{type(branch.module).__name__} with DTensor parameters after its call",
            expected="parameters that are whole until the model returns: then the branch runs "
            "again",
            remedy="shard the module that contains all branches and not each of them, or set "
            "P_MAX 0 to measure only",
        )


def _without_gradient(branch: Branch) -> CMIEIError:
    return InputError(
        f"the branch {branch.label!r} is called without gradient, as reentrant checkpointing does",
        got="a call under no_grad in training",
        expected="features that the gradient can flow through: the batch mean is one",
        remedy="checkpoint(..., use_reentrant=False), or set P_MAX 0 to measure only",
    )
