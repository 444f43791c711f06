"""A report as a gate: may this checkpoint pass?"""

from __future__ import annotations

from collections.abc import Mapping

from .report import AuditReport

__all__ = ["violations"]


def violations(
    report: AuditReport, fail_above: Mapping[str, float], fail_share: float | None
) -> list[str]:
    """Why the report does not pass; empty if it does.

    Args:
        report: of the audit.
        fail_above: the most mean influence of a modality, by its name.
        fail_share: the most share of the samples that any modality may dominate.
    """
    found = [
        f"the influence of {name} is {report.influence[name].mean:.4f}, above {limit:g}"
        for name, limit in fail_above.items()
        if not report.influence[name].mean <= limit  # NaN does not pass
    ]
    if fail_share is not None:
        found += [
            f"{name} dominates {figure.mean:.1%} of the samples, more than {fail_share:.1%}"
            for name, figure in report.dominance.items()
            if not figure.mean <= fail_share
        ]
    return found
