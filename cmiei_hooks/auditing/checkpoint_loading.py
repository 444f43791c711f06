"""Load a checkpoint into a model, and say exactly what of it fits."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, did_you_mean
from ..fusion import refuse_lazy, unwrapped
from ..reporting import sha256
from .checkpoint_file import read_state_dict
from .offloaded import load_weights

__all__ = ["Loaded", "load_checkpoint"]

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint did and did not give to the model."""

    path: str
    loaded: int
    """The number of tensors that were loaded."""
    missing: tuple[str, ...]
    """Names in the model but not in the checkpoint; these weights keep their initial values."""
    unexpected: tuple[str, ...]
    """Names in the checkpoint but not in the model."""
    mismatched: tuple[str, ...]
    """Names in both, with different shapes; these weights keep their initial values."""
    sha256: str = ""
    duplicates: tuple[str, ...] = ()
    """Second names of a weight in the checkpoint (``module.X`` beside ``X``); not loaded."""

    def to_dict(self) -> dict[str, Any]:
        """The fields, as in report.json."""
        return dataclasses.asdict(self)


def load_checkpoint(
    model: nn.Module,
    path: str | os.PathLike[str],
    head: str | Sequence[str],
    *,
    weights: str | None = None,
) -> Loaded:
    """Load weights into the model and say exactly what did not fit.

    Args:
        model: written into.
        path: a file of ``torch.save``; read with ``weights_only=True``.
        head: name of the fusion head, or of the links of a chain: their weights must all be there.
        weights: which weights of the file, as in ``read_state_dict``.

    Raises:
        CheckpointError: the file is unreadable or unsafe, a weight of the head is missing, or a
            weight is of a kind that cannot be loaded.
    """
    name = os.fspath(path)
    refuse_lazy(model, error=CheckpointError, remedy="let the factory run one batch through it")
    # Wrappers (DDP, torch.compile) may be on either side: compare the names without them.
    own = {unwrapped(k): (k, v) for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    spelled = {key: spelling for key, (spelling, _) in own.items()}
    given, duplicates = _by_name(read_state_dict(path, weights), spelled)
    for key in given:
        if key in own:
            _refuse_kind(name, key, given[key], own[key][1])
    mismatched = tuple(
        f"{key} {list(given[key].shape)} for {list(own[key][1].shape)}"
        for key in given
        if key in own and given[key].shape != own[key][1].shape
    )
    fitting = {own[k][0]: v for k, v in given.items() if k in own and v.shape == own[k][1].shape}
    _refuse_without_head(name, own, given, fitting, [head] if isinstance(head, str) else head)
    load_weights(model, fitting)
    missing = tuple(key for key in own if key not in given)
    unexpected = tuple(key for key in given if key not in own)
    return Loaded(
        name, len(fitting), missing, unexpected, mismatched, sha256(path), tuple(duplicates)
    )


def _by_name(
    weights: Mapping[str, Tensor], spelled: Mapping[str, str]
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights by their names without wrappers, and the names of second copies.

    If there are both ``X`` and ``module.X`` (a model and its moving average, for example), the one
    is taken that is spelled as in the model; else the one with fewer wrappers.
    """
    spellings: dict[str, list[str]] = {}
    for spelling in weights:
        spellings.setdefault(unwrapped(spelling), []).append(spelling)
    given, duplicates = {}, []
    for key, found in spellings.items():
        best = min(found, key=lambda one: (one != spelled.get(key), one.count(".")))
        given[key] = weights[best]
        duplicates += [one for one in found if one != best]
    return given, duplicates


def _refuse_kind(name: str, key: str, given: Tensor, own: Tensor) -> None:
    """Refuse what torch would convert in silence, or cannot copy."""
    kind = ""
    if given.is_meta:
        kind = "a meta tensor, which has no values"
    elif given.is_quantized:
        kind = f"a quantized tensor ({given.dtype})"
    elif given.is_nested:
        kind = "a nested tensor"
    elif given.layout is not torch.strided:
        kind = f"a sparse tensor ({given.layout})"
    elif own.is_floating_point() and given.dtype not in (*_FLOATS, own.dtype):
        kind = str(given.dtype)
    if kind:
        raise CheckpointError(
            f"{name}: the weight {key!r} cannot be loaded into this model",
            got=kind,
            expected=f"a dense tensor of {own.dtype}, or another float with 16 bits or more",
            remedy="save the weights of the model before they are quantized, pruned to a sparse "
            "layout or otherwise packed",
        )


def _refuse_without_head(
    name: str,
    own: Mapping[str, tuple[str, Tensor]],
    given: Mapping[str, Tensor],
    fitting: Mapping[str, Tensor],
    head: Sequence[str],
) -> None:
    links = [unwrapped(link) for link in head]
    lost = [
        key
        for key, (spelling, _) in own.items()
        if spelling not in fitting
        and _belongs(key, links)
        and not key.endswith("num_batches_tracked")
    ]
    if fitting and not lost:
        return
    shapes = [
        f"{key} {list(given[key].shape)} for {list(own[key][1].shape)}"
        for key in lost
        if key in given
    ]
    others = [key for key in given if key not in own]
    near = "" if shapes or not lost else did_you_mean(lost[0], others)
    raise CheckpointError(
        f"{name}: the checkpoint does not hold the weights of the head " + repr(" -> ".join(links)),
        got="; ".join(shapes) or f"{len(given)} weights, such as {', '.join([*given][:5])}",
        expected=", ".join(f"{key} {list(own[key][1].shape)}" for key in lost or own),
        remedy=_prefixed(given, lost)
        or near
        or "pass the checkpoint of this model, saved with its head",
    )


def _prefixed(given: Iterable[str], lost: Sequence[str]) -> str:
    """A remedy, where the names begin with what a training script calls its model."""
    if not lost:
        return ""
    end = "." + lost[0]
    prefixes = [repr(key.removesuffix(end)) for key in given if key.endswith(end)]
    chosen = " or ".join(prefixes)
    return f"pass weights={chosen} (--weights): names in the file begin with it" if chosen else ""


def _belongs(key: str, links: Sequence[str]) -> bool:
    return any(not link or key.startswith(link + ".") for link in links)
