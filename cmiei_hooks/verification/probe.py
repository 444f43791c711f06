"""Hooks on the head that check its first call: modalities, logits, re-run, gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .._torch import in_backward, out_of_memory, version
from ..counterfactual import (
    HeadOutput,
    batch_axis_error,
    estimate,
    find_batch_axis,
    head_output,
    isolated,
    not_recorded,
    possible_batch_axes,
    refuse_recursion,
    run_links,
)
from ..errors import CMIEIError
from ..fusion import (
    Call,
    Captured,
    Head,
    ends_in_probabilities,
    looks_like_probabilities,
    read_logits,
    read_part,
)
from ..measures import least_logits
from .report import Check

__all__ = ["HeadProbe", "one_line"]

_RERUN = "re-entry gives the real logits"

_ROUNDING = 16
"""Differences of up to so many units in the last place of the largest logit are rounding."""


@dataclass
class HeadProbe:
    """Checks the first call of the head, and hands the head copies of its input."""

    head: Head
    calls: int = 0
    ends: int = 0
    """The calls of the first and of the last link."""
    checks: list[Check] = field(default_factory=list)
    captured: Captured | None = None
    """The first call, if it can be measured."""
    logits: Tensor | None = None
    """The logits that a re-run of the head returned."""
    features: list[Tensor] = field(default_factory=list)
    handed: list[Tensor] = field(default_factory=list)
    """The captured tensors, and the copies of them that the head received."""
    returned: Any = None
    """What the head returned in its first call."""
    outputs: list[HeadOutput] = field(default_factory=list)
    """The logits of every call."""

    def before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """The pre-hook of the first link."""
        partition = self.head.partition
        if in_backward():  # checkpointing computes the first call again
            captured = partition.read(args, kwargs)
            return captured.call_with(captured.copies())
        refuse_recursion(self.head)
        self.calls += 1
        try:
            captured = partition.read(args, kwargs)
        except CMIEIError as error:
            if self.calls == 1:
                self.checks.append(Check("modalities", False, one_line(error)))
            return None
        if self.calls == 1 and not self._check(captured):
            return None
        if self.head.branches:
            return None  # the model has combined their logits already
        copies = captured.copies()
        self.features += captured.tensors.values()
        self.handed += copies.values()
        return captured.call_with(copies)

    def after(self, _: nn.Module, args: Any, returned: Any) -> None:
        """The forward hook of the last link."""
        if in_backward():
            return
        self.ends += 1
        with not_recorded():
            output = head_output(self.head, returned)
        self.outputs += [output] if output else []
        if self.ends > 1 or self.logits is None:
            return
        with torch.no_grad(), not_recorded():
            self.checks.append(self._compare(self.logits, returned))
        self.checks += _probabilities(self.head, returned, self.logits)
        self.returned = returned
        if self.head.branches:
            self.features = self.handed = [returned]

    def _check(self, captured: Captured) -> bool:
        """Check the first call; whether it can be measured."""
        partition = self.head.partition
        shapes = ", ".join(str(list(tensor.shape)) for tensor in captured.tensors.values())
        self.checks.append(Check("modalities", True, f"{shapes}: {partition.described}"))
        if captured.batch == 1:
            found = "a batch of one has no other sample to take a mean of"
            found += ", so DROP mean drops nothing" if self.head.drop == "mean" else ""
            self.checks.append(Check("two or more samples", False, found))
        state = _state(self.head.whole)
        try:
            self.logits = estimate(self.head, captured).logits
        except CMIEIError as error:
            self.checks.append(Check("logits", False, one_line(error)))
            return False
        except Exception as error:  # the head's own, on its own input
            found = f"the head fails when it runs a second time ({type(error).__name__}: {error})"
            found += "; name a head that can be called again with the same input"
            self.checks.append(Check("logits", False, found))
            return False
        self.captured = captured
        self.checks.append(Check("logits", True, f"{list(self.logits.shape)}"))
        self.checks += _batch_axis(self.head, captured)
        changed = _changed(state, _state(self.head.whole))
        found = "changed: " + ", ".join(changed) if changed else "unchanged"
        self.checks.append(Check("buffers, parameters, generators", not changed, found))
        self.checks.append(_gradient(self.head, captured))
        return True

    def _compare(self, expected: Tensor, returned: Any) -> Check:
        least = least_logits(self.head.measure)
        try:
            real = read_logits(returned, self.head.outputs[-1], len(expected), least)
        except CMIEIError as error:
            return Check(_RERUN, False, one_line(error))
        if real.shape != expected.shape:
            found = f"shape {list(real.shape)}, not {list(expected.shape)}"
            return Check(_RERUN, False, found)
        if torch.equal(real, expected):
            return Check(_RERUN, True, "equal to the bit")
        difference = (real - expected).abs().max().item() if len(real) else 0.0
        # A product may take another way without gradient, and round in another order.
        exact = real.dtype in (torch.float32, torch.float64)
        if exact and difference <= _ROUNDING * torch.finfo(real.dtype).eps * expected.abs().max():
            return Check(_RERUN, True, f"equal up to rounding ({difference:.1g})")
        found = f"largest difference {difference:.3g}"
        if len(self.head.links) > 1:
            found += ": the model may do something between the links that is not in the chain"
        return Check(_RERUN, False, found)


def one_line(error: CMIEIError) -> str:
    """The problem, what was got and the remedy."""
    return "; ".join(filter(None, (error.problem, error.got, error.remedy)))


def _batch_axis(head: Head, captured: Captured) -> list[Check]:
    """No check if only the first axis can be the batch, or if it cannot be told."""
    if not possible_batch_axes(captured):
        return []
    axis = find_batch_axis(head, captured)
    if axis is None:
        return []
    name = "batch on the first axis"
    if axis:
        return [Check(name, False, one_line(batch_axis_error(captured, axis)))]
    return [Check(name, True, "yes")]


def _probabilities(head: Head, returned: Any, logits: Tensor) -> list[Check]:
    """Softmax over probabilities is nearly uniform: influence is many times too small."""
    if head.measure == "squared":  # regression
        return []
    output = head.outputs[-1]
    # What a function in output= computes is not the end of the module.
    module = nn.Identity() if output is not None else head.last
    real = read_part(returned, output)
    end = ends_in_probabilities(module, real) if isinstance(real, Tensor) else ""
    if not end and looks_like_probabilities(logits):
        end = "softmax"
    name = "head returns logits, not probabilities"
    if not end:
        return [Check(name, True, "yes")]
    inverse = "logit(1e-6)" if end == "sigmoid" else "clamp_min(1e-7).log()"
    measure = ', measure="bernoulli"' if end == "sigmoid" and head.measure != "bernoulli" else ""
    function = f"lambda p: p.{inverse}" if output is None else f"a function that ends in .{inverse}"
    remedy = f"pass output={function}{measure}, or name a module without the {end}"
    found = f"the output is that of a {end}, so influence comes out too small; {remedy}"
    return [Check(name, False, found)]


def _gradient(head: Head, captured: Captured) -> Check:
    name = "gradient reaches the input"
    try:
        reached = _gradient_reaches(head, captured)
    except Exception as error:  # of a forward that goes through numpy, say
        if out_of_memory(error):
            raise
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        found = f"unknown: the head fails on an input that requires gradient ({text})"
        return Check(name, True, found)
    found = "yes" if reached else "no: the head detaches its input, or multiplies it by 0"
    return Check(name, reached, found)


def _gradient_reaches(head: Head, captured: Captured) -> bool:
    with isolated(head.whole, captured.device), torch.enable_grad():
        features = {p: t for p, t in captured.tensors.items() if t.is_floating_point()}
        if not features:
            return True  # token ids: nothing in front of the head is trained
        leaves = {path: t.detach().requires_grad_() for path, t in features.items()}
        # Clones, since the head may begin with an in-place operation, which no leaf allows.
        call = captured.call_with({path: leaf.clone() for path, leaf in leaves.items()})
        logits = run_links(head, call, captured)
        if not logits.requires_grad:
            return False
        gradients = torch.autograd.grad(
            logits.square().sum(), list(leaves.values()), allow_unused=True
        )
    return any(g is not None and bool(g.count_nonzero()) for g in gradients)


def _state(head: nn.Module) -> dict[str, Any]:
    """Everything that a re-run might change, by name: versions, values and generators."""
    state: dict[str, Any] = {"global generator": torch.get_rng_state()}
    for kind, named in (("buffer", head.named_buffers()), ("parameter", head.named_parameters())):
        for name, tensor in named:
            key = f"{kind} {name}"
            state[f"{key} (version)"], state[key] = version(tensor), tensor.detach().clone()
    for path, module in head.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Generator):
                state[f"generator {path + '.' if path else ''}{name}"] = value.get_state()
    return state


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    def same(one: Any, other: Any) -> bool:
        if not isinstance(one, Tensor):
            return bool(one == other)
        # The values of an offloaded parameter are elsewhere: its version must do.
        return one.is_meta or torch.equal(one, other)

    return [key for key in before if key not in after or not same(before[key], after[key])]
