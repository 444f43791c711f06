"""The names of the inputs of a model, and which tensors a user means by a name."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..errors import InputError, did_you_mean
from ..fusion import Call, Path, call_tensors

__all__ = ["Grouping", "InputNames", "Word"]

Word = int | str
"""An input of the model as a user names it: a position, or a name."""


@dataclass(frozen=True)
class Grouping:
    """What the user says about the inputs of the model."""

    together: Mapping[str, Word | Sequence[Word]]
    """For each modality that is given here, its inputs."""
    ignored: Sequence[Word]
    """Inputs that are not modalities."""

    def addresses(self, known: InputNames) -> tuple[dict[str, list[Path]], list[Path]]:
        """The tensors of each modality that is given, and those to ignore.

        Raises:
            InputError: there is no such input, or one is named twice.
        """
        groups = {
            name: known.meant([words] if isinstance(words, (int, str)) else words)
            for name, words in self.together.items()
        }
        ignored = known.meant(self.ignored)
        count = Counter(at for group in (*groups.values(), ignored) for at in group)
        if twice := [known.names[at] for at, times in count.items() if times > 1]:
            raise InputError(
                "an input of the model is named twice",
                got=", ".join(twice),
                expected="each input in one modality, or among those to ignore",
                remedy="name it once in inputs= and ignore=",
            )
        return {name: group for name, group in groups.items() if group}, ignored


class InputNames:
    """What the tensors in a call of a model are called."""

    def __init__(self, model: nn.Module, call: Call) -> None:
        self.arguments = [
            parameter.name
            for parameter in inspect.signature(model.forward).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        """The names of the parameters of ``forward`` that a position can mean."""
        addresses = [at for at, _ in call_tensors(call)]
        shorts = [self._short(at) for at in addresses]
        count = Counter(shorts)
        self.names = {
            at: name if count[name] == 1 else self._long(at)
            for at, name in zip(addresses, shorts, strict=True)
        }
        """For each tensor."""
        args, kwargs = call
        everything: list[tuple[Word, Any]] = [*enumerate(args), *kwargs.items()]
        self.absent = [self._root(key) for key, value in everything if value is None]
        """The arguments that are None."""

    def meant(self, words: Iterable[Word]) -> list[Path]:
        """The tensors that these words name: one, or all in an argument that is a container.

        Raises:
            InputError: the call has no such input.
        """
        found: list[Path] = []
        for word in words:
            named = [
                at
                for at, name in self.names.items()
                if word in (name, at[0], self._root(at[0])) and not isinstance(word, bool)
            ]
            if not named and word not in self.absent:
                known = list(self.names.values())
                raise InputError(
                    f"the model gets no input {word!r}",
                    got=repr(word),
                    expected=f"a position, or one of {', '.join([*known, *self.absent])}",
                    remedy=did_you_mean(str(word), known) or "name an input that the model gets",
                )
            found += named
        return found

    def _root(self, key: int | str) -> str:
        if isinstance(key, str):
            return key
        return self.arguments[key] if key < len(self.arguments) else f"m{key}"

    def _short(self, at: Path) -> str:
        if len(at) == 1:
            return self._root(at[0])
        return at[-1] if isinstance(at[-1], str) else f"{self._long(at[:-1])}{at[-1]}"

    def _long(self, at: Path) -> str:
        return "_".join([self._root(at[0]), *map(str, at[1:])])
