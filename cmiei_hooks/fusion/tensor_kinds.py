"""Which kinds of tensors can be measured and substituted; others are refused in the first call."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from .._torch import is_fake, without_dispatch_modes
from ..errors import InputError
from ..mean_plus_noise import batch_mean, blend
from .arguments import describe

__all__ = ["holds_whole_numbers", "is_dense", "refuse_kind", "refuse_weights"]

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def is_dense(tensor: Tensor) -> bool:
    """Whether its elements lie in memory as its shape says: not sparse, not ragged."""
    return tensor.layout is torch.strided and not tensor.is_nested


def holds_whole_numbers(tensor: Tensor) -> bool:
    """Whether it is a plain tensor of integers or truth values, such as token ids."""
    plain = type(tensor) in (Tensor, nn.Parameter) and is_dense(tensor) and not tensor.is_quantized
    return plain and not tensor.is_floating_point() and not tensor.is_complex()


def refuse_kind(tensor: Tensor, what: str) -> None:
    """Refuse a tensor that a modality cannot be.

    Measuring needs copies of it, substitution also its mean over the batch and a choice between
    rows. Kinds that lack one of these would fail when something is substituted for the first time,
    after the warm-up.

    Args:
        tensor: of a modality, or of several.
        what: what the error calls it.

    Raises:
        InputError: it is of such a kind; the remedy says what to do.
    """
    if type(tensor) in (Tensor, nn.Parameter) and is_dense(tensor) and tensor.dtype in _DTYPES:
        return
    if (found := _unsuitable(tensor)) is not None:
        kind, remedy = found
        raise InputError(
            f"{what} is {kind}",
            got=describe(tensor),
            expected="a dense tensor [B, ...] of floating-point numbers (16, 32 or 64 bits)",
            remedy=remedy,
        )


_KINDS: list[tuple[Callable[[Tensor], bool], str, str]] = [
    (
        lambda x: x.is_nested,
        "a nested (ragged) tensor",
        "pad it in front of the head: torch.nested.to_padded_tensor(x, 0.0)",
    ),
    (
        lambda x: x.layout is not torch.strided,
        "not a dense tensor",
        "make it dense in front of the head: x.to_dense(), or name a module that receives dense "
        "features",
    ),
    (
        is_fake,
        "a tensor without values (FakeTensorMode)",
        "put such a run inside handle.suspend(), or attach after it",
    ),
    (
        lambda x: hasattr(x, "to_local"),
        "a distributed tensor (DTensor)",
        "gather it in front of the head: x.full_tensor(), or name a head that is not parallelised: "
        "the ranks of one tensor-parallel group would substitute different noise",
    ),
    (
        lambda x: x.is_quantized,
        "a quantised tensor",
        "attach to the model before quantisation, or x.dequantize() in front of the head",
    ),
    (
        lambda x: x.is_complex(),
        "a complex tensor",
        "split it into real numbers in front of the head: torch.view_as_real(x)",
    ),
    (
        lambda x: not x.is_floating_point(),
        "not a floating-point tensor",
        "correct modalities=, or name a module that receives features: one behind the embedding, "
        "if these are token ids; else convert it in front of the head: x.float()",
    ),
    (
        lambda x: x.dtype not in _DTYPES,
        "of a type that cannot be averaged",
        "convert it in front of the head: x.to(torch.float32)",
    ),
]
"""What a tensor must not be, in the order in which it is asked; its name, and what to do."""


def _unsuitable(tensor: Tensor) -> tuple[str, str] | None:
    """What kind of tensor it is, and what to do instead; None if it is fine."""
    for is_of_kind, kind, remedy in _KINDS:
        if is_of_kind(tensor):
            return kind, remedy
    if failure := _failure(tensor):
        kind = f"a {type(tensor).__name__}, in which rows cannot be replaced ({failure})"
        return kind, "pass a plain tensor to the head: x.as_subclass(torch.Tensor)"
    return None


def _failure(tensor: Tensor) -> str:
    """What fails when its rows are replaced by their mean; empty if nothing does."""
    try:
        with torch.no_grad(), without_dispatch_modes():
            copy = tensor.detach().clone()
            rows = torch.ones(len(copy), dtype=torch.bool, device=copy.device)
            noise = torch.empty_like(copy).normal_(generator=torch.Generator(copy.device))
            new = blend(copy, rows, batch_mean(copy), noise, 0.0)
            copy.narrow(0, 0, len(copy)).copy_(new)
    except Exception as error:  # the methods of a subclass may raise anything
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return ""


def refuse_weights(module: nn.Module) -> None:
    """Refuse a module with weights that a re-run cannot be trusted with.

    Parameters that FSDP2 has sharded inside of the module are gathered when their module is called.

    Args:
        module: about to be run, by its ``forward``.

    Raises:
        InputError: a parameter is sparse, or distributed as in tensor parallelism.
    """
    for path, parameter in _parameters(module):
        if hasattr(parameter, "to_local"):
            kind = "distributed over ranks (DTensor)"
            remedy = "leave the head out of the plan of parallelize_module, or name a head that is "
            remedy += "not parallelised: the ranks of one group would substitute different noise"
        elif not is_dense(parameter):
            kind = "sparse"
            remedy = "train with a dense weight: nn.Parameter(weight.to_dense())"
        else:
            continue
        raise InputError(
            f"the weight {path!r} of the head is {kind}",
            got=describe(parameter),
            expected="dense parameters, whole on every rank",
            remedy=remedy,
        )


def _parameters(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in module.named_parameters(recurse=False):
        yield f"{prefix}{name}", parameter
    for name, child in module.named_children():
        if not any(kind.__name__ == "FSDPModule" for kind in type(child).__mro__):
            yield from _parameters(child, f"{prefix}{name}.")
