"""argparse, with errors in the four parts of all errors of this package."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from ..errors import UsageError

__all__ = ["Parser"]


_REMEDY = "  remedy:   write "


class Parser(argparse.ArgumentParser):
    """Raises what argparse would print and exit with."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse.

        Raises:
            UsageError: always.
        """
        option, _, what = message.removeprefix("argument ").partition(": ")
        action = self._option_string_actions.get(option)
        if action is not None and "\n" in what:  # a refused value: its refusal has all parts
            raise UsageError(f"{option}: {what}".replace(_REMEDY, f"{_REMEDY}{option} "))
        if action is not None and what.startswith("expected"):
            raise UsageError(
                f"{option} has no value",
                got=f"{option} alone",
                expected=f"{option} {action.metavar or action.dest.upper()}",
                remedy=f"write the value behind {option}; if it begins with -, as {option}=VALUE",
            )
        if required := re.match(r"one of the arguments (.*) is required", message):
            raise UsageError(
                "one option is missing",
                got="none of them",
                expected=" or ".join(required[1].split()),
                remedy=f"add one of them; {self.prog} --help says what they are",
            )
        if both := re.match(r"not allowed with argument (\S+)", what):
            raise UsageError(
                f"{option} and {both[1]} exclude each other",
                got=f"{both[1]} and {option}",
                expected="one of the two",
                remedy=f"leave {option} out",
            )
        if explicit := re.match(r"ignored explicit argument '(.*)'", what):
            raise UsageError(
                f"{option} takes no value",
                got=f"{option}={explicit[1]}",
                expected=option,
                remedy=f"write {option}",
            )
        raise UsageError(
            message.removeprefix("argument "), remedy=f"{self.prog} --help lists the options"
        )
