"""Whether audits can be compared: the same measure, modalities and samples, in the same order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..reporting import count, counted
from .saved_audit import Audited

__all__ = ["refuse_other_measure", "refuse_other_samples"]

_SAME_DATA = (
    "audit all of them over the same data in the same order: a loader that does not shuffle, with "
    "the same --limit and --seed"
)


def refuse_other_measure(audits: Sequence[Audited], labels: Sequence[str]) -> None:
    """Refuse values that do not mean the same.

    Raises:
        InputError: modalities, measure or baseline of some audit differ from those of the first.
    """
    first = audits[0]
    for audit, label in zip(audits[1:], labels[1:], strict=True):
        if set(audit.names) != set(first.names):
            raise InputError(
                "the audits do not have the same modalities",
                got=f"{', '.join(audit.names)} in {label}",
                expected=f"{', '.join(first.names)}, as in {labels[0]}",
                remedy="audit with the same --names, or compare models of the same modalities",
            )
        for key, what in (("measure", "measure"), ("drop", "baseline")):
            if audit.facts[key] != first.facts[key]:
                raise InputError(
                    f"the audits do not have the same {what}",
                    got=f"{audit.facts[key]} in {label}",
                    expected=f"{first.facts[key]}, as in {labels[0]}",
                    remedy=f"audit with the same --{key}",
                )


def refuse_other_samples(audits: Sequence[Audited], labels: Sequence[str]) -> list[str]:
    """Refuse audits of other samples; returns what could not be checked, in sentences.

    Compared are the number of samples, their labels and groups, and the fingerprints of what the
    models got. Fingerprints may differ if the labels agree, since models may need inputs that
    were prepared in another way; but not if they are those of the same samples in another order.

    Raises:
        InputError: the samples or their order differ from those of the first audit.
    """
    notes = []
    for audit, label in zip(audits[1:], labels[1:], strict=True):
        _refuse_number(audits[0], audit, labels[0], label)
        known = [
            _same_column(audits[0], audit, labels[0], label, "label"),
            _same_groups(audits[0], audit, labels[0], label),
        ]
        notes += _compare_inputs(audits[0], audit, labels[0], label, checked=any(known))
    return notes


def _refuse_number(first: Audited, audit: Audited, known: str, label: str) -> None:
    if len(audit) != len(first):
        raise InputError(
            "the audits are not of the same samples",
            got=f"{counted(len(audit), 'sample')} in {label}",
            expected=f"{count(len(first))}, as in {known}",
            remedy=_SAME_DATA,
        )


def _same_column(first: Audited, audit: Audited, known: str, label: str, key: str) -> bool:
    """Whether both have the column; then it must be the same."""
    if key not in first.columns or key not in audit.columns:
        return False
    a, b = first.columns[key], audit.columns[key]
    other = (a != b).nonzero()[:, 0].tolist()
    if other:
        i = other[0]
        raise _order(key, other, f"{b[i]:g} in {label}", f"{a[i]:g}, as in {known}", len(first))
    return True


def _same_groups(first: Audited, audit: Audited, known: str, label: str) -> bool:
    if first.group is None or audit.group is None:
        return False
    pairs = enumerate(zip(first.group, audit.group, strict=True))
    other = [(i, a, b) for i, (a, b) in pairs if a != b]
    if other:
        _, a, b = other[0]
        places = [i for i, _, _ in other]
        raise _order("group", places, f"{b} in {label}", f"{a}, as in {known}", len(first))
    return True


def _order(what: str, other: Sequence[int], got: str, expected: str, total: int) -> InputError:
    return InputError(
        f"the audits are not of the same samples: {count(len(other))} of {count(total)} have "
        f"another {what}",
        got=f"{what} of sample {other[0]}: {got}",
        expected=expected,
        remedy=_SAME_DATA,
    )


def _compare_inputs(
    first: Audited, audit: Audited, known: str, label: str, *, checked: bool
) -> list[str]:
    """Whether the loaders yielded the same; ``checked``: labels or groups are known to agree."""
    if "fingerprint" not in first.columns or "fingerprint" not in audit.columns:
        if checked:
            return []
        return [
            f"It could not be checked that {label} and {known} are of the same samples in the same "
            "order: there are neither labels nor fingerprints of the inputs."
        ]
    a, b = first.columns["fingerprint"], audit.columns["fingerprint"]
    other = (a != b).nonzero()[:, 0].tolist()
    if not other:
        return []
    if not checked or _are_shuffled(a, b):
        order = "the same inputs are in another order" if _are_shuffled(a, b) else "other inputs"
        raise InputError(
            f"the audits are not of the same samples: {count(len(other))} of {count(len(first))} "
            "have another input",
            got=f"{order} in {label}, sample {other[0]} on",
            expected=f"the samples of {known}, in their order",
            remedy=_SAME_DATA,
        )
    return [
        f"The inputs of {count(len(other))} of {count(len(first))} samples in {label} are not "
        f"those in {known}, although the labels agree. That is right if the data was prepared in "
        "another way, and wrong if it is other data."
    ]


def _are_shuffled(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.sort().values, b.sort().values)
