"""How a model was called with a batch, for those who must change it: what was passed as what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..fusion import describe
from .batches import Batch
from .options import AuditOptions
from .remedies import WAYS

__all__ = ["explain"]


def explain(error: Exception, batch: Batch, options: AuditOptions) -> None:
    """Add a note to an error of the model's: how it was called, and how it can be called.

    Python prints the notes of an error below its traceback (PEP 678).

    Args:
        error: what the model raised.
        batch: with which it was called.
        options: how it was run.
    """
    said = InputError(
        "the model raised this error when it was called with the first batch",
        got=f"{_call(batch, options)}; in {options.mode}",
        expected="a call that the model can take",
        remedy=WAYS,
    )
    notes = [*getattr(error, "__notes__", ()), str(said)]
    error.__notes__ = notes  # type: ignore[attr-defined]  # Python 3.10 has no add_note()


def _call(batch: Batch, options: AuditOptions) -> str:
    if options.forward is not None:
        return f"your forward(model, batch), with the batch {describe(batch.given)}"
    args, kwargs = batch.call
    values = [*args, *kwargs.values()]
    passed = [
        f"{source} as {name} ({describe(value)})"
        for (name, source), value in zip(batch.sources.items(), values, strict=False)
    ]
    if batch.label_source is not None:
        passed.append(f"{batch.label_source} as the labels")
    return f"{', '.join(passed)}{_columns(batch.given)}"


def _columns(given: Any) -> str:
    if isinstance(given, Mapping):
        return f", of a dict with {', '.join(map(repr, given))}"
    return f", of {len(given)} columns" if isinstance(given, (tuple, list)) else ""
