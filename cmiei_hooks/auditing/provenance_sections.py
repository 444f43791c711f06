"""The sections on where the values come from: the checkpoint, the command, the settings."""

from __future__ import annotations

from collections.abc import Sequence

from ..reporting import ALL, WRITTEN, Code, Part, Section, Table, count, setting
from .results import Results

__all__ = ["checkpoint", "provenance"]

_NAMED = 15
"""How many tensors of a checkpoint are named."""

_USED = ("ABS_THR", "REL_THR", "P_MAX")
"""The settings that an audit obeys, beside those that are named as what was run. The others are for
training."""


def checkpoint(report: Results) -> Section:
    """What was loaded into the model, and what was not."""
    found = report.checkpoint
    if found is None:
        return Section("Checkpoint", [])
    rows = [
        ("path", found.path),
        ("sha256", found.sha256),
        ("tensors loaded", count(found.loaded)),
        ("missing, initial values kept", _listed(found.missing)),
        ("unexpected, ignored", _listed(found.unexpected)),
        ("of another shape, initial values kept", _listed(found.mismatched)),
    ]
    if found.duplicates:
        rows.append(("under a second name, ignored", _listed(found.duplicates)))
    title = "What the checkpoint gave to the model"
    fits = not (found.missing or found.unexpected or found.mismatched or found.duplicates)
    media = WRITTEN if fits else ALL
    facts = Table(title, ("what", "value"), rows, prose=True, media=media)
    return Section("Checkpoint", [facts], folded=True)


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {count(len(names) - _NAMED)} more" if len(names) > _NAMED else ""
    return f"{count(len(names))}: {', '.join(names[:_NAMED])}{more}"


def provenance(report: Results) -> Section:
    """The command and everything else that the values depend on."""
    found = dict(report.environment)
    command = str(found.pop("command", ""))
    git, versions = found.pop("git", None), found.pop("versions", {})
    settings = found.pop("config", {})
    if git:
        dirty = ", with uncommitted changes" if git["dirty"] else ""
        found["git"] = f"{git['commit']} on {git['branch']}{dirty}"
    if passed := found.pop("inputs", None):
        found["inputs"] = ", ".join(f"{name}: {column}" for name, column in passed.items())
    splits = ("the rest" if split is None else split for split in report.splits)
    inputs = zip(report.names, splits, strict=True)
    facts = {
        "head": report.head,
        "modalities": ", ".join(f"{name} {split}" for name, split in inputs),
        "baseline": report.drop,
        "measure": report.measure,
        **versions,
        **found,
    }
    parts: list[Part] = [Code(command)] if command else []
    used = {key: settings[key] for key in _USED if key in settings}
    for caption, values in (("What was run", facts), ("Settings", used)):
        rows = [(str(key), setting(value)) for key, value in values.items()]
        parts.append(Table(caption, ("what", "value"), rows, prose=True, media=WRITTEN))
    return Section("How to reproduce this report", parts, folded=True)
