"""The help of each command, without line breaks, which differ between versions of Python."""

from __future__ import annotations

import argparse
import re

import pytest

from cmiei_hooks.cli import build_parser
from cmiei_hooks.cli.commands import _OPTIONS, _parsers
from cmiei_hooks.cli.parser import Parser


def one_line_each(parser: argparse.ArgumentParser) -> str:
    """The usage, then the groups with their options."""
    lines = [parser.format_usage(), parser.description or ""]
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        lines += [f"\n{group.title}: {group.description or ''}"] if shown else []
        for action in shown:
            words = action.option_strings or [str(action.metavar)]
            value = f" {action.metavar}" if action.metavar and action.option_strings else ""
            lines.append(f"  {', '.join(words)}{value}: {action.help or ''}")
    return "\n".join(re.sub(r"(?<=\S)\s+", " ", line).rstrip() for line in lines)


@pytest.mark.parametrize("command", _OPTIONS)
def test_the_help_of_a_command(command, golden):
    golden(one_line_each(_parsers(build_parser())[command]))


def test_every_command_and_option_has_a_help():
    parser = build_parser()
    assert isinstance(parser, Parser)
    for name, one in _parsers(parser).items():
        assert name in parser.format_help()
        assert one.description.endswith(".")
        assert all(action.help for action in one._actions)


def test_help_is_printed_and_ends_with_0(capsys):
    from cmiei_hooks.cli import main

    for command in _OPTIONS:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        assert f"usage: cmiei {command}" in capsys.readouterr().out
