"""The hook on the head: what each call shows by itself, and in comparison with all others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .._torch import out_of_memory
from ..counterfactual import BranchCalls, ChainCheck, expectation
from ..discovery import modalities_apart
from ..errors import FailedWithoutError, HeadError, InputError
from ..fusion import (
    Captured,
    Head,
    Path,
    call_tensors,
    eval_mode,
    one_modality_a_row,
    training_branch,
)
from .batches import Batch
from .collected import Collected
from .fingerprints import fingerprints
from .model_output import run_and_compare
from .options import AuditOptions
from .reference import Pooled, Reference
from .retrieval import MOST, vectors_of
from .samples import Logits, Samples, influence_of, logits_of, observe
from .saved_call import SavedCall, save_call

__all__ = ["Observer"]

_MOST_BYTES = 2**30
"""The most memory for calls that wait for the others."""


@dataclass(frozen=True)
class _Waiting:
    """A call that waits for the mean of all samples."""

    saved: SavedCall
    pooled: Pooled
    logits: Logits
    samples: Samples | None
    """What it shows by itself; None if a dropped modality is replaced by the mean."""


class Observer:
    """Observes each call of the head, and at the end runs the head again beside all other samples.

    What the first samples show by themselves is measured in the model's own call. The mean of all
    samples, and other samples, are known when all calls are.
    """

    def __init__(
        self,
        model: nn.Module,
        head: Head,
        options: AuditOptions,
        found: Collected,
        device: torch.device,
        *,
        keep_calls: bool = False,
    ) -> None:
        self.model, self.head, self.options, self.device = model, head, options, device
        self.found, self.keep_calls = found, keep_calls
        self.check = ChainCheck()
        self.number, self.with_null = 0, True
        """The number of the batch, and whether the null is measured on it."""
        self.batch: Batch | None = None
        self._fingerprints: dict[int, Tensor] = {}
        self._calls = self._bytes = self._rows = 0
        self._deaf = False
        """During runs of the model that are not part of the audit."""
        self._waiting: list[_Waiting] = []
        self._reference: Reference | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, the calls of the head are observed."""
        self.check = ChainCheck(self.head, self.model)
        branches = BranchCalls(self.head, self.model) if self.head.branches else None
        handle = self.head.first.register_forward_pre_hook(self, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
            self.check.close()
            if branches is not None:
                branches.close()

    def watch(self, batch: Batch, run: Callable[[], None]) -> None:
        """Run one batch; the head must be called in it.

        Raises:
            HeadError: it is not, or the model does not return its logits.
        """
        self.batch = batch
        inputs = batch.call if self.options.forward is None else batch.given
        self._fingerprints = fingerprints(inputs)
        calls = self._calls
        if calls:
            run()
        else:
            told = self.options.features_head
            again = partial(self._run_again, run)
            try:
                self.found.hidden = run_and_compare(self.model, self.head, run, again, told=told)
                self._refuse_apart(batch)
            except HeadError:
                self._forget()  # of this head there is nothing to report
                raise
            except InputError:
                self._refuse_apart(batch)  # perhaps the cause
                raise
        if self._calls == calls or self.check.missing:
            names = self.head.names
            name = names[0] if self._calls == calls else names[-1]
            raise _silent(name, self.options.in_training_branch)
        full = self._bytes * self.options.shard[1] > _MOST_BYTES
        if full and self._reference is None:
            self.found.first = sum(len(one.logits.usable) for one in self._waiting)
            self.settle(everywhere=False)

    def _refuse_apart(self, batch: Batch) -> None:
        """Refuse a head that receives one modality in each call, or in each row.

        Raises:
            HeadError: it does, as far as the inputs of the model can be told apart.
        """
        args, kwargs = batch.call
        samples = {len(x) for _, x in call_tensors(batch.call) if x.dim()}
        usual = self._calls < 2 and self._rows in samples
        if usual or self.options.forward is not None or (args and kwargs):
            return
        self._deaf = True
        found = modalities_apart(
            self.model,
            args or (kwargs,),
            self.head.first,
            len(self.head.partition.names),
            training_branch if self.options.in_training_branch else eval_mode,
        )
        self._deaf = False
        if found:
            otherwise = "if each input holds all modalities (two views), pass forward= (--forward)"
            raise one_modality_a_row(self.head.names[0], found, otherwise)

    def _run_again(self, run: Callable[[], None]) -> None:
        """Run the first batch again after an error."""
        self._forget()
        run()

    def _forget(self) -> None:
        self._calls, self._waiting, self.found.calls, self.found.vectors = 0, [], [], []

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The hook."""
        if self._deaf:
            return
        captured = self.head.partition.read(args, kwargs)
        self._rows = captured.batch
        saved = save_call(
            captured,
            batch=self.number,
            label=None if self.batch is None else self.batch.label,
            group=None if self.batch is None else self.batch.group,
            fingerprint=self._fingerprints.get(captured.batch),
            with_null=self.with_null,
        )
        self.look(captured, saved)
        if self.check.open:
            self.check.expect(expectation(self.head, captured, captured.call))

    def look(self, captured: Captured, saved: SavedCall) -> None:
        """Observe what one call shows by itself."""
        samples = self._observed(captured, saved, None) if self.head.drop == "zero" else None
        logits = logits_of(self.head, captured) if samples is None else samples.logits
        _refuse_lengths(saved, captured.batch)
        self._calls += 1
        if self.keep_calls:
            self.found.calls.append(saved)
        if sum(len(one.label) for one in self.found.vectors) < MOST:
            self.found.vectors += filter(None, [vectors_of(captured, saved)])
        tensors = dict(call_tensors(saved.call))
        pooled = Pooled(saved.batch, {p: tensors[p] for p in captured.tensors}, logits.usable)
        waiting = _Waiting(saved, pooled, logits, samples)
        if self._reference is None:
            self._waiting.append(waiting)
            self._bytes += saved.size
        else:
            others = torch.arange(captured.batch) + self._calls
            self.found.parts.append(self._completed(waiting, captured, self._reference, others))

    def settle(self, *, everywhere: bool) -> None:
        """Compare the calls that wait with the mean of all samples, and with other samples.

        Args:
            everywhere: take the samples of all processes; every one of them must then call this.
        """
        waiting, self._waiting = self._waiting, []
        pooled = [one.pooled for one in waiting]
        reference = Reference(pooled, self.options.seed, everywhere=everywhere)
        self._reference = self._reference or reference
        for one, others in zip(waiting, reference.others, strict=True):
            self.found.parts.append(self._completed_later(one, reference, others))

    def _completed_later(self, one: _Waiting, reference: Reference, others: Tensor) -> Samples:
        """Run the head again, apart from the model."""
        if self.found.not_repeated and one.samples is not None:
            return one.samples
        try:
            captured = one.saved.restored(self.head, self.device)
            with one.saved.running(captured.device):
                return self._completed(one, captured, reference, others)
        except InputError:
            raise
        except Exception as error:  # FSDP keeps the weights away, the model sets an attribute, ...
            if out_of_memory(error):
                raise
            without = isinstance(error, FailedWithoutError)
            if without and one.samples is None:
                raise  # it did run again: DROP zero would fail as well, or has its own error
            reason = error.__cause__ if without else error
            self.found.not_repeated = (str(reason).splitlines() or [type(reason).__name__])[0]
            if one.samples is None:
                raise _not_repeated(self.head, self.found.not_repeated) from error
            return one.samples

    def _completed(
        self, one: _Waiting, captured: Captured, reference: Reference, others: Tensor
    ) -> Samples:
        """The samples with all baselines.

        Raises:
            RuntimeError: the logits are not those of the model's own call.
        """
        samples = one.samples
        if not reference.knows(captured):
            if samples is None:
                raise _single(captured)
            unknown = torch.full_like(samples.influence, math.nan)
            values = samples.baselines | {"mean": unknown, "permuted": unknown}
            return dataclasses.replace(samples, baselines=values)
        mean = _with_fill(captured, reference.mean(captured))
        if samples is None:
            samples = self._observed(captured, one.saved, mean)
        instead = {"zero": None, "mean": mean, "permuted": reference.other(captured, others)}
        rest = {name: new for name, new in instead.items() if name not in samples.baselines}
        logits, found = influence_of(self.head, captured, [*rest.values()])
        if not (self.found.drew or logits.agree(one.logits)):
            raise RuntimeError("it returns other logits than in the model")
        known = samples.baselines | dict(zip(rest, found, strict=True))
        return dataclasses.replace(samples, baselines={name: known[name] for name in instead})

    def _observed(
        self, captured: Captured, saved: SavedCall, drop: Mapping[Path, Tensor] | None
    ) -> Samples:
        samples = observe(
            self.head,
            captured,
            batch=saved.batch,
            seed=self.options.seed,
            with_null=saved.with_null,
            drop=drop,
        )
        return dataclasses.replace(
            samples, label=saved.label, group=saved.group, fingerprint=saved.fingerprint
        )


def _with_fill(captured: Captured, mean: Mapping[Path, Tensor]) -> dict[Path, Tensor]:
    """The mean of all samples; of whole numbers there is none, but a fill value."""
    found = dict(mean)
    for m, group in enumerate(captured.groups):
        for path in (one.path for one in group):
            if not mean[path].is_floating_point():
                found[path] = captured.filled(mean[path], m)
    return found


def _refuse_lengths(saved: SavedCall, samples: int) -> None:
    for what, column in (("labels", saved.label), ("groups", saved.group)):
        if column is not None and len(column) != samples:
            raise InputError(
                f"there are more or fewer {what} than samples",
                got=f"{len(column)} {what}, logits of {samples} samples",
                expected="one for each sample",
                remedy="yield inputs, labels and groups of one batch together",
            )


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


def _not_repeated(head: Head, reason: str) -> HeadError:
    return HeadError(
        f"DROP mean needs the head {head.name!r} to run again when all samples are known",
        got=reason,
        expected="a head that does the same apart from the model",
        remedy="use DROP zero, which is measured in the model's own call",
    )


def _single(captured: Captured) -> InputError:
    shapes = ", ".join(str(list(x.shape[1:])) for x in captured.tensors.values())
    return InputError(
        "a sample has no other samples to take the mean of",
        got=f"at most one sample with finite logits whose features have the shape {shapes}",
        expected="two or more samples of each shape",
        remedy="audit more samples, or use DROP zero",
    )
