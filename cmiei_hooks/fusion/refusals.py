"""Why a model or a head is refused before the first call: no head is ignored in silence.

What only a call can show is refused where it shows: in ``partition``, in ``logits``, and by the
checks in the room ``counterfactual``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .._torch import normalisations
from ..errors import CMIEIError, HeadError, OutputError, SplitsError
from ..measures import least_logits
from .function_link import FunctionLink
from .logits import Output
from .partition import Partition

__all__ = [
    "nested",
    "refuse_cuda_graph",
    "refuse_function_at_an_end",
    "refuse_lazy",
    "refuse_nested_links",
    "refuse_non_module",
    "refuse_replica",
    "refuse_unhookable",
    "refuse_without_logits",
    "refuse_wrong_width",
]

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def refuse_non_module(model: object) -> None:
    """Refuse a model that is not a module.

    Raises:
        HeadError: it is something else.
    """
    if not isinstance(model, nn.Module):
        raise HeadError(
            "this is not a model",
            got=type(model).__name__,
            expected="a torch.nn.Module",
            remedy="pass the model itself",
        )


def refuse_lazy(
    module: nn.Module,
    name: str = "the model",
    *,
    inside: bool = False,
    error: type[CMIEIError] = HeadError,
    remedy: str = "run one batch through the model first",
) -> None:
    """Refuse a module whose parameters do not exist yet.

    Args:
        module: with everything in it.
        name: what the error calls it.
        inside: leave out the parameters of the module itself.
        error: what is raised.
        remedy: what to do.

    Raises:
        CMIEIError: ``error``; a lazy module in it was never called.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    lazy = [path for path, tensor in tensors if isinstance(tensor, _LAZY)]
    if inside:
        lazy = [path for path in lazy if "." in path]
    if lazy:
        raise error(
            f"{name} has parameters that do not exist yet",
            got=f"lazy: {', '.join(lazy)}",
            expected="parameters that exist",
            remedy=remedy,
        )


_LAZY = (nn.UninitializedParameter, nn.UninitializedBuffer)


def refuse_unhookable(model: nn.Module, name: str, head: nn.Module) -> None:
    """Refuse a head whose hook would never run, or would run on copies.

    Raises:
        HeadError: naming the cause and the remedy.
    """
    if isinstance(head, _CONTAINERS):
        raise HeadError(
            f"{name!r} is a container that is never called, so a hook on it would never run",
            got=type(head).__name__,
            expected="a module whose forward the model calls",
            remedy=f"name a module in it, such as {name + '.0'!r}",
        )
    if any(isinstance(m, torch.jit.ScriptModule) for m in (model, *head.modules())):
        raise HeadError(
            "a scripted or traced module runs no Python hooks, and its state cannot be kept",
            got=f"{name!r} is or holds one",
            expected="the nn.Module that was scripted",
            remedy="attach to the model before torch.jit.script or torch.jit.trace, in training",
        )
    refuse_lazy(head, repr(name), inside=True)  # a lazy head itself can be hooked
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention) and module.out_proj is head:
            raise HeadError(
                f"{name!r} is never called: MultiheadAttention uses its weight and bias directly",
                got="out_proj of a MultiheadAttention",
                expected="a module whose forward the model calls",
                remedy=f"name the attention itself ({path!r}) or the module that follows it",
            )
        if isinstance(module, nn.DataParallel):
            raise _replicated("a model that holds nn.DataParallel")


def refuse_replica(module: nn.Module, head: nn.Module) -> None:
    """Refuse a call by a shallow copy of the head, as ``nn.DataParallel`` makes them.

    Raises:
        HeadError: the calling module is not the head.
    """
    if module is not head:
        raise _replicated("a call by a copy of the head")


def refuse_cuda_graph(name: str) -> None:
    """Refuse a call whose kernels a CUDA graph records: the graph then runs without its hooks.

    Raises:
        HeadError: a CUDA graph is being captured.
    """
    if torch.cuda.is_current_stream_capturing():
        raise HeadError(
            f"the head {name!r} was called while a CUDA graph is captured",
            got="torch.cuda.graph or make_graphed_callables around the head",
            expected="a call from Python in every step: a graph that is replayed runs no hooks, so "
            "it would estimate in every step or in none",
            remedy="capture the part of the model in front of the head only, or attach to a model "
            'that is not captured; torch.compile(mode="reduce-overhead") leaves the hook outside '
            "of its graphs",
        )


def _replicated(got: str) -> HeadError:
    return HeadError(
        "nn.DataParallel copies the model for every device and step; the copies share one hook",
        got=got,
        expected="one model a process",
        remedy="start one process for each device, as DistributedDataParallel needs it: torchrun "
        "--nproc-per-node=2 train.py, or accelerate launch train.py (the Trainer of transformers "
        "uses nn.DataParallel if it sees several GPUs without that); or use one device: "
        "CUDA_VISIBLE_DEVICES=0",
    )


