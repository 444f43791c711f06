"""``discover`` on the model of a script, with the first batch that the script trains on."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from ..discovery import DiscoverReport, discover_in_call
from ..distributed import rank
from ..errors import CMIEIError
from .search import Modules, TrainingCalls

__all__ = ["FirstBatch"]

_MOST_TRIES = 8


class _Stop(SystemExit):
    """Ends the script: what was looked for is known."""


class FirstBatch(TrainingCalls):
    """Runs ``discover`` on what the script calls first, and then ends the script.

    A module that ``discover`` cannot read, such as one that takes a whole batch with its labels, is
    looked into: the modules that it calls are tried at the next batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.report: DiscoverReport | None = None
        self.error: CMIEIError | None = None
        """Why the first model that was tried cannot be read."""
        self._open: RemovableHandle | None = None
        self._tried = Modules()

    def called(self, module: nn.Module, outermost: bool, trains: bool) -> None:
        """Run ``discover`` after this call, since hooks on all modules get no keywords."""
        if trains and self._open is None and module not in self._tried:
            self._open = module.register_forward_hook(self._returned, with_kwargs=True)

    def _returned(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any
    ) -> None:
        if self._open is not None:
            self._open.remove()
            self._open = None
        self.stop()
        if rank() != 0:
            raise _Stop(0)
        try:
            self.report = discover_in_call(module, (args, kwargs))
        except CMIEIError as error:
            self.error = self.error or error
        if self.report is not None or self.count >= _MOST_TRIES:
            raise _Stop(0)
        self._tried.add(module)
        self.look_inside(module)
        self.start()
