"""Run a model over batches without training and measure the influence at its head."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..chain import ChainCheck
from ..config import Config, ConfigSource
from ..errors import CMIEIWarning, HeadError, InputError
from ..head import Head, locate, refuse_both
from ..hook import paused
from ..measure import expectation, measure
from ..modes import eval_mode, training_branch
from ..output import Outputs
from ..quiet import quiet
from .batches import Batch, read_batch
from .report import AuditReport, Observed, make_report

__all__ = ["audit"]

Forward = Callable[[nn.Module, Any], Any]


def audit(
    model: nn.Module,
    batches: Iterable[Any],
    head: str | Sequence[str] | None = None,
    splits: Sequence[int] | None = None,
    *,
    names: Sequence[str] | None = None,
    modalities: Mapping[str, Any] | None = None,
    dim: int = -1,
    output: Outputs = None,
    in_training_branch: bool = False,
    forward: Forward | None = None,
    config: ConfigSource = None,
    **settings: Any,
) -> AuditReport:
    """Measure how much a model's prediction depends on each modality, without training.

    The model runs in eval mode without gradient; afterwards its flags, weights, buffers and
    attributes are as before, and so are the global random generators.

    Args:
        model: with its weights loaded.
        batches: each a tensor, a tuple or list of tensors, a dict (of keyword arguments, if the
            model has them), or a pair of any of these and labels. A trailing integer ``[B]``
            tensor is taken for the labels, and then accuracy is reported too.
        head: as in ``attach``, like the arguments below.
        splits: widths of the modalities.
        names: names of the modalities.
        modalities: where they are, for heads that receive them otherwise.
        dim: the axis of their concatenation.
        output: which part of the head's return value is the logits.
        in_training_branch: run the branch ``if self.training``, for models that call their head in
            no other. Normalisation, dropout and stochastic depth are in eval mode all the same.
        forward: ``forward(model, batch)`` runs the model on one batch as the loader yields it (on
            the model's device), for models that need labels or anything else. Then no labels are
            read from the batches.
        config: ``DROP``, ``MEASURE`` and the thresholds matter; ``ENABLED`` does not.
        **settings: fields of Config.

    Returns:
        The figures over all samples.

    Raises:
        CMIEIError: as ``attach``; or the head is not called in this mode, or there is no batch.
    """
    refuse_both(splits, modalities)
    resolved = Config.resolve(config, settings, head=head, splits=splits, names=names)
    where = locate(model, resolved, modalities=modalities, dim=dim, output=output)
    if not isinstance(batches, Iterable):
        raise InputError(
            "batches cannot be iterated over",
            got=type(batches).__name__,
            expected="batches, such as a DataLoader",
            remedy="pass a list or a loader",
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    observed: list[Observed] = []
    mode = training_branch if in_training_branch else eval_mode
    listening = _listening(model, where, observed)
    with mode(model), quiet(model, device), paused(model), listening as check:
        drew = False
        for given in batches:
            calls = len(observed)
            batch = read_batch(model, given, device, checked=forward is None)
            before = _generators(device)
            if forward is None:
                _call(model, batch)
            else:
                forward(model, batch.given)
            drew |= not all(map(torch.equal, before, _generators(device)))
            if len(observed) == calls or check.missing:
                name = where.names[0] if len(observed) == calls else where.names[-1]
                raise _silent(name, in_training_branch)
            if batch.label is not None:
                observed[calls:] = [_labelled(call, batch.label) for call in observed[calls:]]
    if not observed:
        raise InputError(
            "there is nothing to measure",
            got="no batch",
            expected="one or more",
            remedy="check the loader: an iterator that was used up yields nothing",
        )
    if drew:
        warnings.warn(
            "the model drew random numbers in this mode: the figures are of one draw",
            CMIEIWarning,
            stacklevel=2,
        )
    return make_report(where, resolved, observed)


def _call(model: nn.Module, batch: Batch) -> None:
    args, kwargs = batch.call
    try:
        model(*args, **kwargs)
    except (TypeError, AttributeError) as error:
        # A dict whose keys are no keywords of forward was passed as it is; perhaps a mistake.
        if kwargs or len(args) != 1 or not isinstance(args[0], Mapping):
            raise
        raise InputError(
            "the model cannot be called with a batch of this loader",
            got=f"a dict of {', '.join(map(str, args[0]))} as one argument, since forward has no "
            f"such keywords: {error}",
            expected="a dict of the keywords of forward, or of what forward takes as one dict",
            remedy="name the keys as forward names its arguments, or say with forward= "
            "(--forward) how the model is called with a batch",
        ) from error


def _generators(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def _labelled(call: Observed, label: Tensor) -> Observed:
    if len(label) != len(call.influence):
        raise InputError(
            "the labels do not belong to the logits",
            got=f"{len(label)} labels, logits of {len(call.influence)} samples",
            expected="one label for each sample",
            remedy="yield (inputs, labels) of one batch together",
        )
    return dataclasses.replace(call, label=label.cpu())


def _silent(name: str, in_training_branch: bool) -> HeadError:
    mode = "its training branch" if in_training_branch else "eval mode"
    return HeadError(
        f"the model ran in {mode} without calling its head {name!r}",
        got="0 calls",
        expected="one call a batch",
        remedy="name a head that the model calls"
        if in_training_branch
        else "many re-identification models call the classifier in training only: audit the "
        "training branch (in_training_branch=True, --training-branch), or name another head",
    )


@contextmanager
def _listening(model: nn.Module, head: Head, observed: list[Observed]) -> Iterator[ChainCheck]:
    check = ChainCheck(head, model)

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured = head.partition.read(args, kwargs)
        found = measure(head, captured)
        if check.open:
            check.expect(expectation(head, captured, captured.call))
        observed.append(
            Observed(
                found.influence.cpu(),
                _predicted(found.logits, head.measure),
                _predicted(found.counterfactual_logits, head.measure),
            )
        )

    handle = head.first.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield check
    finally:
        handle.remove()
        check.close()


def _predicted(logits: Tensor, measure: str) -> Tensor | None:
    """The class of each sample; None where logits are not of classes."""
    if measure in ("kl", "js", "ted"):
        return logits.argmax(-1).cpu()
    if measure == "bernoulli" and logits.shape[-1] == 1:
        return (logits[..., 0] > 0).long().cpu()
    return None
