"""``discover``: run the model, permute one modality at a time, and report where they meet."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from .._torch import out_of_memory
from ..errors import InputError
from ..fusion import Call, eval_mode, training_branch
from .attribution import AttributedTensor, ModalitySet, ModuleCall, attribute, effect_of_edit
from .branches import Branches, branch_calls, find_branches
from .functions import Activations, activations_between, calls_around_functions
from .hidden import Feeds, feeds
from .input_names import Grouping, Word
from .inputs import Inputs, bare_model, call_of, read_inputs
from .model_arguments import model_arguments
from .observations import Observations
from .ranking import rank_candidates
from .report import DiscoverReport
from .routes import Hop, consumes, possible_logits
from .trace import Edit, Key, Trace, trace

__all__ = ["discover", "discover_in_call"]

_MOST_EDITS = 48
"""The largest number of outputs that are tested for being logits; each test runs the model once."""


def discover(
    model: nn.Module,
    *args: Any,
    inputs: Mapping[str, Word | Sequence[Word]] | None = None,
    ignore: Sequence[Word] = (),
) -> DiscoverReport:
    """Find the heads that ``attach`` could take, and print them as lines to paste, best first.

    The model runs in its training branch, with nothing random in ``torch.nn``: once for each
    modality, with the rows of that modality permuted across the samples. Hooks record which columns
    of every module's input change. A module is a candidate if every column of its input belongs to
    one modality and modules lead from there to logits that the model returns. One more run, in eval
    mode, shows which candidates are called there. Weights, buffers, flags, hooks, gradients and the
    global random generators stay as they were.

    Args:
        model: as for ``attach``. If it holds lazy modules, call it once first.
        *args: what the model is called with, or one dict of keywords. Every tensor ``[B, ...]``
            of two or more axes in them counts as a modality, except masks of 0 and 1, positions,
            and whole numbers that are equal in all samples; the report says what is left out.
            Pass a real batch of sixteen or more samples: a feature that is 0 in the whole batch
            seems to belong to no modality.
        inputs: inputs that are one modality together, by the name of the modality:
            ``{"text": ["input_ids", "attention_mask"]}``. An input is named by its keyword, its
            parameter in ``forward``, its key in a dict, or its position; a dict or list of tensors
            by one word. Inputs that are not mentioned are found as usual.
        ignore: inputs that are not modalities, named in the same way.

    Returns:
        Candidates, what is ruled out, and notes. ``report.attach(**settings)`` attaches to the best
        candidate, ``candidates[1].arguments`` are the arguments for the second.

    Raises:
        HeadError: this is not a model, or it holds lazy modules that have never been called.
        InputError: fewer than two modalities, the model cannot be called with these inputs or with
            the samples of one exchanged, or there is no input of a name in ``inputs`` or
            ``ignore``.

    Example:
        >>> handle = cmiei_hooks.discover(model, images, texts).attach(warmup_steps=1000)
    """
    call = call_of(bare_model(model), args)
    return discover_in_call(model, call, Grouping(inputs or {}, ignore))


def discover_in_call(
    model: nn.Module, call: Call, grouping: Grouping | None = None
) -> DiscoverReport:
    """``discover`` with a call of the model, as it was seen.

    Raises:
        HeadError, InputError: as ``discover``.
    """
    given, model = model, bare_model(model)
    known = read_inputs(model, call, grouping)
    base, again = (trace(model, known.fresh(), training_branch) for _ in range(2))
    permuted = [_permuted(model, known, m) for m in range(len(known.names))]
    calls = attribute(base, again, permuted)
    ends, used = _tested_ends(model, known, calls, base, again)
    evaluated, notes = _evaluated(model, known)
    notes = (*known.notes, *notes)
    alive = _alive(known, calls)
    functions, branches = _between_modules(model, known, calls, alive)
    arguments = model_arguments(model, known, alive)
    uncalled = _uncalled(model, base)
    report = rank_candidates(
        Observations(
            calls,
            evaluated,
            known.names,
            ends,
            used,
            uncalled,
            functions,
            branches,
            arguments,
            _feeds(model, known, calls) if arguments else {},
            notes,
        )
    )
    report.print()
    return replace(report, _model=weakref.ref(given))


def _permuted(model: nn.Module, known: Inputs, modality: int) -> Trace:
    """The run in which each sample has another one's rows of this modality.

    Raises:
        InputError: the model fails in it.
    """
    try:
        return trace(model, known.permuted(modality), training_branch)
    except Exception as error:  # of the model, whose inputs no longer fit each other
        if out_of_memory(error):
            raise
        name = known.names[modality]
        raise InputError(
            f"the model fails when discover exchanges the samples of its input {name!r}",
            got=f"{type(error).__name__}: {error}".splitlines()[0],
            expected="a model that runs if one of its inputs comes from other samples than the "
            "rest",
            remedy=f"name the inputs that must fit each other as one: inputs={{{name!r}: "
            f"[{name!r}, <the other>]}} (--together), or leave this one out: ignore=[{name!r}] "
            "(--ignore)",
        ) from error


def _tested_ends(
    model: nn.Module, known: Inputs, calls: list[ModuleCall], base: Trace, again: Trace
) -> tuple[list[Hop], dict[bytes, bool]]:
    """Outputs that may be logits, and for each whether what the model returns depends on it.

    Each is changed in one run: if a module computes features from it, it is not logits. Of a call
    whose output is discarded, the other outputs are tested too.
    """
    class_names = {path: type(module).__name__ for path, module in model.named_modules()}
    # Augmentation inside the model may double the batch; modalities may be stacked on its axis.
    rows = {times * known.batch for times in (1, 2, len(known.names))}
    ends = possible_logits(calls, class_names, rows)
    ends.sort(key=lambda end: (-len(end[1].modalities), -end[0].end))
    consumers = {call.key for call in calls if call.path and consumes(call, class_names)}
    used: dict[bytes, bool] = {}

    def effect(call: ModuleCall, output: AttributedTensor) -> tuple[set[Key], bool]:
        edit = Edit(call.key, output.address)
        try:
            edited = trace(model, known.fresh(), training_branch, edit)
        except Exception as error:  # a loss refuses what is no probability: a function reads it
            if out_of_memory(error):
                raise
            return set(), True
        return effect_of_edit(base, again, edited)

    for call, output in ends[:_MOST_EDITS]:
        reached, returned = effect(call, output)
        if not reached & consumers:
            used[output.value] = returned
    tested = [end for end in ends if end[1].value in used]
    partly = [call for call, output in tested if not used[output.value]]
    others = [(call, out) for call in partly for out in call.outputs if out.floating]
    for call, output in others[:_MOST_EDITS]:
        if output.value not in used:
            used[output.value] = effect(call, output)[1]
    return tested, used


def _alive(known: Inputs, calls: list[ModuleCall]) -> ModalitySet:
    """The modalities that change what the model returns; all if it returns no tensor."""
    root = next(call for call in calls if not call.path)
    everyone = frozenset(range(len(known.names)))
    return frozenset().union(*(out.modalities for out in root.outputs)) or everyone


def _feeds(model: nn.Module, known: Inputs, calls: list[ModuleCall]) -> Feeds:
    """Which tensors ``[B, C]`` that the model returns are computed from which others."""
    root = next(call for call in calls if not call.path)
    matrices = [out.address for out in root.outputs if len(out.shape) == 2 and out.floating]
    return feeds(model, known, matrices)


def _between_modules(
    model: nn.Module, known: Inputs, calls: list[ModuleCall], alive: ModalitySet
) -> tuple[Activations, Branches | None]:
    """What functions of the model compute between modules: one more run, if there may be any."""
    around, ends = calls_around_functions(calls, alive), branch_calls(calls, alive)
    if not around | ends:
        return {}, None
    kept = trace(model, known.fresh(), training_branch, keep=around | ends)
    branches = find_branches(calls, alive, kept) if ends else None
    return activations_between(calls, alive, kept), branches


def _evaluated(model: nn.Module, known: Inputs) -> tuple[Trace, tuple[str, ...]]:
    try:
        return trace(model, known.fresh(), eval_mode), ()
    except Exception as error:  # a forward may raise anything; it is reported
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        return {}, (f"in eval mode the model fails with these inputs ({text})",)


def _uncalled(model: nn.Module, base: Trace) -> list[str]:
    """Linear modules that the training branch never calls, apart from those inside torch's modules.

    Torch uses the weights of its own Linear modules without calling them, in attention for example.
    """
    called = {path for path, _ in base}
    modules = dict(model.named_modules())
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

    def inside_torch(path: str) -> bool:
        parent = modules[path.rpartition(".")[0]]
        return type(parent).__module__.startswith("torch.") and not isinstance(parent, containers)

    return [
        path
        for path, module in modules.items()
        if path and isinstance(module, nn.Linear) and path not in called and not inside_torch(path)
    ]
