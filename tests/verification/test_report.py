"""The report of a dry run, printed after the table that ``verify`` prints."""

from __future__ import annotations

from cmiei_hooks.verification.report import Check, VerifyReport


def test_a_printed_report_is_one_line():
    good, bad = Check("logits", True, "[8, 3]"), Check("head found", False, "no such module")
    assert str(VerifyReport((good, good))) == "<VerifyReport: 2 checks, all ok>"
    assert str(VerifyReport((good, bad))) == "<VerifyReport: 2 checks, no to head found>"
