"""A dry run: is everything as attach() needs it on this model, with these inputs?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .._torch import in_backward
from ..counterfactual import measure, quiet, run_links, unseen
from ..errors import CMIEIError
from ..functional import least_logits
from ..fusion import (
    Call,
    Captured,
    Head,
    Outputs,
    call_of_mapping,
    locate,
    read_logits,
    read_part,
    refuse_both,
    training_mode,
)
from ..settings import Config, ConfigSource
from ..training import PreHook, paused
from .gradients import gradient_share, is_used

__all__ = ["Check", "VerifyReport", "verify"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str


@dataclass(frozen=True)
class VerifyReport:
    """What a dry run checked and found. A check that could not be made is not in it."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def table(self) -> Table:
        """One row for each check."""
        table = Table(title="C-MIEI dry run", title_justify="left")
        for header in ("checked", "", "found"):
            table.add_column(header)
        for check in self.checks:
            mark = "[green]ok[/]" if check.ok else "[bold red]no[/]"
            table.add_row(check.name, mark, escape(check.found))
        return table


def verify(
    model: nn.Module,
    *inputs: Any,
    head: str | Sequence[str] | None = None,
    splits: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    modalities: Mapping[str, Any] | None = None,
    dim: int = -1,
    output: Outputs = None,
    config: ConfigSource = None,
    loss: Callable[[Any], Tensor] | None = None,
    strict: bool = False,
    **settings: Any,
) -> VerifyReport:
    """Run the model once in training mode and check what the promise of silence rests on.

    The model, its gradients and the global random generators are left as they were (what a head
    does to its own parameters or generators is reported, not undone); an attachment that it already
    has is suspended meanwhile. Prints a table.

    Args:
        model: as for ``attach``.
        *inputs: what the model is called with; one dict is passed as keywords if ``forward`` has
            these. A small batch of two or more samples will do.
        head: as for ``attach``, like the arguments below.
        splits: widths of the modalities.
        names: names of the modalities.
        modalities: where they are, for heads that receive them otherwise.
        dim: the axis of their concatenation.
        output: which part of the head's return value is the logits.
        config: as for ``attach``.
        loss: a function of what the model returns; then it is also measured how much of the
            backbone's gradient comes through the head. Where that is next to nothing, because the
            head's loss has a small weight, substitution can hardly touch training.
        strict: raise if a check fails.
        **settings: fields of Config.

    Returns:
        The checks, in the order of the table.

    Raises:
        CMIEIError: ``strict`` and a check failed; or a setting is out of range.
    """
    resolved = Config.resolve(config, settings, head=head, splits=splits, names=names)
    refuse_both(splits, modalities)
    checks: list[Check] = []
    try:
        where = locate(model, resolved, modalities=modalities, dim=dim, output=output)
    except CMIEIError as error:
        checks.append(Check("head found", False, _one_line(error)))
    else:
        kinds = " -> ".join(type(link).__name__ for link in where.links)
        checks.append(Check("head found", True, f"{where.name}: {kinds}"))
        checks += _dry_run(model, inputs, _Probe(where), loss)
    report = VerifyReport(tuple(checks))
    Console().print(report.table())
    if strict and not report.ok:
        failed = [check for check in report.checks if not check.ok]
        raise CMIEIError(
            "the dry run found what the promise of silence does not allow",
            got="; ".join(f"{check.name}: {check.found}" for check in failed),
            expected="every check ok",
            remedy="correct the model, or name another head",
        )
    return report


@dataclass
class _Probe:
    """Looks at the first call of the head from its two sides."""

    head: Head
    calls: int = 0
    ends: int = 0
    """Calls of the first and of the last link."""
    checks: list[Check] = field(default_factory=list)
    logits: Tensor | None = None
    """What the re-entered head gave."""
    features: list[Tensor] = field(default_factory=list)
    handed: list[Tensor] = field(default_factory=list)
    """The captured tensors, and the copies of them that the head got."""
    returned: Any = None

    def before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        partition = self.head.partition
        if in_backward():  # checkpointing computes the first call once more
            captured = partition.read(args, kwargs)
            return captured.call_with(captured.copies())
        self.calls += 1
        try:
            captured = partition.read(args, kwargs)
        except CMIEIError as error:
            if self.calls == 1:
                self.checks.append(Check("modalities", False, _one_line(error)))
            return None
        if self.calls == 1 and not self._look(captured):
            return None
        copies = captured.copies()
        self.features += captured.tensors.values()
        self.handed += copies.values()
        return captured.call_with(copies)

    def _look(self, captured: Captured) -> bool:
        """The checks of the first call; whether it can be measured."""
        partition = self.head.partition
        shapes = ", ".join(str(list(tensor.shape)) for tensor in captured.tensors.values())
        parts = zip(partition.names, partition.plain, strict=True)
        found = f"{shapes}: {', '.join(f'{name} {part}' for name, part in parts)}"
        self.checks.append(Check("modalities", True, found))
        state = _state(self.head.whole)
        try:
            self.logits = measure(self.head, captured).logits
        except CMIEIError as error:
            self.checks.append(Check("logits", False, _one_line(error)))
            return False
        self.checks.append(Check("logits", True, f"{list(self.logits.shape)}"))
        moved = _moved(state, _state(self.head.whole))
        found = "changed: " + ", ".join(moved) if moved else "unchanged"
        self.checks.append(Check("buffers, parameters, generators", not moved, found))
        reached = _gradient_reaches(self.head, captured)
        found = "yes" if reached else "no: something in the head detaches it, or multiplies by 0"
        self.checks.append(Check("gradient reaches the input", reached, found))
        return True

    def after(self, _: nn.Module, args: Any, returned: Any) -> None:
        if in_backward():
            return
        self.ends += 1
        if self.ends > 1 or self.logits is None:
            return
        with torch.no_grad(), unseen():
            self.checks.append(self._compared(self.logits, returned))
        self.returned = returned

    def _compared(self, expected: Tensor, returned: Any) -> Check:
        least = least_logits(self.head.measure)
        try:
            real = read_logits(returned, self.head.outputs[-1], len(expected), least)
        except CMIEIError as error:
            return Check(_REENTRY, False, _one_line(error))
        same = torch.equal(real, expected)
        if real.shape == expected.shape:
            difference = (real - expected).abs().max().item() if len(real) else 0.0
            found = "equal to the bit" if same else f"largest difference {difference:.3g}"
            if not same and len(self.head.links) > 1:
                found += ": something between the links, perhaps, is not part of the chain"
        else:
            found = f"shape {list(real.shape)}, not {list(expected.shape)}"
        return Check(_REENTRY, same, found)


