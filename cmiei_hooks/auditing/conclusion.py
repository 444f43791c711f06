"""The outcome of an audit in a few sentences and values: consequences first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..reporting import Card, counted, finite, in_points, number, percent
from ..units import UNITS
from .bootstrap import Interval
from .result_sections import NONE, shown
from .results import Results

__all__ = [
    "LEVEL",
    "cards",
    "conclusion",
    "few",
    "is_certain",
    "leaning",
    "listed",
    "of_rights",
]

Values = Mapping[str, Interval]

LEVEL = 0.95
"""Of the intervals."""
_HARDLY = 0.01
"""What changes less than this share of the samples is said to change hardly."""
_WIDE = 0.05
"""Nor is that said of what may, by its interval, change more than this share of them."""
_NAMED = 3
"""More modalities than this are not named where little is said of them."""
_CARDS = 3
"""How many modalities have a card."""


def conclusion(report: Results) -> str:
    """What happens without each modality."""
    if not report.n_samples:
        return "No sample could be measured."
    if report.no_influence.mean == 1:
        return (
            f"No modality dominates any of {counted(report.n_samples, 'sample')}: no influence is "
            "above the rounding of float32."
        )
    if rights := of_rights(report):
        said = _of_rights(*rights)
    elif report.changed_predictions:
        said = _of_predictions(report.changed_predictions)
    else:
        said = _of_influence(report.influence, _unit(report))
    return " ".join([*said, *_of_dominance(report, leaning(report))])


def of_rights(report: Results) -> tuple[str, Interval, Values, Values] | None:
    """The share of right answers with all modalities, without each, and what is lost: of accuracy
    or, where the labels are identities, of rank-1.
    """
    if report.accuracy and report.accuracy_loss and report.accuracy_without:
        return "accuracy", report.accuracy, report.accuracy_without, report.accuracy_loss
    if (found := report.retrieval) is not None:
        return "rank-1", found.rank1, found.rank1_without, found.rank1_loss
    return None


def leaning(report: Results) -> list[str]:
    """The modalities that the conclusion says the model leans on."""
    if rights := of_rights(report):
        return _leading(rights[3])
    if report.changed_predictions:
        return _leading(report.changed_predictions)
    return _leading(report.influence, 0.0) or _falling(report.influence)[:1]


def _falling(values: Values) -> list[str]:
    """The names of what is known, the largest first."""
    known = [name for name, value in values.items() if finite(value.mean) is not None]
    return sorted(known, key=lambda name: -values[name].mean)


def is_certain(value: Interval) -> bool:
    """Whether the interval is known and does not contain zero."""
    low, high = finite(value.low), finite(value.high)
    return low is not None and high is not None and not low <= 0 <= high


def _leading(values: Values, least: float = _HARDLY) -> list[str]:
    """The modalities that cost at least half as much as the one that costs most."""
    names = _falling(values)
    return [
        name
        for name in names
        if values[name].mean >= max(least, values[names[0]].mean / 2) and is_certain(values[name])
    ]


def few(words: Sequence[str]) -> list[str]:
    """The first words, and how many more there are."""
    more = len(words) - _NAMED
    return [*words[:_NAMED], f"{more} more"] if more > 1 else list(words)


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _of_rights(what: str, complete: Interval, without: Values, loss: Values) -> list[str]:
    """How much of a share of right answers is lost."""
    names, leading = _falling(loss), _leading(loss)
    if not names:
        return []
    first = (leading or names)[0]
    decimals = 0 if loss[first].mean >= 10 * _HARDLY else 1
    before, after = (
        round(100 * value.mean, decimals) for value in (complete, without[first])
    )  # the points are the difference of what is written
    fall = (
        f"{what} falls from {before:.{decimals}f} to {after:.{decimals}f}% "
        f"({before - after:.{decimals}f} points)"
    )
    if len(leading) == 1:
        said = f"Leans on {first}: without it {fall}."
    elif leading:
        more = (f"without {n} by {in_points(loss[n].mean)} points" for n in leading[1:])
        said = f"Leans on {listed(leading)}: {listed([f'without {first} {fall}', *more])}."
    elif loss[first].mean >= _HARDLY:
        said = f"Leans on no single modality: without {first} {fall}, which may be chance."
    elif loss[first].mean > 0:
        said = f"Leans on no single modality: without {first}, which costs most, {fall}."
    else:
        said = f"Leans on no single modality: {what} does not fall without any one of them."
    rest = [n for n in names if n not in leading and (leading or _certainly_rises(loss[n]))]
    return [said, *_of_the_rest({name: loss[name] for name in rest})]


def _certainly_rises(lost: Interval) -> bool:
    return lost.mean <= -_HARDLY and is_certain(lost)


def _of_the_rest(loss: Values) -> list[str]:
    small = [name for name, lost in loss.items() if abs(lost.mean) < _HARDLY]
    unsure = [name for name in small if max(abs(loss[name].low), abs(loss[name].high)) > _WIDE]
    hardly = [name for name in small if name not in unsure]
    moved = [
        f"without {name} it {'falls' if lost.mean > 0 else 'rises'} by "
        f"{in_points(abs(lost.mean))} points{'' if is_certain(lost) else ' (may be chance)'}"
        for name, lost in loss.items()
        if name not in small
    ]
    said = [f"{_capital(listed(moved))}."] if moved else []
    if unsure:
        each = [f"without {n} ({shown(loss[n], in_points)} points)" for n in unsure]
        said.append(f"No difference is seen {listed(few(each))}.")
    if len(hardly) > _NAMED:
        most = max(abs(loss[name].mean) for name in hardly)
        said.append(f"The other {len(hardly)} hardly matter (at most {in_points(most)} points).")
    elif hardly:
        lost = listed([in_points(loss[name].mean) for name in hardly])
        matter = "matter" if len(hardly) > 1 else "matters"
        said.append(f"{listed(hardly)} hardly {matter} ({lost} points).")
    return said


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _of_predictions(changed: Values) -> list[str]:
    names, leading = _falling(changed), _leading(changed)
    if not names:
        return []
    shares = {name: percent(changed[name].mean) for name in names}
    if not leading:
        each = listed([f"without {name} {shares[name]}" for name in names])
        return [f"Leans on no single modality: {each} of the predictions change."]
    first = leading[0]
    without = "it" if len(leading) == 1 else first
    said = f"Leans on {listed(leading)}: without {without} {shares[first]} of the predictions "
    said += "change"
    larger = names[: names.index(first)]  # but not for certain
    rest = ", ".join(
        f"without {name} {shares[name]}{' (may be chance)' * (name in larger)}"
        for name in names
        if name != first
    )
    return [f"{said}{', ' * bool(rest)}{rest}."]


def _of_influence(influence: Values, unit: str) -> list[str]:
    names, leading = _falling(influence), _leading(influence, 0.0)
    if not names:
        return []
    first = (leading or names)[0]
    larger = names[: names.index(first)]  # but not for certain
    rest = ", ".join(
        f"{name} {number(influence[name].mean)}{', which may be chance' * (name in larger)}"
        for name in names
        if name != first
    )
    most = "" if larger else "most "
    return [
        f"Leans on {listed(leading or names[:1])}: the prediction moves {most}without {first}, by "
        f"{number(influence[first].mean)} {unit} on average{f' ({rest})' if rest else ''}."
    ]


def _unit(report: Results) -> str:
    unit = UNITS[report.measure]
    return f"({unit})" if unit == report.measure else unit  # no unit with a name


def _of_dominance(report: Results, leading: Sequence[str]) -> list[str]:
    """What is not said yet: another modality moves most samples, or some samples do not move."""
    said, none = [], report.no_influence.mean
    first = next(iter(_falling(report.dominance)), None)
    if first is not None and first not in leading:
        share = percent(report.dominance[first].mean)
        said.append(f"Most often dominant is {first}: {share} of the samples move most without it.")
    if none > 0:
        said.append(f"For {percent(none)} of the samples no modality has any influence.")
    return said


def cards(report: Results) -> list[Card]:
    """What happens without each modality, the most important first."""
    shown = []
    if rights := of_rights(report):
        shown += _cards(*rights)
    elif report.changed_predictions:
        for name in _falling(report.changed_predictions)[:_CARDS]:
            share = percent(report.changed_predictions[name].mean)
            shown.append(Card(f"Without {name}", share, "of the predictions change"))
    else:
        for name in _falling(report.influence)[:_CARDS]:
            moved = f"{number(report.influence[name].mean)} {_unit(report)}"
            shown.append(Card(f"Without {name}", moved, "is how far the prediction moves"))
    return [*shown, _dominant_card(report)]


def _cards(what: str, complete: Interval, without: Values, loss: Values) -> list[Card]:
    found = [Card(_capital(what), percent(complete.mean), "with all modalities")]
    for name in _falling(loss)[:_CARDS]:
        value = f"{_signed(-loss[name].mean)} points"
        found.append(Card(f"Without {name}", value, f"{percent(without[name].mean)} right"))
    return found


def _dominant_card(report: Results) -> Card:
    names, none = _falling(report.dominance), report.no_influence.mean
    if not names or report.dominance[names[0]].mean == 0:
        return Card("Most often dominant", NONE, "no modality has any influence")
    without = f", no modality for {percent(none)}" if none > 0 else ""
    share = percent(report.dominance[names[0]].mean)
    return Card("Most often dominant", names[0], f"for {share} of the samples{without}")


def _signed(share: float) -> str:
    text = in_points(abs(share))
    sign = "" if not float(text) else "\N{MINUS SIGN}" if share < 0 else "+"
    return sign + text
