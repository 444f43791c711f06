"""argparse, with errors in the four parts of all errors of this package."""

from __future__ import annotations

import argparse
from typing import NoReturn

from ..errors import CMIEIError

__all__ = ["Parser", "UsageError"]


class UsageError(CMIEIError):
    """The command line is wrong."""


class Parser(argparse.ArgumentParser):
    """Raises what argparse would print and exit with."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse.

        Raises:
            UsageError: always.
        """
        problem, line, rest = message.removeprefix("argument ").partition("\n")
        if rest:  # of a refused value, which says the other parts itself
            raise UsageError(problem + line + rest)
        option, _, what = problem.partition(": ")
        if "expected" not in what:
            raise UsageError(problem, remedy=f"{self.prog} --help lists the options")
        action = self._option_string_actions.get(option)
        raise UsageError(
            f"{option}: no value",
            got=f"{option} alone" if "one" in what else what,
            expected=what,
            remedy=f"write {option} {action.metavar or action.dest.upper()}"
            if action is not None
            else f"{self.prog} --help lists the options",
        )
