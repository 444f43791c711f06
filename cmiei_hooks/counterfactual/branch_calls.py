"""Hooks for decisions that are averaged: gather the logits of the branches, and act on their
combination.

A forward of the model calls each branch, and combines their logits by functions that no hook sees.
So the branches are watched, and when the model returns, the hooks of the head (which the model does
not contain) are called with the logits of its branches. Where these hooks change logits, the
combined ones are replaced in what the model returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._torch import exporting, forward_hooks, in_backward, is_fake, original, pre_hooks, transform
from ..errors import CMIEIError, InputError
from ..fusion import Call, Captured, Combination, Head, Path, refuse_replica, replaced, tensors
from .branch_hook import BranchHook
from .branch_rerun import BranchCall, branch_inputs, check_branch, logits_in, logits_of_branches
from .combined_logits import combined_error, find_combined, still_there
from .isolation import isolated, not_recorded

__all__ = ["BranchCalls"]

Logits = dict[str, Tensor | None]
"""The logits of each branch by its label; None if it was not called."""


class BranchCalls:
    """Watches the branches in each forward of the model, and calls the hooks of the head.

    The modules that contain all branches are watched, too. The innermost of them that returns the
    combined logits is where these are replaced: a training loop need not call the whole model.

    Args:
        head: of branches.
        model: that contains them.
        training: only in training mode.
        acts: whether the hooks of the head may change the logits: then what the branches receive
            is kept.
    """

    def __init__(
        self, head: Head, model: nn.Module, *, training: bool = False, acts: bool = False
    ) -> None:
        self.head, self._training, self._acts = head, training, acts
        self._given: dict[int, list[BranchCall]] = {}
        """The calls in this forward, by the identity of the module."""
        self._depth = 0
        """How many of the modules that contain all branches are being called."""
        self._begun = False
        """Whether a forward began since; ``cmiei run`` attaches when one is already going on."""
        self._checked = not acts
        """Whether it is known that the branches can be run again."""
        self._complete = False
        """Whether all branches were called in a forward."""
        self._place: tuple[int, tuple[Path, ...]] | None = None
        """Which of the modules returns the combined logits, and where."""
        self._refusal: CMIEIError | None = None
        self._now: dict[str, BranchCall] = {}
        """The calls of the branches, by their labels, while the hooks of the head run."""
        self._hooks = [*self._watch_branches(), *self._watch_ends(original(model))]

    def _hook(
        self, run: Callable[..., Any], arguments: int, number: int | None = None
    ) -> BranchHook:
        return BranchHook(self.head, self._passes, run, arguments, number)

    def _watch_branches(self) -> list[RemovableHandle]:
        hooks = []
        for module in {id(b.module): b.module for b in self.head.branches}.values():
            before = self._hook(self._begin_branch, 2)
            after = self._hook(self._end_branch, 3)
            hooks.append(module.register_forward_pre_hook(before, with_kwargs=True))
            hooks.append(module.register_forward_hook(after, with_kwargs=True))
        return hooks

    def _watch_ends(self, model: nn.Module) -> list[RemovableHandle]:
        branches = {id(b.module) for b in self.head.branches}
        around = [
            m
            for m in model.modules()
            if id(m) not in branches and branches <= {id(inner) for inner in m.modules()}
        ]
        hooks = []
        for number, module in enumerate(around):
            begin = self._hook(self._begin, 2)
            end = self._hook(self._end, 3, number)
            hooks.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            # After an exception, too: the tensors of the forward must not be kept.
            after = module.register_forward_hook(end, with_kwargs=True, always_call=True)
            hooks.append(after)
        return hooks

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._given, self._now = [], {}, {}

    def _passes(self, module: nn.Module) -> bool:
        """Whether a call is to be left alone, without a graph break in compiled code."""
        evaluated = self._training and not module.training
        # Inside of a model in training mode, a frozen branch may be in eval mode.
        return not self._hooks or (evaluated and not self._depth) or exporting()

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._begun = True
        if not self._depth:
            self._given = {}
            if self._refusal is not None:
                raise self._refusal
        self._depth += 1

    def _begin_branch(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if all(branch.module is not module for branch in self.head.branches):
            refuse_replica(module, self.head.branches[0].module)
        # Else it is computed again by checkpointing, or called by itself.
        if self._depth or not (self._begun or in_backward()):
            call = BranchCall.begun((args, kwargs), keep=self._acts)
            self._given.setdefault(id(module), []).append(call)

    def _end_branch(self, module: nn.Module, args: Any, kwargs: Any, returned: Any) -> None:
        calls = self._given.get(id(module))
        if calls and (self._depth or not (self._begun or in_backward())):
            calls[-1].returned = returned

    def _end(self, number: int, module: nn.Module, args: Any, kwargs: Any, returned: Any) -> Any:
        outermost, self._depth = self._depth == 1, max(self._depth - 1, 0)
        given = self._given
        if outermost:
            self._given = {}
        if returned is None or not given:
            return None
        elsewhere = self._place is not None and self._place[0] != number
        if elsewhere and not outermost:
            return None
        calls = self._by_label(given)
        logits = {
            b.label: logits_in(b, calls[b.label].returned) if b.label in calls else None
            for b in self.head.branches
        }
        if None in logits.values():
            if outermost:  # a module around this one may call the others
                self._refuse_absent(logits)
                self._call_hooks(module, logits, None)
            return None
        self._complete = True
        with not_recorded():
            return self._answer(number, module, logits, calls, returned, outermost)

    def _by_label(self, given: dict[int, list[BranchCall]]) -> dict[str, BranchCall]:
        """The calls of the branches.

        Raises:
            InputError: a branch was called more often than it is named.
        """
        found = {}
        for branch in self.head.branches:
            calls = given.get(id(branch.module), [])
            if len(calls) > branch.calls:
                raise InputError(
                    f"the branch {branch.name!r} is called more often than it is named",
                    got=f"{len(calls)} calls in one forward of the model",
                    expected=f"{branch.calls}",
                    remedy="name one module for each modality; if one classifier serves all of "
                    "them, name it once for each, in the order of its calls",
                )
            if len(calls) == branch.calls:  # else it is unknown which modality is missing
                found[branch.label] = calls[branch.call]
        return found

    def _refuse_absent(self, logits: Logits) -> None:
        absent = [label for label, one in logits.items() if one is None]
        if self._complete:
            return  # this batch lacks a modality
        raise InputError(
            "a branch is not called by the model",
            got=f"no call of {', '.join(map(repr, absent))}, or fewer than it is named",
            expected="one call of each branch in a forward of the model",
            remedy="name for each modality the module that returns its logits, and that the model "
            "calls in this mode",
        )

    def _answer(
        self,
        number: int,
        module: nn.Module,
        logits: Logits,
        calls: dict[str, BranchCall],
        returned: Any,
        outermost: bool,
    ) -> Any:
        """Call the hooks of the head; what the module returns instead, or None."""
        known = [one for one in logits.values() if one is not None]
        if transform() is not None or any(one.is_meta or is_fake(one) for one in known):
            self._call_hooks(module, logits, None)  # there are no values to be compared
            return None
        paths = self._paths(number, logits, returned, outermost)
        if not paths:
            return None
        self._given = {}  # a module around this one is not asked again
        self._now = calls
        try:
            new = self._call_hooks(module, logits, dict(tensors(returned))[paths[0]])
        finally:
            self._now = {}
        return None if new is None else self._replaced(returned, paths, logits, new)

    def _paths(
        self, number: int, logits: Logits, returned: Any, outermost: bool
    ) -> tuple[Path, ...]:
        """Where the combined logits are.

        Raises:
            HeadError: they are in nothing that the model returns.
        """
        given = next(iter(logits.values()))
        if self._place is not None and self._place[0] == number and given is not None:
            paths = self._place[1]
            if all(still_there(returned, path, given) for path in paths):
                return paths
        with torch.no_grad():
            found = find_combined(returned, self._combined(logits, self.head.first))
            if found.paths and found.sure:
                self._place = number, found.paths
            elif not found.paths and outermost:
                words = {word: Combination(word) for word in ("sum", "mean")}
                others = {
                    word: bool(find_combined(returned, self._combined(logits, one)).paths)
                    for word, one in words.items()
                }
                self._refusal = combined_error(self.head.name, found, others)
                raise self._refusal
        return found.paths

    def _combined(self, logits: Logits, how: nn.Module) -> Tensor:
        device = next(one.device for one in logits.values() if one is not None)
        with_gradient = torch.is_grad_enabled()
        with isolated(how, device), torch.set_grad_enabled(with_gradient):
            combined: Tensor = how.forward(**logits)
            return combined.clone()

    def _call_hooks(self, module: nn.Module, logits: Logits, own: Tensor | None) -> Call | None:
        """What the hooks of the head change the logits to; None if they change nothing."""
        first, call = self.head.first, ((), dict(logits))
        first.training = module.training
        changed = None
        for hook in pre_hooks(first):
            new = hook.call(first, *call)
            call = changed = call if new is None else new
        for hook in forward_hooks(first) if own is not None else ():
            hook.call(first, call[0], own)
        return changed if changed is not None and changed[1] is not logits else None

    def _replaced(self, returned: Any, paths: tuple[Path, ...], logits: Logits, call: Call) -> Any:
        """What a module returned, with other combined logits in the rows that were changed."""
        pairs = [(new, logits[label]) for label, new in call[1].items()]
        rows = torch.stack([(new != old).reshape(len(new), -1).any(1) for new, old in pairs]).any(0)
        combined = self._combined(call[1], self.head.first)
        for path in paths:
            own = dict(tensors(returned))[path]
            where = rows.reshape(-1, *[1] * (own.dim() - 1))
            returned = replaced(returned, path, torch.where(where, combined.to(own.dtype), own))
        return returned

    # What a substitution asks for, while the hooks of the head run.

    def check(self, captured: Captured) -> None:
        """Refuse branches at which nothing can be substituted, in the first step."""
        checked, self._checked = self._checked, True
        for branch in () if checked else self.head.branches:
            check_branch(branch, self._now[branch.label], captured.tensors[branch.label,])

    def substituted(
        self,
        captured: Captured,
        chosen: Tensor,
        replace: Callable[[Captured], dict[Path, Tensor]],
    ) -> Call:
        """The call of the head in which the chosen branch of each sample is substituted.

        Args:
            captured: the call of the head.
            chosen: int64 ``[B]``, the index of a modality, -1 for none; for several bool ``[B,
                M]``.
            replace: substitutes the chosen modalities in a call.
        """
        branches = self.head.branches
        inputs = branch_inputs(branches, self._now, captured)
        _, given = inputs.call_with(replace(inputs))
        return logits_of_branches(branches, self._now, captured, given, chosen)
