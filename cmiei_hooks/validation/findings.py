"""How a validation's report is read: which metrics are judged, which arms are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from ..reporting import DASH, Cell, counted, estimate, finite, number
from ..settings import Config
from .intervals import NOT_SEEN

__all__ = [
    "Found",
    "arm_words",
    "compared",
    "corrected",
    "detectable",
    "difference",
    "is_lost",
    "judged",
    "listed",
    "main_arm",
    "signed",
    "titled",
    "verdict_cell",
]

Found = Mapping[str, Any]
"""The content of report.json, or of one of its keys."""

_ARMS = {
    "plain": "nothing attached",
    "disabled": "ENABLED False",
    "inert": "attached, but never substitutes",
    "method": "C-MIEI",
    "stopped": "C-MIEI that stops after 70% of the training",
    "never ending": "C-MIEI that never ends",
    "stopped random": "a random modality in as many samples as in 'stopped'",
    "random": "a random modality in as many samples",
    "dropout": "a random modality set to zero in as many samples",
    "relative": "C-MIEI with RELATIVE and an end",
    "strong": "RELATIVE, K 1, P_MAX 1, REL_THR 1, no warm-up, until 60% of the training",
    "strong random": "a random modality in as many samples as in 'strong'",
    "selfpaced": "C-MIEI with PRESET selfpaced",
    "selfpaced random": "as many random modalities as in 'selfpaced'",
    "random gated": "'selfpaced' without targeting: each modality is as likely as the others",
}
_PEERS = {
    "dropout ": "modality dropout: each modality of each sample set to zero at this rate",
    "random one": "a random modality of every sample, in every step",
    "random ": "each modality of each sample as mean plus noise at this rate, in every step",
    "OGM-GE ": "gradient modulation with noise, with this alpha",
}
"""By the beginning of the name."""
_TONES: Mapping[str, Literal["good", "bad"]] = {"better": "good", "worse": "bad"}


def arm_words(name: str) -> str:
    """What an arm is. An arm of the sensitivity is named by its setting."""
    if name in _ARMS:
        return _ARMS[name]
    for beginning, words in _PEERS.items():
        if name.startswith(beginning):
            return words
    changed = hasattr(Config, name.partition(" ")[0].lower())
    return f"C-MIEI with {name}" if changed else "a strategy of your own"


def main_arm(report: Found) -> str | None:
    """The arm that the title asks about: the method or, where it did not run, the first that was
    compared with plain training.
    """
    arms = [found["first"] for found in report["comparisons"] if found["second"] == "plain"]
    return "method" if "method" in arms else next(iter(arms), None)


def judged(report: Found) -> list[str]:
    """The metrics that can be better or worse."""
    return [name for name, sign in report["better"].items() if sign]


def titled(report: Found, metric: str) -> str:
    """The name of a metric, with the direction where it is the less usual one."""
    return f"{metric} (less is better)" if report["better"].get(metric) == -1 else metric


def compared(report: Found, first: str, second: str) -> dict[str, Found]:
    """The paired differences of two arms, by metric: those that can be better or worse."""
    pair = {
        found["metric"]: found
        for found in report["comparisons"]
        if (found["first"], found["second"]) == (first, second)
    }
    return {metric: pair[metric] for metric in judged(report) if metric in pair}


def signed(value: object) -> str:
    """A difference."""
    known = finite(value)
    return DASH if known is None else f"{known:+.4f}"


def difference(found: Found) -> str:
    """A mean difference with its interval."""
    return estimate(found["mean"], found["low"], found["high"], signed)


def detectable(found: Found) -> str:
    """The least mean difference that would have been seen; seeds that do not vary show none."""
    return number(found["detectable"] or None)


def verdict_cell(report: Found, found: Found) -> Cell:
    """The verdict, with the reason where it is not known."""
    seeds, verdict = len(report["seeds"]), found["verdict"]
    missing = seeds - found["n"]
    note = f"{missing} of {counted(seeds, 'seed')} gave no number" if missing else ""
    if verdict == "not known" and not missing:
        note = "all seeds differ by the same" if seeds > 1 else "one seed alone has no interval"
    return Cell(verdict, note, tone=_TONES.get(verdict, ""))


def corrected(found: Found) -> str:
    """The verdict after Holm's correction, where there was a difference before."""
    seen = found["verdict"] in _TONES
    return str(found["verdict_holm"]) if seen else DASH


def is_lost(found: Found) -> bool:
    """Whether Holm's correction takes a difference away."""
    return found["verdict"] in _TONES and found["verdict_holm"] == NOT_SEEN


def listed(words: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    known: Sequence[str] = list(words)
    return " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)