def refuse_function_at_an_end(names: Sequence[str], i: int) -> None:
    """Refuse a function as the first or the last link of a chain: it cannot be hooked.

    Raises:
        HeadError: it is.
    """
    if 0 < i < len(names) - 1:
        return
    first = i == 0
    remedy = "name the module that receives the modalities"
    if first and len(names) > 1:
        remedy = f"leave it out, and begin with {names[1]!r}: the features are captured behind it"
    elif not first:
        remedy = "leave it out, and pass it as output=, a function of what the last module returns"
    raise HeadError(
        f"a function cannot be the {'first' if first else 'last'} link of a chain",
        got=f"{names[i]} in {list(map(str, names))}",
        expected="a module, on which hooks can be registered; functions stand between modules",
        remedy=remedy,
    )


def refuse_nested_links(names: Sequence[str], links: Sequence[nn.Module]) -> None:
    """Refuse links of a chain that cannot be run while the first one is being called.

    A module that the model uses in several places may be several links, but not the first: the
    modalities are captured where it is called.

    Raises:
        HeadError: a link contains another one, is the first one again, or is lazy.
    """
    for i, (name, link) in enumerate(zip(names, links, strict=True)):
        if isinstance(link, FunctionLink):
            continue
        inside = [
            before
            for j, (before, other) in enumerate(zip(names[:i], links, strict=False))
            if not isinstance(other, FunctionLink)
            and nested(link, other)
            and (link is not other or j == 0)
        ]
        if inside:
            raise HeadError(
                "the links of a chain must follow one another",
                got=f"{inside[0]!r} and {name!r}, which are one module, or one inside the other",
                expected="modules that are called one after the other",
                remedy="name the outer one alone if it returns the logits",
            )
        if i:
            refuse_lazy(link, repr(name))


def nested(one: nn.Module, other: nn.Module) -> bool:
    """Whether one module is, or contains, the other."""
    return any(m is other for m in one.modules()) or any(m is one for m in other.modules())


def refuse_without_logits(last: nn.Module, name: str, output: Output, measure: str) -> None:
    """Refuse a last link that is known to return no logits, or fewer than the measure needs.

    Args:
        last: the last link of the head.
        name: of this link.
        output: which part of its return value is the logits.
        measure: ``MEASURE``.

    Raises:
        HeadError: it is a normalisation.
        OutputError: it returns one logit, and the measure needs two.
    """
    if isinstance(last, (*normalisations(), nn.LayerNorm, nn.GroupNorm)):
        chain = f"head=[{name!r}, <the classifier>]"
        raise HeadError(
            f"{name!r} returns features, not logits",
            got=type(last).__name__,
            expected="the module that returns the logits",
            remedy=f"name the classifier that follows the normalisation, or both: {chain}",
        )
    least = least_logits(measure)
    one = isinstance(last, nn.Linear) and last.out_features < least
    if output is None and one:
        raise OutputError(
            f"{name!r} returns one logit",
            got="Linear with out_features 1",
            expected=f"two classes or more for MEASURE {measure} (softmax over one logit is "
            "always 1, so the measure is always 0)",
            remedy="choose MEASURE bernoulli for a sigmoid head, squared for regression, or name "
            "the module that returns the logits of all classes",
        )


def refuse_wrong_width(head: nn.Module, name: str, partition: Partition) -> None:
    """Refuse splits that do not sum to the width that the head declares, if it declares one.

    Raises:
        SplitsError: the message has the arithmetic.
    """
    declared, widths = _declared_width(head), partition.widths
    if widths is None or partition.dim != -1 or declared is None or partition.fits(declared[1]):
        return
    attribute, width = declared
    count = len(widths)
    equal = f"{count} equal modalities would be {[width // count] * count}; "
    raise SplitsError(
        f"the splits do not sum to the width of the head {name!r}",
        got=partition.arithmetic,
        expected=f"{width} ({attribute} of {type(head).__name__})",
        remedy=(equal if partition.width and width % count == 0 else "")
        + "pass the widths of the modalities in the order of their concatenation",
    )


def _declared_width(module: nn.Module) -> tuple[str, int] | None:
    if isinstance(module, nn.Sequential):
        for part in module:
            if not isinstance(part, (nn.Identity, nn.Dropout, nn.AlphaDropout, nn.ReLU, nn.GELU)):
                return _declared_width(part)
        return None
    known: tuple[tuple[type[nn.Module], str], ...] = (
        (nn.Linear, "in_features"),
        (nn.BatchNorm1d, "num_features"),
        (nn.LayerNorm, "normalized_shape"),
    )
    for kind, attribute in known:
        if isinstance(module, kind):
            width = getattr(module, attribute)
            width = width[-1] if isinstance(width, tuple) else width
            return (attribute, width) if width else None  # 0: a lazy module, not yet known
    return None
