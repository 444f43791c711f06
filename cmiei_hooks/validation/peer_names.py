"""The names of peers, such as ``dropout 45 % until 80 %``, and which numbers they may have."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import ValidationError

__all__ = ["PEERS", "PeerName", "read_peer"]

PEERS = (
    "dropout 15 %",
    "dropout 30 %",
    "dropout 30 % until 60 %",
    "random one",
    "random 50 %",
    "OGM-GE 0.5",
)
"""What a user would pick instead. Other numbers may be named."""

_NUMBER = r"-?\d+(?:\.\d+)?"
_FORM = re.compile(
    rf"((?P<kind>dropout|random) *(?P<rate>{_NUMBER}) *%?|random one|OGM-?GE *(?P<alpha>{_NUMBER}))"
    rf"( *until *(?P<share>{_NUMBER}) *%?)?",
    re.IGNORECASE,
)
"""What is meant for the name of a peer; a name has one blank between its words."""


@dataclass(frozen=True)
class PeerName:
    """What the name of a peer says."""

    kind: str
    """``dropout``, ``random``, ``random one`` or ``OGM-GE``."""
    number: float = 0.0
    """The probability, or the alpha of OGM-GE."""
    share: float | None = None
    """The share of the training after which it ends; None: never."""


def read_peer(name: str) -> PeerName | None:
    """What the name of an arm says, if it is that of a peer.

    Raises:
        ValidationError: it would be one with other numbers, or written in another way.
    """
    found = _FORM.fullmatch(name)
    if found is None:
        return None
    rate, alpha, share = found["rate"], found["alpha"], found["share"]
    kind = "OGM-GE" if alpha else (found["kind"] or "random one").lower()
    numbers = (
        (rate, _percent(rate), "a probability of 1 % to 100 %, a whole number"),
        (alpha, alpha and (alpha if float(alpha) > 0 else "0.5"), "an alpha above 0"),
        (share, _percent(share), "an end after 1 % to 100 % of the training, a whole number"),
    )
    meant = _written(kind, *(right for _, right, _ in numbers))
    out = [(given, expected) for given, right, expected in numbers if given and given != right]
    if name != meant:
        raise ValidationError(
            f"the arm {name!r} has a number out of range" if out else f"there is no arm {name!r}",
            got=" and ".join(given for given, _ in out) or repr(name),
            expected=" and ".join(words for _, words in out) or f"as in: {', '.join(PEERS)}",
            remedy=f"write {meant!r}",
        )
    number = float(rate) / 100 if rate else float(alpha or 0)
    return PeerName(kind, number, float(share) / 100 if share else None)


def _percent(number: str | None) -> str:
    """The number if it is a whole one from 1 to 100, else the nearest of them."""
    if number is None:
        return ""
    value = float(number)
    if number.isdecimal() and 1 <= value <= 100:
        return number
    return str(min(max(round(value * 100 if 0 < value < 1 else value), 1), 100))


def _written(kind: str, rate: str, alpha: str | None, share: str) -> str:
    peer = kind if kind == "random one" else f"OGM-GE {alpha}" if alpha else f"{kind} {rate} %"
    return f"{peer} until {share} %" if share else peer
