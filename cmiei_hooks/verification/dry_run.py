"""``verify``: one dry run that checks whether ``attach`` can work on this model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .._torch import original, pre_hooks
from ..counterfactual import BranchCalls, compare_output, isolated, larger_head
from ..discovery import device_of
from ..errors import CMIEIError
from ..fusion import (
    Combine,
    FunctionLink,
    HeadLike,
    Outputs,
    call_of_mapping,
    head_names,
    locate,
    mapped,
    read_part,
    training_mode,
)
from ..settings import Config, ConfigSource, refuse_both
from ..training import PreHook, paused
from .columns import check_branches, check_columns
from .gradients import gradient_share, is_used
from .meeting import check_meeting
from .probe import HeadProbe, one_line
from .report import Check, VerifyReport

__all__ = ["verify"]

_LITTLE = 0.05
"""Below this share of the gradient, substitution hardly changes training."""


def verify(
    model: nn.Module,
    *inputs: Any,
    head: HeadLike | None = None,
    splits: Sequence[int | None] | Mapping[str, int | None] | None = None,
    names: Sequence[str] | None = None,
    modalities: Mapping[str, Any] | None = None,
    dim: int = -1,
    output: Outputs = None,
    combine: Combine | None = None,
    config: ConfigSource = None,
    loss: Callable[[Any], Tensor] | None = None,
    strict: bool = False,
    **settings: Any,
) -> VerifyReport:
    """Run the model in training mode, check what ``attach`` needs, and print a table.

    The model, its gradients and the global random generators are left as they were, and an
    attachment that the model already has is suspended meanwhile. Changes that a head makes to its
    own parameters or private generators are reported, not undone. If the model takes one tensor for
    each modality, it runs once more for each of them, to see which columns of the head's input
    belong to which.

    Args:
        model: as for ``attach``.
        *inputs: what the model is called with; one dict is passed as keywords if ``forward`` has
            these. A small batch of two or more samples is enough.
        head: as for ``attach``, like the arguments below.
        splits: widths of the modalities, or a dict of their names and widths; one may be None, the
            rest.
        names: names of the modalities.
        modalities: where they are, if the head does not receive one concatenated tensor.
        dim: the axis of their concatenation.
        output: which entry of the head's return value is the logits.
        combine: how the model combines the logits of its branches.
        config: as for ``attach``.
        loss: a function of what the model returns, ``[]``. With it, ``verify`` also measures which
            share of the backbone's gradient comes through the head. If that is next to nothing,
            because the head's loss has a small weight, substitution hardly changes training.
        strict: raise if a check fails.
        **settings: fields of ``Config``.

    Returns:
        The checks, in the order of the table.

    Raises:
        CMIEIError: a setting is out of range; or ``strict`` and a check failed.

    Example:
        >>> cmiei_hooks.verify(model, x, head="classifier", splits=[512, 512, 512], strict=True)
    """
    resolved = Config.resolve(config, settings, splits=splits, names=names)
    refuse_both(splits, modalities)
    checks: list[Check] = []
    try:
        if head is not None:
            resolved = resolved.override(head=head_names(model, head))
        found = locate(
            model, resolved, modalities=modalities, dim=dim, output=output, combine=combine
        )
    except CMIEIError as error:
        checks.append(Check("head found", False, one_line(error)))
    else:
        links = [m for _, m in found.modules] if found.branches else found.links
        kinds = (", " if found.branches else " -> ").join(
            "function" if isinstance(link, FunctionLink) else type(link).__name__ for link in links
        )
        checks.append(Check("head found", True, f"{found.name}: {kinds}"))
        checks += _dry_run(model, inputs, HeadProbe(found), loss)
    report = VerifyReport(tuple(checks))
    Console().print(report.table())
    if strict:
        _refuse_failed(report)
    return report


def _refuse_failed(report: VerifyReport) -> None:
    failed = [check for check in report.checks if not check.ok]
    if failed:
        raise CMIEIError(
            "the dry run found what attach() cannot work with",
            got="; ".join(f"{check.name}: {check.found}" for check in failed),
            expected="every check ok",
            remedy="correct the model, or name another head",
        )


def _dry_run(
    model: nn.Module,
    inputs: Sequence[Any],
    probe: HeadProbe,
    loss: Callable[[Any], Tensor] | None,
) -> list[Check]:
    order = _hook_order(probe.head.first)
    model = original(model)  # compiled code ignores hooks that are added later
    if isinstance(model, DistributedDataParallel):
        model = model.module  # its own forward talks to the other ranks and waits for a backward
    one = len(inputs) == 1 and isinstance(inputs[0], Mapping)
    call = call_of_mapping(model.forward, inputs[0]) if one else (tuple(inputs), {})
    args, kwargs = mapped(call, Tensor.clone)  # a model may write into its inputs
    with (
        isolated(model, device_of(model, call)),
        paused(model),
        training_mode(model),
        torch.enable_grad(),
    ):
        # Dynamo must not trace the hooks.
        before, after = map(torch.compiler.disable, (probe.before, probe.after))
        hooks = [
            probe.head.first.register_forward_pre_hook(before, with_kwargs=True),
            probe.head.last.register_forward_hook(after),
        ]
        calls = BranchCalls(probe.head, model) if probe.head.branches else None
        try:
            returned = model(*args, **kwargs)
            effects = []
            if probe.returned is not None:
                effects = [_model_returns(model, probe, returned)]
                effects += _effects(model, probe, returned, loss)
        except CMIEIError as error:
            if calls is None:
                raise
            return [order, *probe.checks, Check("branches", False, one_line(error))]
        finally:
            for hook in hooks:
                hook.remove()
            if calls is not None:
                calls.close()
    captured = probe.captured
    where = []
    if captured is not None and probe.head.branches:
        where = check_branches(model, inputs, probe.head)
    elif captured is not None:
        where = check_meeting(model, inputs, probe.head, captured, probe.calls)
        where = where or check_columns(model, inputs, probe.head, captured)
    return [_called(probe), order, *probe.checks, *where, *effects]


def _called(probe: HeadProbe) -> Check:
    once = "once" if probe.calls == 1 else f"{probe.calls} times"
    found = f"{once} in one forward in training mode"
    if probe.calls and not probe.ends:
        found += f", but {probe.head.names[-1]!r} was not called"
    return Check("head called", probe.calls > 0 and probe.ends > 0, found)


def _model_returns(model: nn.Module, probe: HeadProbe, returned: Any) -> Check:
    """A hidden layer passes every other check."""
    found = compare_output(probe.outputs, returned, model)
    text = found.sentence
    if found.verdict == "different":
        text += "; " + larger_head(model, probe.head, found)
    elif found.verdict == "unknown":
        text = f"unknown: {text}"
    return Check("head returns the model's logits", found.verdict != "different", text)


def _effects(
    model: nn.Module, probe: HeadProbe, returned: Any, loss: Callable[[Any], Tensor] | None
) -> list[Check]:
    checks = []
    output = probe.head.outputs[-1]
    # A function may compute the logits from what the head returned: then all of that counts.
    logits = probe.returned if callable(output) else read_part(probe.returned, output)
    used = is_used(logits, returned)
    if used is not None:
        found = "yes" if used else "no: what the model returns does not depend on its logits"
        checks.append(Check("output is used", used, found))
    if loss is None:
        return checks
    share = gradient_share(loss(returned), probe.features, probe.handed, model)
    if share is None:
        found = "unknown: nothing in front of the head is trained, or it is checkpointed"
        checks.append(Check("gradient through the head", True, found))
    else:
        found = f"{share:.1%} of the backbone's gradient comes through this head"
        enough = share >= _LITTLE
        found += "" if enough else ": substitution here hardly changes training"
        checks.append(Check("gradient through the head", enough, found))
    return checks


def _hook_order(head: nn.Module) -> Check:
    """Nothing may change the input after the pre-hook has captured it."""
    hooks = [hook.call for hook in pre_hooks(head)]
    ours = [i for i, hook in enumerate(hooks) if isinstance(hook, PreHook) and hook.modules]
    later = hooks[ours[0] + 1 :] if ours else []
    names = ", ".join(getattr(hook, "__qualname__", type(hook).__name__) for hook in later)
    found = f"{len(later)} run after it: {names}" if later else "nothing runs after it"
    return Check("last pre-hook of the head", not later, found)
