"""argparse, with errors in the four parts of all errors of this package."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from ..errors import UsageError

__all__ = ["REMEDY", "Parser"]


REMEDY = "  remedy:   write "
"""How a remedy begins that gets the name of the option."""


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
            raise UsageError(f"{option}: {what}".replace(REMEDY, f"{REMEDY}{option} "))
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
        if missing := re.match(r"the following arguments are required: (.*)", message):
            raise UsageError(
                f"{missing[1]} is missing",
                got=f"{self.prog} without it",
                expected=(self.usage or f"{self.prog} {missing[1]}").splitlines()[0],
                remedy=f"add it; {self.prog} --help says what it is",
            )
        raise UsageError(
            "the command line cannot be read",
            got=message.removeprefix("argument "),
            expected="options and their values",
            remedy=f"look up the options: {self.prog} --help",
        )
