"""The call of the model with the first batch, as ``discover`` and ``verify`` need it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from torch import nn

from ..auditing import (
    Columns,
    call_function,
    checkpoints_in,
    device_of,
    import_function,
    load_checkpoint,
    make_model,
    read_batch,
    seed_everything,
)
from ..discovery import call_in
from ..errors import InputError
from ..fusion import Call

__all__ = ["first_call", "loaded_model"]


def loaded_model(args: argparse.Namespace, seed: int) -> nn.Module:
    """The model, with the weights of the (last) checkpoint if there is one.

    Raises:
        CMIEIError: there is no such model or checkpoint.
    """
    seed_everything(seed)
    model = make_model(args.model, dict(args.model_args), args.device)
    if args.checkpoint is not None:
        load_checkpoint(model, checkpoints_in(args.checkpoint)[-1], (), weights=args.weights)
    return model


def first_call(
    args: argparse.Namespace,
    model: nn.Module,
    mode: Callable[[nn.Module], AbstractContextManager[None]],
) -> Call:
    """How the model is called with the first batch of ``--data``.

    Args:
        args: of a command with ``add_call_arguments``.
        model: on its device.
        mode: in which ``--forward`` runs.

    Raises:
        CMIEIError: there is no batch, or the model cannot be called with it.
    """
    batches = call_function(args.data)
    for given in batches if isinstance(batches, Iterable) else ():
        own = args.forward is None
        columns = Columns(args.labels, None, args.inputs)
        batch = read_batch(model, given, device_of(model), columns, checked=own)
        if own:
            return batch.call
        return call_in(import_function(args.forward), model, batch.given, mode)
    raise InputError(
        "there is no batch to run the model with",
        got=type(batches).__name__,
        expected="batches, such as a DataLoader",
        remedy="return a list or a loader that yields at least one",
    )
