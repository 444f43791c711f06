"""Run a model over batches in eval mode and measure the influence at its head."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Config
from ..errors import HeadError, InputError
from ..head import Output, locate
from ..measure import measure
from ..modes import eval_mode
from ..partition import Partition
from ..quiet import quiet
from .report import AuditReport, Observed, make_report

__all__ = ["audit"]

_LABELS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def audit(
    model: nn.Module,
    batches: Iterable[Any],
    head: str | None = None,
    splits: Sequence[int] | None = None,
    *,
    names: Sequence[str] | None = None,
    dim: int = -1,
    output: Output = None,
    config: Config | str | os.PathLike[str] | Mapping[str, Any] | object | None = None,
    **settings: Any,
) -> AuditReport:
    """Measure how much a model's prediction depends on each modality, without training.

    The model runs in eval mode without gradient; afterwards its flags, weights, buffers and
    attributes are as before, and so are the global random generators.

    Args:
        model: with its weights loaded.
        batches: each a tensor, a tuple or list of tensors, a dict of keyword arguments, or a pair
            of any of these and labels. A trailing integer ``[B]`` tensor is taken for the labels,
            and then accuracy is reported too.
        head: as in ``attach``, like the arguments below.
        splits: widths of the modalities.
        names: names of the modalities.
        dim: the axis of their concatenation.
        output: which part of the head's return value is the logits.
        config: ``DROP`` and the thresholds matter; ``ENABLED`` does not.
        **settings: fields of Config.

    Returns:
        The figures over all samples.

    Raises:
        CMIEIError: as ``attach``; or the head is not called in eval mode, or there is no batch.
    """
    resolved = Config.resolve(config, settings, head=head, splits=splits, names=names)
    name, module, partition = locate(model, resolved, dim, output)
    if not isinstance(batches, Iterable):
        raise InputError(
            "batches cannot be iterated over",
            got=type(batches).__name__,
            expected="batches, such as a DataLoader",
            remedy="pass a list or a loader",
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    observed: list[Observed] = []
    listening = _listening(module, partition, resolved, output, observed)
    with eval_mode(model), quiet(model, device), listening:
        for batch in batches:
            calls = len(observed)
            args, kwargs, label = _inputs(_moved(batch, device))
            _check_call(model, args, kwargs)
            model(*args, **kwargs)
            if len(observed) == calls:
                raise _silent(name)
            if label is not None:
                observed[calls:] = [_labelled(call, label) for call in observed[calls:]]
    if not observed:
        raise InputError(
            "there is nothing to measure",
            got="no batch",
            expected="one or more",
            remedy="check the loader: an iterator that was used up yields nothing",
        )
    return make_report(name, partition, resolved, observed)


def _check_call(model: nn.Module, args: list[Any], kwargs: dict[str, Any]) -> None:
    try:
        inspect.signature(model.forward).bind(*args, **kwargs)
    except TypeError as error:
        given = [type(a).__name__ for a in args]
        given += [f"{key}={type(value).__name__}" for key, value in kwargs.items()]
        raise InputError(
            "the model cannot be called with a batch of this loader",
            got=f"({', '.join(given)}): {error}",
            expected="the inputs of forward (a tensor, a tuple, or a dict of its keywords), or "
            "these followed by an integer tensor [B] of labels",
            remedy="wrap the loader so that it yields these and nothing else",
        ) from None


def _labelled(call: Observed, label: Tensor) -> Observed:
    if len(label) != len(call.predicted):
        raise InputError(
            "the labels do not belong to the logits",
            got=f"{len(label)} labels, logits of {len(call.predicted)} samples",
            expected="one label for each sample",
            remedy="yield (inputs, labels) of one batch together",
        )
    return dataclasses.replace(call, label=label.cpu())


def _silent(name: str) -> HeadError:
    return HeadError(
        f"the model ran in eval mode without calling its head {name!r}",
        got="0 calls",
        expected="one call a batch",
        remedy="many re-identification models skip the classifier in eval: audit a model whose "
        "forward calls it, or wrap the model so that it does",
    )


@contextmanager
def _listening(
    head: nn.Module,
    partition: Partition,
    config: Config,
    output: Output,
    observed: list[Observed],
) -> Iterator[None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        result = measure(
            head, partition, args, kwargs, drop=config.drop, kind=config.measure, output=output
        )
        observed.append(
            Observed(
                result.influence.cpu(),
                result.logits.argmax(-1).cpu(),
                result.counterfactual_logits.argmax(-1).cpu(),
            )
        )

    handle = head.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return [_moved(value, device) for value in batch]
    return batch


def _inputs(batch: Any) -> tuple[list[Any], dict[str, Any], Tensor | None]:
    """The arguments of the model in a batch, and the labels if there are any."""
    if isinstance(batch, Mapping):
        return [], dict(batch), None
    if not isinstance(batch, list):
        return [batch], {}, None
    label = batch[-1]
    if len(batch) < 2 or not (
        isinstance(label, Tensor) and label.dim() == 1 and label.dtype in _LABELS
    ):
        return batch, {}, None
    inputs = batch[:-1]
    if len(inputs) == 1 and isinstance(inputs[0], (list, dict)):  # ((a, b, c), label)
        args, kwargs, _ = _inputs(inputs[0])
        return args, kwargs, label
    return inputs, {}, label
