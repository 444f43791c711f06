"""An audit as it was saved: the content of report.json, and a table of its samples."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..auditing import AuditReport
from ..errors import InputError
from ..reporting import to_csv, visible
from .runs import REPORT, SAMPLES

__all__ = ["Audited", "read_audit"]

_WORDS = ("group", "dominant")
"""Columns that are not numbers."""


@dataclass(frozen=True)
class Audited:
    """One audit, with N samples."""

    path: str
    """Where it was saved, or the checkpoint that was audited; empty if neither is known."""
    facts: Mapping[str, Any]
    """The content of report.json."""
    columns: Mapping[str, Tensor]
    """float64 ``[N]`` each, by the name of the column in samples.csv; NaN where a cell is empty."""
    group: Sequence[str] | None
    """The group of each sample."""

    def __len__(self) -> int:
        return len(self.columns["sample"])

    @property
    def names(self) -> tuple[str, ...]:
        """Of the modalities."""
        return tuple(self.facts["names"])

    def of_each(self, kind: str, names: Sequence[str]) -> Tensor | None:
        """``[N, M]``: the columns of this kind (``CI``, ``without``, ...) for each modality."""
        keys = [visible(f"{kind}_{name}") for name in names]
        known = all(key in self.columns for key in keys)
        return torch.stack([self.columns[key] for key in keys], dim=1) if known else None


def read_audit(audit: AuditReport | str | os.PathLike[str]) -> Audited:
    """An audit, from memory or from the directory into which it was saved.

    Raises:
        InputError: the files are missing or damaged, or from another version.
    """
    if isinstance(audit, AuditReport):
        loaded = audit.checkpoint
        saved = io.StringIO(to_csv(audit.rows))  # what a file would hold
        return _audited("" if loaded is None else loaded.path, audit.to_dict(), saved)
    folder = Path(audit)
    folder = folder.parent if folder.name == REPORT else folder
    try:
        facts = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        with (folder / SAMPLES).open(newline="", encoding="utf-8") as rows:
            return _audited(os.fspath(folder), facts, rows)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{folder}: this is not a saved audit",
            got=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}",
            expected=f"{REPORT} and {SAMPLES}, as an audit of this version writes them",
            remedy="audit the checkpoint again (cmiei diagnose, or report.save)",
        ) from error


def _audited(path: str, facts: Mapping[str, Any], rows: Iterable[str]) -> Audited:
    if facts["schema_version"] != 1:
        raise ValueError(f"schema_version {facts['schema_version']}")
    reader = csv.reader(rows)
    header = next(reader, [])
    words: dict[int, list[str]] = {i: [] for i, key in enumerate(header) if key in _WORDS}
    numbers = {i: array("d") for i in range(len(header)) if i not in words}
    for row in reader:
        for i, cells in words.items():
            cells.append(row[i])
        for i, values in numbers.items():
            values.append(float(row[i]) if row[i] else math.nan)
    columns = {header[i]: _tensor(values) for i, values in numbers.items()}
    named = {header[i]: cells for i, cells in words.items()}
    found = Audited(path, facts, columns, named.get("group"))
    _check_facts(found)
    if found.of_each("CI", found.names) is None:
        raise LookupError(f"no column CI_{found.names[0]}")
    samples = facts["n_samples"] + facts["non_finite"]
    if len(found) != samples:
        raise ValueError(f"{len(found)} rows for {samples} samples: the files are of two audits")
    return found


def _check_facts(audit: Audited) -> None:
    """Look at all that is read of report.json later.

    Raises:
        LookupError, TypeError, ValueError: something is missing, or of another type.
    """
    facts = audit.facts
    kinds = {"names": list, "measure": str, "drop": str, "partial": bool, "interval": dict}
    for key, kind in kinds.items():
        if not isinstance(facts[key], kind):
            raise TypeError(f"{key} is {facts[key]!r}")
    if not isinstance(facts.get("accuracy", {}), dict):
        raise TypeError(f"accuracy is {facts['accuracy']!r}")
    if not facts["names"]:
        raise ValueError("there are no names of modalities")
    if facts["interval"]["over"] == "identities" and "label" not in audit.columns:
        raise LookupError("no column label, although the intervals are over identities")


def _tensor(values: array[float]) -> Tensor:
    empty = torch.empty(0, dtype=torch.float64)
    return torch.frombuffer(values, dtype=torch.float64) if values else empty
