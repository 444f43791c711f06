"""What limits all values of an audit, and what limits its conclusion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..reporting import count, counted, finite, p_value, percent
from .conclusion import few, is_certain, leaning, listed, of_rights
from .results import Results
from .samples import P_FLOOR

__all__ = ["caveats", "warnings"]

_AGREED = 0.8
"""Baselines that agree for a smaller share of the samples are a caveat."""
_FEW = 100
"""Fewer samples are a caveat."""


def warnings(report: Results) -> list[str]:
    """What limits all values."""
    found = []
    if report.partial:
        found.append(
            "This report is partial: the audit ended before all data was read. The values are "
            f"those of the {counted(report.n_samples, 'sample')} measured until then."
        )
    if report.non_finite:
        found.append(
            f"{counted(report.non_finite, 'sample')} {'was' if report.non_finite == 1 else 'were'} "
            "left out because of logits that were NaN or infinite."
        )
    return [*found, *report.notes]


def caveats(report: Results) -> list[str]:
    """What limits the conclusion. None may contradict it: both are read together."""
    if not report.n_samples or report.no_influence.mean == 1:
        return []
    found = (_baselines(report), _chance(report), _gain(report), _checkpoint(report))
    baselines, chance, gain, checkpoint = map(list, found)
    verb = "is" if report.n_samples == 1 else "are"
    number = [f"there {verb} only {counted(report.n_samples, 'sample')}."]
    return [*baselines, *chance, *gain, *number * (report.n_samples < _FEW), *checkpoint]


def _baselines(report: Results) -> Iterator[str]:
    pairs = [pair for pair in report.agreement if finite(pair.interval.mean) is not None]
    worst = min(pairs, key=lambda pair: pair.interval.mean, default=None)
    if worst is not None and worst.interval.mean < _AGREED:
        yield (
            f"the baselines {listed(worst.names)} agree on the dominant modality for only "
            f"{percent(worst.interval.mean, 0)} of the samples. Which one dominates depends on "
            "what a dropped modality is replaced by."
        )


def _chance(report: Results) -> Iterator[str]:
    """Influences that shuffled weights reach, and what is known of these modalities all the same.

    Chance is over the first samples and about the size of the influence; the conclusion is over all
    samples and about what is lost.
    """
    p_of = {name: p for name, of in report.null.items() if (p := finite(of["p"])) is not None}
    reached = [name for name, p in p_of.items() if p > P_FLOOR + 1e-12]
    if not reached:
        return
    first = max(int(report.null[name]["n"]) for name in reached)
    where = f" in the first {count(first)} samples" if first < report.n_samples else ""
    each = listed(few([f"{name} (p {p_value(p_of[name])})" for name in reached]))
    said = f"shuffled weights can give as much influence as {each}{where}."
    felt = _felt(report, reached)
    rest = [name for name in reached if name not in felt]
    if felt:
        said += " " + _otherwise_known(report, felt)
    if rest and felt:
        said += f" The influence is no evidence that the head uses {listed(few(rest))}."
    elif rest:
        said += " Such an influence is no evidence that the head uses the modality."
    yield said


def _felt(report: Results, names: Sequence[str]) -> list[str]:
    """Those of the modalities of which the conclusion says that something is lost without them."""
    if rights := of_rights(report):
        return [name for name in names if is_certain(rights[3][name])]
    leans = leaning(report)
    return [name for name in names if name in leans]


def _otherwise_known(report: Results, names: Sequence[str]) -> str:
    """What the conclusion says of them, and whether that shows that the head uses them."""
    each, them = listed(few(names)), "it" if len(names) == 1 else "them"
    if report.retrieval:
        return (
            f"Rank-1 does change without {each}, but it is of the features, not of the head: that "
            f"the head uses {them} is not seen."
        )
    if of_rights(report):
        them = "it" if len(names) == 1 else "each of them"
        return (
            f"That the head uses {each} is seen from the accuracy instead, which changes without "
            f"{them}."
        )
    return (
        f"The predictions do depend on {each}; that the head has learned from {them} is not seen."
    )


def _gain(report: Results) -> Iterator[str]:
    """An accuracy that the head has without any modality, too."""
    gained = report.shapley_accuracy_total
    if not report.accuracy or not gained or (gained.mean > 0 and is_certain(gained)):
        return
    below = gained.mean < 0 and is_certain(gained)
    said = (
        f"the accuracy of {percent(report.accuracy.mean)} is {'below' if below else 'not clearly '}"
        f"{'' if below else 'above'} that with every modality dropped."
    )
    if leans := leaning(report):
        clearly = "" if below else " clearly"
        said += f" It falls without {listed(leans)}, but not{clearly} without all at once."
    yield said


def _checkpoint(report: Results) -> Iterator[str]:
    loaded = report.checkpoint
    if loaded is not None and (lacking := len(loaded.missing) + len(loaded.mismatched)):
        yield (
            f"{count(lacking)} {'tensors' if lacking > 1 else 'tensor'} of the model "
            f"{'are' if lacking > 1 else 'is'} not in the checkpoint, or of another shape there, "
            f"and {'keep their initial values' if lacking > 1 else 'keeps its initial value'}."
        )
