"""Whatever argparse says, the error has all four parts."""

from __future__ import annotations

import pytest

from cmiei_hooks.cli.parser import Parser
from cmiei_hooks.errors import UsageError


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("argument --k: expected one argument", "--k has no value"),
        ("argument --k: not allowed with argument --n", "--k and --n exclude each other"),
        ("argument --k: ignored explicit argument '3'", "--k takes no value"),
        ("one of the arguments --k --n is required", "one option is missing"),
        ("the following arguments are required: PATH", "PATH is missing"),
        ("argument PATH: something new", "the command line cannot be read"),
    ],
)
def test_an_error_of_argparse_gets_four_parts(message, problem):
    parser = Parser(prog="cmiei some")
    parser.add_argument("--k")
    with pytest.raises(UsageError) as error:
        parser.error(message)
    assert error.value.problem == problem
    assert all((error.value.got, error.value.expected, error.value.remedy))
