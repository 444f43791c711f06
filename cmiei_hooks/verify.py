"""A dry run: is everything as attach() needs it on this model, with these inputs?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from .config import Config
from .errors import CMIEIError
from .head import Output, locate, read_logits
from .hook import PreHook
from .measure import measure
from .partition import Partition, Place, put_back
from .pausing import paused
from .quiet import quiet

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
    head: str | None = None,
    splits: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    dim: int = -1,
    output: Output = None,
    config: Config | str | os.PathLike[str] | Mapping[str, Any] | object | None = None,
    strict: bool = False,
    **settings: Any,
) -> VerifyReport:
    """Run the model once in training mode and check what the promise of silence rests on.

    The model, its gradients and the global random generators are left as they were (what a head
    does to its own parameters or generators is reported, not undone); an attachment that it already
    has is suspended meanwhile. Prints a table.

    Args:
        model: as for ``attach``.
        *inputs: what the model is called with, or one dict of keywords; a small batch of two or
            more samples will do.
        head: as for ``attach``, like the arguments below.
        splits: widths of the modalities.
        names: names of the modalities.
        dim: the axis of their concatenation.
        output: which part of the head's return value is the logits.
        config: as for ``attach``.
        strict: raise if a check fails.
        **settings: fields of Config.

    Returns:
        The checks, in the order of the table.

    Raises:
        CMIEIError: ``strict`` and a check failed; or a setting is out of range.
    """
    resolved = Config.resolve(config, settings, head=head, splits=splits, names=names)
    checks: list[Check] = []
    try:
        name, module, partition = locate(model, resolved, dim, output)
    except CMIEIError as error:
        checks.append(Check("head found", False, _one_line(error)))
    else:
        checks.append(Check("head found", True, f"{name}: {type(module).__name__}"))
        checks += _dry_run(model, inputs, _Probe(module, partition, resolved, output))
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

    head: nn.Module
    partition: Partition
    config: Config
    output: Output
    calls: int = 0
    checks: list[Check] = field(default_factory=list)
    logits: Tensor | None = None
    """What the re-entered head gave."""

    def before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.calls += 1
        if self.calls > 1:
            return
        try:
            place, features = self.partition.find(args, kwargs)
        except CMIEIError as error:
            self.checks.append(Check("width", False, _one_line(error)))
            return
        found = f"{list(features.shape)}, {' + '.join(map(str, self.partition.splits))}"
        self.checks.append(Check("width", True, found))
        state = _state(self.head)
        try:
            self.logits = measure(
                self.head,
                self.partition,
                args,
                kwargs,
                drop=self.config.drop,
                kind=self.config.measure,
                output=self.output,
            ).logits
        except CMIEIError as error:
            self.checks.append(Check("logits", False, _one_line(error)))
            return
        self.checks.append(Check("logits", True, f"{list(self.logits.shape)}"))
        moved = _moved(state, _state(self.head))
        found = "changed: " + ", ".join(moved) if moved else "unchanged"
        self.checks.append(Check("buffers, parameters, generators", not moved, found))
        reached = self._gradient_reaches(args, kwargs, place, features)
        found = "yes" if reached else "no: something in the head detaches it, or multiplies by 0"
        self.checks.append(Check("gradient reaches the input", reached, found))

    def _gradient_reaches(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], place: Place, features: Tensor
    ) -> bool:
        leaf = features.detach().requires_grad_()
        with quiet(self.head, features.device), torch.enable_grad():
            # A clone, since the head may begin with an in-place operation, which no leaf allows.
            new_args, new_kwargs = put_back(args, kwargs, place, leaf.clone())
            returned = self.head.forward(*new_args, **new_kwargs)
            logits = read_logits(returned, self.output, len(features))
            if not logits.requires_grad:
                return False
            (gradient,) = torch.autograd.grad(logits.square().sum(), leaf, allow_unused=True)
        return gradient is not None and bool(gradient.count_nonzero())

    def after(self, _: nn.Module, args: Any, returned: Any) -> None:
        if self.calls > 1 or self.logits is None:
            return
        real = read_logits(returned, self.output, len(self.logits))
        difference = (real - self.logits).abs().max().item() if len(real) else 0.0
        same = torch.equal(real, self.logits)
        found = "equal to the bit" if same else f"largest difference {difference:.3g}"
        self.checks.append(Check("re-entry gives the real logits", same, found))


def _dry_run(model: nn.Module, inputs: Sequence[Any], probe: _Probe) -> list[Check]:
    order = _hook_order(probe.head)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with quiet(model, device), paused(model), torch.enable_grad():
        model.train()
        hooks = [
            probe.head.register_forward_pre_hook(probe.before, with_kwargs=True),
            probe.head.register_forward_hook(probe.after),
        ]
        try:
            if len(inputs) == 1 and isinstance(inputs[0], Mapping):
                model(**inputs[0])
            else:
                model(*inputs)
        finally:
            for hook in hooks:
                hook.remove()
    once = "once" if probe.calls == 1 else f"{probe.calls} times"
    found = f"{once} in a forward in training mode"
    return [Check("head called", probe.calls > 0, found), order, *probe.checks]


def _hook_order(head: nn.Module) -> Check:
    """Nothing may change the input after the hook has captured it."""
    hooks = list(head._forward_pre_hooks.values())
    ours = [i for i, hook in enumerate(hooks) if isinstance(hook, PreHook) and hook.active]
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
