"""Run the model, exchange one modality at a time, and report where they meet."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from ..errors import HeadError
from ..fusion import eval_mode, training_branch
from .attribution import compare, moved
from .flow import ends, goes_on
from .inputs import Inputs, read_inputs
from .ranking import Judged, judge
from .report import DiscoverReport
from .trace import Edit, Trace, run

__all__ = ["discover"]

_MOST_EDITS = 48
"""So many outputs at most are tried for being logits, each with one run of the model."""


def discover(model: nn.Module, *inputs: Any) -> DiscoverReport:
    """Find the heads that ``attach`` could take, and print them as lines to paste, best first.

    The model runs once for each modality with the rows of that modality exchanged among the
    samples, in its training branch with nothing random in ``torch.nn``, and once in eval mode.
    Hooks see which columns of what each module receives change: where every column belongs to one
    modality, and modules lead from there to logits that the model returns, is a candidate. Weights,
    buffers, flags, hooks, gradients and the global random generators stay as they were.

    Args:
        model: as for ``attach``, already called once if it holds lazy modules.
        *inputs: what the model is called with, or one dict of keywords. Every tensor ``[B, ...]``
            with two or more axes in them is taken for a modality. A real batch of sixteen or
            more samples shows more than two random ones: what is dead in all of them looks unowned.

    Returns:
        Candidates, what was ruled out, and notes; ``candidates[0].arguments`` goes to ``attach``.

    Raises:
        HeadError: this is not a model, or it holds lazy modules that have never been called.
        InputError: fewer than two modalities, or the model cannot be called with these inputs.
    """
    model = _bare(model)
    known = read_inputs(model, inputs)
    base, again = (run(model, known.fresh(), training_branch) for _ in range(2))
    exchanged = [
        run(model, known.exchanged(m), training_branch) for m in range(len(known.addresses))
    ]
    visits = compare(base, again, exchanged)
    kinds = {path: type(module).__name__ for path, module in model.named_modules()}
    found = ends(visits, kinds, known.batch)
    found.sort(key=lambda link: (-len(link[1].owner), -link[0].end))
    consumers = {visit.key for visit in visits if visit.path and goes_on(visit, kinds)}
    used: dict[bytes, bool] = {}
    for visit, leaf in found[:_MOST_EDITS]:
        edit = Edit(visit.key, leaf.address)
        fed, returned = moved(base, again, run(model, known.fresh(), training_branch, edit))
        if not fed & consumers:
            used[leaf.value] = returned
    evaluated, notes = _evaluated(model, known)
    report = judge(
        Judged(
            visits=visits,
            evaluated=evaluated,
            names=known.names,
            ends=[link for link in found if link[1].value in used],
            used=used,
            uncalled=_uncalled(model, base),
            notes=notes,
        )
    )
    report.print()
    return report


def _evaluated(model: nn.Module, known: Inputs) -> tuple[Trace, tuple[str, ...]]:
    try:
        return run(model, known.fresh(), eval_mode), ()
    except Exception as error:  # anything that a forward may raise; it is reported
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return {}, (f"in eval mode the model fails with these inputs ({text})",)


def _bare(model: nn.Module) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise HeadError(
            "this is not a model",
            got=type(model).__name__,
            expected="a torch.nn.Module",
            remedy="pass the model itself",
        )
    original = getattr(model, "_orig_mod", None)  # compiled code runs no hooks that come later
    if isinstance(original, nn.Module):
        return _bare(original)
    if isinstance(model, DistributedDataParallel):
        return _bare(model.module)
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise HeadError(
            "the model holds lazy modules that have not been called yet",
            got=", ".join(lazy),
            expected="parameters that exist",
            remedy="run one batch through the model first",
        )
    return model


def _uncalled(model: nn.Module, base: Trace) -> list[str]:
    """Linear modules that the training branch never calls; torch's own parts are its own affair."""
    called = {path for path, _ in base}
    owners = dict(model.named_modules())
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

    def torchs_own(path: str) -> bool:
        parent = owners[path.rpartition(".")[0]]
        return type(parent).__module__.startswith("torch.") and not isinstance(parent, containers)

    return [
        path
        for path, module in owners.items()
        if path and isinstance(module, nn.Linear) and path not in called and not torchs_own(path)
    ]
