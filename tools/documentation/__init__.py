"""The pages that repeat the code: commands, errors and the keys of report.json."""

from .commands import commands_page
from .errors import errors_page
from .report_schema import REPORTS, report_page

__all__ = ["REPORTS", "commands_page", "errors_page", "report_page"]