_REENTRY = "re-entry gives the real logits"


def _gradient_reaches(head: Head, captured: Captured) -> bool:
    with quiet(head.whole, captured.device), torch.enable_grad():
        leaves = {path: t.detach().requires_grad_() for path, t in captured.tensors.items()}
        # Clones, since the head may begin with an in-place operation, which no leaf allows.
        call = captured.call_with({path: leaf.clone() for path, leaf in leaves.items()})
        logits = run_links(head, call, captured.batch)
        if not logits.requires_grad:
            return False
        gradients = torch.autograd.grad(
            logits.square().sum(), list(leaves.values()), allow_unused=True
        )
    return any(g is not None and bool(g.count_nonzero()) for g in gradients)


def _dry_run(
    model: nn.Module,
    inputs: Sequence[Any],
    probe: _Probe,
    loss: Callable[[Any], Tensor] | None,
) -> list[Check]:
    order = _hook_order(probe.head.first)
    if isinstance(model, DistributedDataParallel):
        model = model.module  # its own forward talks to the other ranks and waits for a backward
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with quiet(model, device), paused(model), training_mode(model), torch.enable_grad():
        # Not traced by Dynamo.
        before, after = map(torch.compiler.disable, (probe.before, probe.after))
        hooks = [
            probe.head.first.register_forward_pre_hook(before, with_kwargs=True),
            probe.head.last.register_forward_hook(after),
        ]
        try:
            one = len(inputs) == 1 and isinstance(inputs[0], Mapping)
            args, kwargs = call_of_mapping(model.forward, inputs[0]) if one else (inputs, {})
            returned = model(*args, **kwargs)
            reach = _reach(model, probe, returned, loss) if probe.returned is not None else []
        finally:
            for hook in hooks:
                hook.remove()
    once = "once" if probe.calls == 1 else f"{probe.calls} times"
    found = f"{once} in a forward in training mode"
    called = probe.calls > 0 and probe.ends > 0
    if probe.calls and not probe.ends:
        found += f", but {probe.head.names[-1]!r} was not"
    return [Check("head called", called, found), order, *probe.checks, *reach]


def _logits_of(probe: _Probe) -> Any:
    """The tensor that is the logits; all that the head returned if they were computed from it."""
    output = probe.head.outputs[-1]
    return probe.returned if callable(output) else read_part(probe.returned, output)


_LITTLE = 0.05
"""Below this share of the gradient, substitution can hardly touch training."""


def _reach(
    model: nn.Module, probe: _Probe, returned: Any, loss: Callable[[Any], Tensor] | None
) -> list[Check]:
    checks = []
    used = is_used(_logits_of(probe), returned)
    if used is not None:
        found = "yes" if used else "no: what the model returns does not depend on its logits"
        checks.append(Check("output is used", used, found))
    if loss is None:
        return checks
    share = gradient_share(loss(returned), probe.features, probe.handed, model)
    if share is None:
        found = "cannot be seen: nothing in front of the head is trained, or it is checkpointed"
        checks.append(Check("reach", True, found))
    else:
        found = f"{share:.1%} of the backbone's gradient comes through this head"
        enough = share >= _LITTLE
        found += "" if enough else ": substitution here can hardly touch its training"
        checks.append(Check("reach", enough, found))
    return checks


def _hook_order(head: nn.Module) -> Check:
    """Nothing may change the input after the hook has captured it."""
    hooks = list(head._forward_pre_hooks.values())
    ours = [i for i, hook in enumerate(hooks) if isinstance(hook, PreHook) and hook.links]
    later = hooks[ours[0] + 1 :] if ours else []
    names = ", ".join(getattr(hook, "__qualname__", type(hook).__name__) for hook in later)
    found = f"{len(later)} run after it: {names}" if later else "nothing runs after it"
    return Check("last pre-hook of the head", not later, found)


def _state(head: nn.Module) -> dict[str, Any]:
    """Whatever a re-run might have moved, by name: identity, version and value."""
    state: dict[str, Any] = {"global generator": torch.get_rng_state()}
    for kind, named in (("buffer", head.named_buffers()), ("parameter", head.named_parameters())):
        for name, tensor in named:
            key = f"{kind} {name}"
            state[f"{key} (version)"], state[key] = tensor._version, tensor.detach().clone()
    for path, module in head.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Generator):
                state[f"generator {path + '.' if path else ''}{name}"] = value.get_state()
    return state


def _moved(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    def same(one: Any, other: Any) -> bool:
        return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)

    return [key for key in before if key not in after or not same(before[key], after[key])]


def _one_line(error: CMIEIError) -> str:
    return "; ".join(filter(None, (error.problem, error.got, error.remedy)))
