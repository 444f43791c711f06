"""What the callback of every framework needs: an attachment over the trainings of a trainer."""

from __future__ import annotations

import contextlib
import functools
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, HeadError, StateError
from ..logs import LogRecord, sinks_of
from ..training import Handle, attach

__all__ = ["Lifecycle"]

_attached: weakref.WeakSet[Lifecycle] = weakref.WeakSet()
"""Those whose training runs, or has failed where nobody could tell."""


class Lifecycle:
    """Attaches when a training begins, acts in its training steps only, and is taken off again.

    Args:
        head, splits, options: as for ``attach``. The head is given by its name, because there may
            be no model yet.
        prefix: is put in front of the names of the metrics.

    Raises:
        HeadError: the head is not given by its name.
        ConfigError: ``epoch=`` is given, although the callback tells the epochs.
    """

    def __init__(self, head: Any, splits: Any, prefix: str, options: dict[str, Any]) -> None:
        links = list(head) if isinstance(head, Sequence) and not isinstance(head, str) else [head]
        for link in links:
            if isinstance(link, nn.Module):
                raise HeadError(
                    "a callback finds the head by its name",
                    got=f"a {type(link).__name__}",
                    expected="a name from model.named_modules(), such as 'classifier'",
                    remedy="pass the name: the model may be made, wrapped or copied after this",
                )
        if "epoch" in options:
            raise ConfigError(
                "the callback tells the epochs of the trainer",
                got="epoch=",
                expected="no second way to tell the epoch",
                remedy="leave epoch= out",
            )
        self.name, self.prefix = " -> ".join(map(str, links)), prefix
        self.handle: Handle | None = None
        """That of the running training, or of the newest one."""
        self._model: weakref.ref[nn.Module] | None = None
        self._arguments = {"head": head, "splits": splits, **options}
        self._loaded: dict[str, Any] | None = None
        """A state that was loaded before there is an attachment."""
        self._pause = contextlib.ExitStack()

    @staticmethod
    def of(callbacks: Iterable[object]) -> list[Lifecycle]:
        """Those of the callbacks of this package."""
        found = (getattr(callback, "_lifecycle", None) for callback in callbacks)
        return [one for one in found if isinstance(one, Lifecycle)]

    def begin(
        self,
        model: nn.Module,
        epoch: Callable[[], Any],
        callbacks: Iterable[object],
        figures: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        """Attach, and go on from the state that was loaded or in which the last training ended.

        What a training that failed has left on the model is taken off first.

        Args:
            epoch: is asked for the epoch of the trainer.
            callbacks: all callbacks of this trainer.
            figures: gets the metrics under the names of ``Scalars``, every LOG_PERIOD steps.

        Raises:
            ConfigError: the metrics of another callback have the same names.
            CMIEIError: as ``attach`` and ``Handle.load_state_dict``; nothing stays attached.
        """
        peers = [peer for peer in Lifecycle.of(callbacks) if peer is not self]
        for peer in peers:
            self._refuse_same_metrics(peer)
        self.end()
        for other in list(_attached):
            if other._model is not None and other._model() is model and other not in peers:
                other.end()
        state = self.state_dict()
        sinks = sinks_of(self._arguments.get("log", True))
        sinks += [] if figures is None else [functools.partial(self._report, figures)]
        self.handle = attach(model, **{**self._arguments, "log": sinks, "epoch": epoch})
        self._model, self._loaded = weakref.ref(model), None
        _attached.add(self)
        self.pause()
        if state:
            try:
                self.load_state_dict(state)
            except StateError:
                self.end()
                raise

    def _report(self, figures: Callable[[dict[str, float]], None], record: LogRecord) -> None:
        if record.event == "figures":
            figures(self._named("C_MIEI/", record.metrics))

    def _refuse_same_metrics(self, peer: Lifecycle) -> None:
        if peer.prefix == self.prefix:
            raise ConfigError(
                "two callbacks have metrics of the same names",
                got=f"the prefix {self.prefix!r} for the heads {self.name!r} and {peer.name!r}",
                expected="a prefix for each callback",
                remedy=f"pass one of them prefix={self.name.rpartition('.')[2] + '_'!r}",
            )

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Act inside; end if it fails."""
        self.act()
        try:
            yield
        except BaseException:
            self.end()
            raise
        finally:
            self.pause()

    def act(self) -> None:
        """Measure and substitute: a training step begins."""
        self._pause.close()

    def pause(self) -> None:
        """Pass everything through: learning rate finders, too, train the model in between."""
        self._pause.close()
        if self.attached and self.handle is not None:
            self._pause.enter_context(self.handle.suspend())

    def end(self) -> None:
        """Take the hook off; the metrics and the state stay readable."""
        self._pause.close()
        if self.handle is not None:
            self.handle.remove()
        self._model = None
        _attached.discard(self)

    @property
    def attached(self) -> bool:
        """Whether there is a hook that can act."""
        return self in _attached

    def forget(self) -> None:
        """Begin anew with the next training."""
        self.end()
        self.handle = self._loaded = None

    def metrics(self, before: str = "") -> dict[str, float]:
        """The metrics of the epoch so far, averaged over the ranks; every rank must call it.

        Those without a value are left out: in an epoch without an estimate, all of them.

        Args:
            before: is put in front of the prefix.
        """
        if not self.attached or self.handle is None or not self.handle.config.enabled:
            return {}
        return self._named(before, self.handle.metrics(reduce=True))

    def _named(self, before: str, metrics: Mapping[str, float]) -> dict[str, float]:
        known = {name: value for name, value in metrics.items() if math.isfinite(value)}
        return {f"{before}{self.prefix}{name}": value for name, value in known.items()}

    def state_dict(self) -> dict[str, Any]:
        """The state of the attachment; empty if there was none."""
        if self._loaded is not None:
            return self._loaded
        if self.handle is None or not self.handle.config.enabled:
            return {}
        return self.handle.state_dict()

    def listed(self) -> dict[str, Any]:
        """The state with lists in place of tensors, for JSON."""
        state = self.state_dict().items()
        return {k: v.tolist() if isinstance(v, Tensor) else v for k, v in state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, now or when the training begins. Tensors may be lists, as in JSON.

        Raises:
            StateError: see ``Handle.load_state_dict``.
        """
        if not self.attached or self.handle is None:
            self._loaded = dict(state)
        elif self.handle.config.enabled:
            mine = self.handle.state_dict()
            self.handle.load_state_dict({k: _like(mine.get(k), v) for k, v in state.items()})


def _like(mine: object, value: Any) -> Any:
    listed = isinstance(mine, Tensor) and isinstance(value, list)
    return torch.tensor(value, dtype=torch.float64) if listed else value
