"""The callback for the Trainer of transformers (extra ``transformers``)."""

from __future__ import annotations

from typing import Any

from ..errors import missing_extra
from ..training import Handle
from .lifecycle import Lifecycle

try:
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState

    from .transformers_trainer import Asked, guard_steps, newest, running_trainer
except ImportError as error:
    raise missing_extra("transformers", "the callback needs transformers", error) from error

__all__ = ["CMIEICallback"]

_asked: Asked[CMIEICallback] = Asked()


class CMIEICallback(TrainerCallback, ExportableState):
    """C-MIEI in every ``trainer.train()``: one call of ``trainer.add_callback``.

    It attaches when the training begins, tells the epochs, keeps the state in
    ``trainer_state.json``, and takes the hook off when the training ends or a training step fails.
    What the Trainer logs of the training (every ``logging_steps``) has the metrics, too, under the
    names of ``Handle.metrics()``. If training fails elsewhere, as in an evaluation, the hook does
    nothing; ``remove()`` or the next training of the model takes it off.

    Args:
        head: the name of the head in the model; for a chain, a list of names.
        splits: as for ``attach``.
        prefix: is put in front of the names of the metrics, if there are several callbacks.
        **options: of ``attach``, except ``epoch``.

    Raises:
        CMIEIError: as ``attach``, when the training begins.

    Example:
        >>> trainer.add_callback(CMIEICallback("classifier", splits={"text": 768, "image": 512}))
        >>> trainer.train()
    """

    def __new__(cls, *_: Any, again: str | None = None, **__: Any) -> CMIEICallback:
        """Make a callback, or return the one that a Trainer restores (only it passes `again`)."""
        made: CMIEICallback = super().__new__(cls) if again is None else _asked[again]
        return made

    def __init__(
        self, head: Any = None, splits: Any = None, prefix: str = "", **options: Any
    ) -> None:
        if "again" not in options:
            self._lifecycle = Lifecycle(head, splits, prefix, options)

    @property
    def handle(self) -> Handle | None:
        """The handle of the running training, or of the last one; None before that."""
        return self._lifecycle.handle

    def remove(self) -> None:
        """Take the hook off."""
        self._lifecycle.end()

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Attach, go on from the state of the checkpoint, and step in front of the reporters."""
        trainer = running_trainer()
        guard_steps(trainer)
        callbacks = trainer.callback_handler.callbacks
        callbacks.remove(self)
        callbacks.insert(0, self)
        self._lifecycle.forget()
        saved = newest(state, CMIEICallback.__name__).get(self._lifecycle.name)
        if state.global_step and saved:
            self._lifecycle.load_state_dict(saved)
        self._lifecycle.begin(objects["model"], lambda: state.epoch, callbacks)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Add the metrics to what is logged of the training."""
        if logs and "loss" in logs:
            metrics = self._lifecycle.metrics()
            logs.update(metrics)
            state.log_history[-1].update(metrics)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep one state for each head: the Trainer appends to the earlier ones."""
        newest(state, CMIEICallback.__name__)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Take the hook off."""
        self.remove()

    def state(self) -> dict[str, Any]:
        """The state in JSON. The callback takes it up itself, whatever the Trainer restores."""
        _asked[self._lifecycle.name] = self
        return {"args": {"again": self._lifecycle.name}, "handle": self._lifecycle.listed()}
