"""Which tensor of a call is the one that holds all modalities."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .pytree import Call, Path, value_at
from .tensor_kinds import is_dense

__all__ = ["find_concatenation"]


def find_concatenation(
    call: Call, paths: Sequence[Path], dim: int, fits: Callable[[int], bool], likely: int | None
) -> Path:
    """The first argument that is a tensor ``[B, ...]``, or else the first one inside of another.

    Token ids, weights of samples and the like are passed over. So are tensors inside of lists,
    tuples and dicts that have another width, such as the earlier stages of a backbone.

    Args:
        call: of the head.
        paths: of its tensors, arguments themselves first; one or more.
        dim: the axis of the concatenation.
        fits: whether the tensor can be this wide.
        likely: inside of arguments, a tensor of this width is preferred to others that fit.

    Returns:
        The path of the most likely one if none fits.
    """
    tensors: dict[Path, Tensor] = {path: value_at(call, path) for path in paths}
    features = [path for path, tensor in tensors.items() if _may_be_features(tensor)]
    dense = [path for path in features if is_dense(tensors[path])]
    outer = [path for path in features if len(path) == 1]
    # A sparse one may be the features, or another argument such as the edges of a graph.
    first = next((i for i, path in enumerate(outer) if path in dense), len(outer))
    candidates = outer[: first + 1] + [path for path in features if len(path) > 1]
    widths: dict[Path, int] = {
        path: tensors[path].shape[dim]
        for path in candidates
        if not tensors[path].is_nested and -tensors[path].dim() < dim < tensors[path].dim()
    }
    fitting = [path for path, width in widths.items() if fits(width)]
    if fitting and len(fitting[0]) > 1:
        return next((path for path in fitting if widths[path] == likely), fitting[0])
    return [*fitting, *(path for path in candidates if path in dense), *candidates, *paths][0]


def _may_be_features(tensor: Tensor) -> bool:
    if tensor.dim() < 2:
        return False
    return tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized
