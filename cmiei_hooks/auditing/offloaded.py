"""Models whose weights are on ``meta`` between calls: where the weights are, and how to load some.

accelerate (``cpu_offload``, ``device_map``) keeps them in the ``weights_map`` of a hook.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError

__all__ = ["execution_device", "is_offloaded", "load_weights", "offloaded_weights"]


def is_offloaded(model: nn.Module) -> bool:
    """Whether a parameter or buffer of the model is on ``meta``."""
    return any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def offloaded_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that are on ``meta`` in the model, from where its hooks take them for a call."""
    found = {}
    weights = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor) and v.is_meta}
    for path, module in model.named_modules() if weights else ():
        prefix = f"{path}." if path else ""
        for stored in _stored(getattr(module, "_hf_hook", None)):
            for key in weights:
                value = stored.get(key.removeprefix(prefix)) if key.startswith(prefix) else None
                if isinstance(value, Tensor):
                    found[key] = value
    return found


def _stored(hook: Any) -> list[Mapping[str, Any]]:
    """Where the hook of a module, or a sequence of hooks, has its weights."""
    hooks = getattr(hook, "hooks", (hook,))
    maps = [getattr(one, "weights_map", None) for one in hooks]
    return [one for one in maps if isinstance(one, Mapping)]


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights by their names in the state dict, offloaded ones too.

    Raises:
        CheckpointError: it is not known where an offloaded weight is, or it is on disk.
    """
    own, stored = model.state_dict(), offloaded_weights(model)
    meta = [key for key in weights if own[key].is_meta]
    again = offloaded_weights(model)
    # What is read from a file is another tensor each time.
    known = [key for key in stored if stored[key].data_ptr() == again[key].data_ptr()]
    if lost := [key for key in meta if key not in known]:
        raise CheckpointError(
            "a checkpoint cannot be loaded into weights that are offloaded",
            got=f"on meta: {', '.join(lost[:5])}{', ...' if len(lost) > 5 else ''}",
            expected="weights in memory, as of accelerate's cpu_offload",
            remedy="load the checkpoint in the factory, before the model is offloaded",
        )
    if plain := {key: value for key, value in weights.items() if key not in meta}:
        model.load_state_dict(plain, strict=False)
    with torch.no_grad():
        for key in meta:
            stored[key].copy_(weights[key])


def execution_device(model: nn.Module) -> torch.device | None:
    """Where the hooks of an offloaded model let it run, if they say so."""
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            device = getattr(one, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return None
