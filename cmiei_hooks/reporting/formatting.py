"""What the HTML and the Markdown report share: figures as text, and the summary in words.

Everything here is plain text; each report escapes it in its own way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "DASH",
    "clean",
    "configured",
    "count",
    "estimate",
    "finite",
    "grid",
    "intervals",
    "number",
    "p_value",
    "part",
    "percent",
    "plain",
    "provenance",
    "settings",
    "summary",
    "warnings",
]

DASH = "\N{EN DASH}"
"""What stands where a figure is unknown."""

# Not allowed in XML, half of a surrogate pair, or able to turn the text around them.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def clean(text: object) -> str:
    """Any text as one line that can be written to a file and shown."""
    return _UNPRINTABLE.sub("\ufffd", str(text).replace("\r\n", " ").replace("\n", " "))


def part(report: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A mapping inside the report; empty where it is missing or null."""
    inner: Any = report
    for key in keys:
        inner = inner.get(key) if isinstance(inner, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def finite(value: object) -> float | None:
    """A number that can be shown; None for null, NaN, infinity and everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value + 0.0 if math.isfinite(value) else None  # + 0.0: no minus before a zero


def count(value: object) -> str:
    """A number of things."""
    return f"{value:,}" if isinstance(value, int) else DASH


def number(value: object) -> str:
    """Four decimals, or an exponent where these would say too little."""
    known = finite(value)
    if known is None:
        return DASH
    if known != 0 and not 5e-5 <= abs(known) < 1e4:
        return f"{known:.1e}" if abs(known) < 1 else f"{known:.4g}"
    return f"{known:.4f}"


def percent(value: object, decimals: int = 1) -> str:
    """A share in percent."""
    known = finite(value)
    return DASH if known is None else f"{known:.{decimals}%}"


def p_value(value: object) -> str:
    """Three decimals; a p-value is never shown as zero."""
    known = finite(value)
    if known is None:
        return DASH
    return "<0.001" if known < 0.001 else f"{known:.3f}"


def plain(value: object) -> str:
    """A setting as it was written."""
    return "null" if value is None else clean(value)


def estimate(figure: object, show: Callable[[object], str] = number) -> str:
    """A mean with its interval: ``0.1877 [0.1712, 0.2031]``; only the mean if there is none."""
    if not isinstance(figure, Mapping):
        return show(figure)
    mean, low, high = (figure.get(key) for key in ("mean", "low", "high"))
    if finite(mean) is None or finite(low) is None or finite(high) is None:
        return show(mean)
    return f"{show(mean)} [{show(low)}, {show(high)}]"


def _mean(figures: Mapping[str, Any], name: str) -> float | None:
    return finite(part(figures, name).get("mean"))


def _ranked(figures: Mapping[str, Any], names: list[str]) -> list[str]:
    """The names with a known mean, largest first."""
    known = {name: mean for name in names if (mean := _mean(figures, name)) is not None}
    return sorted(known, key=lambda name: -known[name])


def warnings(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know before any figure."""
    found = []
    if report.get("partial"):
        found.append(
            "This report is partial: the audit ended before all data was read. The figures are "
            f"those of the {count(report.get('n_samples'))} samples seen until then."
        )
    if left_out := report.get("non_finite"):
        found.append(f"{count(left_out)} samples were left out: their logits were NaN or infinite.")
    return found


def summary(report: Mapping[str, Any]) -> list[str]:
    """What was found, in sentences."""
    influence, dominance = part(report, "influence"), part(report, "dominance")
    names, unit = list(report.get("names", [])), report.get("unit", "")
    leading = _ranked(dominance, names)
    if not leading or not report.get("n_samples"):
        return ["No sample could be measured."]
    first = leading[0]
    said = [
        f"{first} is dominant for {estimate(dominance[first], percent)} of "
        f"{count(report['n_samples'])} samples: without it their prediction changes more than "
        "without any other modality."
    ]
    others = [f"{n} {number(_mean(influence, n))}" for n in _ranked(influence, names) if n != first]
    if _mean(influence, first) is not None:
        compared = f", against {', '.join(others)}" if others else ""
        said.append(
            f"Its mean influence is {estimate(influence[first])} {unit}{compared}.".replace(
                " .", "."
            )
        )
    chance = part(report, "null", first)
    p, level = finite(chance.get("p")), finite(part(report, "interval").get("level")) or 0.95
    if p is not None and finite(chance.get("mean")) is not None:
        verdict = "clearly more" if p < 1 - level + 1e-12 else "not clearly more"
        said.append(
            f"That is {verdict} than the {number(chance['mean'])} that a head with shuffled "
            f"weights would give by chance (p {p_value(p).replace('<', '< ')})."
        )
    triggered = part(report, "triggered")
    if finite(triggered.get("mean")) is not None:
        thresholds = part(report, "thresholds")
        said.append(
            f"{estimate(triggered, percent)} of the samples are triggered: their dominant "
            f"influence is above {plain(thresholds.get('ABS_THR'))} {unit} and more than "
            f"{plain(thresholds.get('REL_THR'))} times the second largest."
        )
    complete, without = part(report, "accuracy"), part(report, "accuracy_without", first)
    if finite(complete.get("mean")) is not None and finite(without.get("mean")) is not None:
        said.append(
            f"Accuracy is {percent(complete['mean'], 2)}, and {percent(without['mean'], 2)} "
            f"without {first}."
        )
    return [clean(sentence) for sentence in said]


def intervals(report: Mapping[str, Any]) -> str:
    """What the brackets behind the figures are."""
    how = part(report, "interval")
    level = finite(how.get("level"))
    if level is None:
        return ""
    return clean(
        f"In brackets: the {level:.0%} interval ({how.get('method')}, {how.get('draws')} draws "
        f"over {how.get('over')})."
    )


def configured(report: Mapping[str, Any]) -> dict[str, Any]:
    """The thresholds and the cap that the model is (to be) trained with, where known."""
    settings = {**part(report, "environment", "config"), **part(report, "thresholds")}
    return {key: settings[key] for key in ("ABS_THR", "REL_THR", "P_MAX") if key in settings}


def settings(place: Mapping[str, Any]) -> str:
    """Thresholds and cap in one line, as far as they are known."""
    keys = ("ABS_THR", "REL_THR", "P_MAX")
    return ", ".join(f"{key} {plain(place[key])}" for key in keys if place.get(key) is not None)


def grid(report: Mapping[str, Any]) -> tuple[dict[str, list[float]], dict[str, float]]:
    """The values that ``what_if`` tried for each setting, and of these the configured one.

    Where the configured value was not tried it is the nearest one.
    """
    cells, wanted = report.get("what_if") or [], configured(report)
    keys = ("ABS_THR", "REL_THR", "P_MAX")
    tried = {key: sorted({float(cell[key]) for cell in cells}) for key in keys}  # "inf" is a word
    chosen = {}
    for key, values in tried.items():
        aim = finite(wanted.get(key))
        near = values[-1:] if aim is None else sorted(values, key=lambda v: abs(v - aim))
        chosen.update({key: near[0]} if near else {})
    return tried, chosen


def provenance(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How to get the same figures again, without the command and the configuration."""
    environment = part(report, "environment")
    lines = [(clean(k), plain(v)) for k, v in part(environment, "versions").items()]
    if git := part(environment, "git"):
        dirty = ", with changes that are not committed" if git.get("dirty") else ""
        lines.append(("git", clean(f"{git.get('commit')} on {git.get('branch')}{dirty}")))
    keys = ("device", "seed", "processes")
    return lines + [(key, plain(environment[key])) for key in keys if key in environment]
