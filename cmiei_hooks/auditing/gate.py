"""Limits that a report must keep for a checkpoint to pass."""

from __future__ import annotations

from collections.abc import Mapping

from .report import AuditReport

__all__ = ["violations"]


def violations(
    report: AuditReport, fail_above: Mapping[str, float], fail_share: float | None
) -> list[str]:
    """The limits that the report exceeds, one sentence each; empty if it passes.

    Args:
        report: the report of the audit.
        fail_above: the largest mean influence that a modality may have, by its name.
        fail_share: the largest share of the samples that a modality may dominate.
    """
    found = [
        f"the influence of {name} is {report.influence[name].mean:.4f}, above {limit:g}"
        for name, limit in fail_above.items()
        if not report.influence[name].mean <= limit  # NaN does not pass
    ]
    if fail_share is not None:
        found += [
            f"{name} dominates {share.mean:.1%} of the samples, more than {fail_share:.1%}"
            for name, share in report.dominance.items()
            if not share.mean <= fail_share
        ]
    return found
