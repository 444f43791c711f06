"""The whole model as the head, for models in which nothing smaller receives separate modalities."""

from __future__ import annotations

from .attribution import AttributedTensor
from .candidate import Candidate, logits_at
from .model_arguments import FILL, ModelArguments
from .observations import Observations

__all__ = ["notes_on_whole_model", "whole_model"]


def whole_model(seen: Observations) -> tuple[Candidate, ...]:
    """The model as the head, for each tensor ``[B, C]`` in what it returns that may be logits."""
    if seen.arguments is None or seen.root.calls > 1 or any(x.noisy for x in seen.root.outputs):
        return ()
    return tuple(_candidate(out, seen, seen.arguments) for out in _logits(seen))


def notes_on_whole_model(found: Candidate) -> tuple[str, ...]:
    """What the whole model costs as the head, and what takes the place of token ids."""
    runs = 1 + len(found.names)
    cost = (
        "no module receives separate modalities and leads to logits [B, C] through modules only, "
        f"so the whole model is the head: an estimate runs it {runs} times more (1 + {runs - 1}). "
        "If functions in its forward concatenate the modalities, a smaller head costs less: move "
        "everything from the concatenation to the logits into one nn.Module and name it"
    )
    if not found.fill:
        return (cost,)
    named = " and ".join(found.fill)
    verb = "holds" if len(found.fill) == 1 else "hold"
    return cost, f"{named} {verb} whole numbers: in fill=, replace {FILL} by the pad id"


def _logits(seen: Observations) -> list[AttributedTensor]:
    """First what modules return, then what functions of the model compute; no features.

    What logits of modules are computed from is features.
    """
    rows = {x.shape[0] for x in seen.root.inputs if x.modalities}
    found = [
        out
        for out in seen.root.outputs
        if len(out.shape) == 2
        and out.shape[0] in rows
        and out.floating
        and seen.alive <= out.modalities
    ]
    ends = {out.value for _, out in seen.ends if seen.used[out.value]}
    modules = [call for call in seen.calls if call.path]
    others = {out.value for call in modules for out in call.outputs}
    others |= {
        x.value
        for call in modules
        for x in call.inputs
        if any(len(out.shape) >= 2 for out in call.outputs)
    }
    by_modules = [out for out in found if out.value in ends]
    logits = {out.address for out in by_modules}
    return by_modules + [
        out
        for out in found
        if out.value not in ends | others and not logits & seen.feeds.get(out.address, frozenset())
    ]


def _candidate(
    logits: AttributedTensor, seen: Observations, arguments: ModelArguments
) -> Candidate:
    in_eval = seen.evaluated.get(seen.root.key)
    here = logits.address, logits.shape
    same = in_eval is None or here in {(out.address, out.shape) for out in in_eval.outputs}
    one = 'one logit (for regression: measure="squared")'
    classes = logits.shape[1]
    returns = one if classes == 1 else f"logits of {classes} classes"
    reason = f"the modalities are arguments of the model, which returns {returns}"
    if not same:
        reason += "; returns something else in eval mode: audit the training branch"
    return Candidate(
        ("",),
        None,
        arguments.modalities,
        tuple(arguments.modalities),
        -1,
        (logits_at(logits.address),),
        classes,
        reason,
        in_eval is not None,
        same,
        fill=arguments.fill,
    )
