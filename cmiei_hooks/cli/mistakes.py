"""What was meant by a command line that is wrong. Right ones never come here."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from ..errors import CMIEIError, UsageError, did_you_mean
from .settings import KEYS, overrides, setting_name

__all__ = ["refuse_unknown_command", "what_was_meant"]

_COMMANDS = {
    "audit": "diagnose",
    "check": "verify",
    "equalise": "run",
    "find": "discover",
    "help": "--help",
    "measure": "diagnose",
    "observe": "run",
    "train": "run",
    "version": "--version",
}
"""Other words for the commands."""

_DASHES = "\u2013\u2014\u2212"
"""What word processors make of ``--``."""

_WEIGHTS = (".pth", ".pt", ".safetensors", ".ckpt", ".bin")

Parsers = Mapping[str, argparse.ArgumentParser]


@dataclass
class _Given:
    """An option on the command line, and the words behind it."""

    word: str
    action: argparse.Action | None
    """None if there is no such option."""
    words: list[str] = field(default_factory=list)

    @property
    def takes(self) -> int:
        """The number of these words that are its value."""
        if self.action is None or "=" in self.word:
            return 0
        return int(self.action.nargs != 0)


def refuse_unknown_command(words: Sequence[str], parsers: Parsers) -> None:
    """Refuse a line that does not begin with a command.

    Raises:
        UsageError: with the command that was probably meant.
    """
    first = words[0]
    if first in parsers or first in ("-h", "--help", "--version"):
        return
    remedy = "cmiei --help says what each of them does"
    if first.startswith("-"):
        having = [name for name, one in parsers.items() if _find(one, first) is not None]
        if having:
            remedy = f"put the command in front: cmiei {having[0]} {shlex.join(words)[:200]}"
    elif first.endswith(".py") or first.startswith("python"):
        script = shlex.join(words[first.startswith("python") :])[:200]
        remedy = f"write cmiei run OPTIONS -- {script}"
    elif first.casefold() in _COMMANDS:
        remedy = f"write cmiei {_COMMANDS[first.casefold()]}"
    else:
        remedy = did_you_mean(first, parsers) or remedy
    raise UsageError(
        f"there is no command {first[:80]!r}",
        got=repr(first[:80]),
        expected="one of " + ", ".join(parsers),
        remedy=remedy,
    )


def what_was_meant(words: Sequence[str], parsers: Parsers) -> UsageError | None:
    """The error that says what was meant; None if no word is out of place.

    Args:
        words: the command and its words, which were refused.
        parsers: of all commands.
    """
    command, parser = words[0], parsers[words[0]]
    if command == "run" and (script := next(filter(_is_script, words[1:]), "")):
        return UsageError(
            "the script stands behind --",
            got=shlex.join(["cmiei", *words])[:200],
            expected="cmiei run OPTIONS -- SCRIPT ITS_ARGUMENTS",
            remedy=f"write -- in front of {script}",
        )
    positionals = {action.dest for action in parser._actions if not action.option_strings}
    for given in _read(words[1:], parser):
        if given.word and given.action is None:
            return _unknown_option(given, command, parsers)
        if positionals - {"opts"}:  # it takes words of its own
            continue
        strays = given.words[given.takes :]
        while _takes_settings(parser) and _is_pair(strays[:2]):
            strays = strays[2:]
        if strays and not _is_setting(strays[0], parser):
            in_brackets = given.takes and given.words[0][:1] in ("[", "{")
            # What is broken in brackets is refused by its option, which says why.
            return (
                None if in_brackets and not _as_one_word(given) else _stray(given, strays, parser)
            )
    return None


def _takes_settings(parser: argparse.ArgumentParser) -> bool:
    return any(action.dest == "opts" for action in parser._actions)


def _is_setting(word: str, parser: argparse.ArgumentParser) -> bool:
    """Whether the settings refuse the word themselves: it is one, written in another way."""
    if not _takes_settings(parser):
        return False
    name = setting_name(word)
    if name is None:
        return bool(did_you_mean(word.partition("=")[0], KEYS)) and not Path(word).exists()
    return word == name or _option(parser, name) is None


def _is_script(word: str) -> bool:
    return word == "-m" or bool(re.fullmatch(r"[^-=:]*\.py", word))


def _is_pair(words: list[str]) -> bool:
    try:
        return bool(overrides(words))
    except CMIEIError:
        return False


def _read(words: Sequence[str], parser: argparse.ArgumentParser) -> Iterator[_Given]:
    """The words in front of the first option, then each option."""
    given = _Given("", None)
    for word in words:
        if re.match(rf"-+[A-Za-z]|--$|[{_DASHES}]", word):
            yield given
            given = _Given(word, _find(parser, word))
        else:
            given.words.append(word)
    yield given


def _find(parser: argparse.ArgumentParser, word: str) -> argparse.Action | None:
    """The option of this name; as in argparse, its beginning is enough if no other begins so."""
    name, actions = word.partition("=")[0], parser._option_string_actions
    if name in actions:
        return actions[name]
    begun = [key for key in actions if key.startswith(name)]
    return actions[begun[0]] if len(begun) == 1 and name.startswith("--") else None


def _option(parser: argparse.ArgumentParser, name: str) -> str | None:
    """The option that is written like this but for dashes and capitals."""
    option = "--" + name.lstrip("-" + _DASHES).replace("_", "-").lower()
    return option if option in parser._option_string_actions else None


def _unknown_option(given: _Given, command: str, parsers: Parsers) -> UsageError:
    parser, (name, equals, value) = parsers[command], given.word.partition("=")
    value = value if equals else " ".join(given.words[:1])
    known = [word for word in parser._option_string_actions if word.startswith("--")]
    begun = [word for word in known if word.startswith(name)]
    option, key = _option(parser, name), setting_name(name)
    problem = f"there is no option {name[:80]}"
    if len(begun) > 1:
        problem, remedy = f"{name} may be several options", f"write one of {', '.join(begun)}"
    elif option is not None:
        remedy = f"write {option} {value}".rstrip()
    elif key is not None and _takes_settings(parser):
        problem = f"{key} is a setting, not an option"
        remedy = f"write {key} {value or 'VALUE'} behind the options"
    else:
        having = [f"cmiei {other}" for other, one in parsers.items() if _find(one, name)]
        near = get_close_matches(name.lstrip("-"), [word[2:] for word in known], n=1)
        remedy = f"did you mean --{near[0]}?" if near else ""
        remedy = remedy or (f"it is an option of {', '.join(having)}" if having else "")
    return UsageError(
        problem,
        got=repr(given.word[:80]),
        expected=f"an option of {parser.prog}",
        remedy=remedy or f"{parser.prog} --help lists them",
    )


def _stray(given: _Given, strays: list[str], parser: argparse.ArgumentParser) -> UsageError:
    if meant := _as_one_word(given):
        return UsageError(
            f"{given.word} takes one word",
            got=" ".join([given.word, *given.words])[:200],
            expected=f"{given.word} {given.action.metavar}" if given.action else "",
            remedy=f"write {meant}",
        )
    word = strays[0]
    expected = "options, which begin with --"
    return UsageError(
        f"nothing says what {word[:80]!r} is",
        got=" ".join([given.word, *given.words]).strip()[:200],
        expected=expected + (", then settings, KEY VALUE" if _takes_settings(parser) else ""),
        remedy=_option_for(word, given, parser) or f"{parser.prog} --help lists the options",
    )


def _as_one_word(given: _Given) -> str:
    """The option with all its words as one, if they are a value then; else nothing."""
    end = next((i for i, word in enumerate(given.words) if i and word in KEYS), None)
    words, action = given.words[:end], given.action
    if action is None or len(words) <= given.takes or not given.takes:
        return ""
    metavar, spaced = str(action.metavar), " ".join(words)
    candidates = [",".join(filter(None, (word.strip(" ,[]()") for word in words)))]
    candidates = candidates if "," in metavar else []
    without = len(words) == 2 and not any("=" in word for word in words)
    candidates += ["=".join(words)] if "=" in metavar and without else []
    candidates += [spaced] if spaced.startswith(("[", "{")) or Path(spaced).exists() else []
    for candidate in candidates:
        if _is_value(action, candidate):
            return f"{given.word} {shlex.quote(candidate)}"
    if isinstance(action.default, list) and all(_is_value(action, word) for word in words):
        return " ".join(f"{given.word} {shlex.quote(word)}" for word in words)
    parents = {str(Path(word).parent) for word in words if given.word == "--checkpoint"}
    return f"--checkpoint {parents.pop()}" if len(parents) == 1 else ""


def _is_value(action: argparse.Action, word: str) -> bool:
    read = action.type if callable(action.type) else str
    try:
        read(word)
    except (argparse.ArgumentTypeError, TypeError, ValueError):
        return False
    return True


def _option_for(word: str, given: _Given, parser: argparse.ArgumentParser) -> str:
    """The option that was left out in front of a word, to be written."""
    name, equals, value = word.partition("=")
    if option := _option(parser, name):
        value = value if equals else " ".join(given.words[given.words.index(word) + 1 :][:1])
        return f"write {option} {value}".rstrip()
    kinds = {
        "--checkpoint": word.endswith(_WEIGHTS) or Path(word).is_dir(),
        "--config": word.endswith((".yml", ".yaml")),
        "--splits": bool(re.fullmatch(r"\d+(,\d+)+", word)),
        "--model": ":" in word or word.endswith(".py"),
    }
    for option, fits in kinds.items():
        if fits and (action := _find(parser, option)) is not None:
            if _is_value(action, word):
                other = f" or --data {word}" if option == "--model" else ""
                return f"write {option} {word}{other}"
            return f"write {option} {action.metavar}"
    return ""
