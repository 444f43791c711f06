"""The callback for the Trainer of Lightning (``import lightning``; extra ``lightning``)."""

from __future__ import annotations

import functools
from typing import Any

import torch

from ..errors import missing_extra
from ..training import Handle
from .lifecycle import Lifecycle

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise missing_extra("lightning", "the callback needs Lightning", error) from error

__all__ = ["CMIEICallback"]


class CMIEICallback(Callback):
    """C-MIEI in every ``trainer.fit``: one entry of ``callbacks=[...]``.

    It attaches when the fit begins, tells the epochs, keeps the state in the checkpoints and takes
    the hook off when the fit ends or fails. The loggers of the Trainer get ``C_MIEI/CI_r`` and so
    on every LOG_PERIOD steps, and ``C_MIEI/epoch/CI_r`` for every epoch. ``EarlyStopping`` and
    ``ModelCheckpoint`` can monitor ``"CI_r"``, at the end of an epoch or of a validation in it.

    Args:
        head: the name of the head in the LightningModule; for a chain, a list of names.
        splits: as for ``attach``, which is called, with its errors, when the fit begins.
        prefix: is put in front of the names of the metrics, if there are several callbacks.
        **options: of ``attach``, except ``epoch``.

    Example:
        >>> cmiei = CMIEICallback("model.classifier", splits={"rgb": 512, "depth": 512})
        >>> Trainer(callbacks=[cmiei, EarlyStopping(monitor="CI_rgb")]).fit(module, loader)
    """

    def __init__(self, head: Any = None, splits: Any = None, prefix: str = "", **options: Any):
        self._lifecycle = Lifecycle(head, splits, prefix, options)

    @property
    def handle(self) -> Handle | None:
        """The handle of the running fit, or of the last one; None before that."""
        return self._lifecycle.handle

    @property
    def state_key(self) -> str:
        """Where the state is in a checkpoint: it has the name of the head."""
        return f"{type(self).__qualname__}{{'head': {self._lifecycle.name!r}}}"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin anew, unless this Trainer goes on from an earlier fit."""
        if stage == "fit" and trainer.global_step == 0:
            self._lifecycle.forget()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach. The state of a checkpoint is there already, or comes after this."""
        log = functools.partial(_log, trainer)
        self._lifecycle.begin(pl_module, lambda: trainer.current_epoch, trainer.callbacks, log)

    def on_train_batch_start(self, *_: Any) -> None:
        """Act."""
        self._lifecycle.act()

    def on_train_batch_end(self, *_: Any) -> None:
        """Do nothing until the next batch: validation, or a learning rate finder, may follow."""
        self._lifecycle.pause()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the metrics so far be monitored, in mid-epoch too."""
        metrics = {} if trainer.sanity_checking else self._lifecycle.metrics()
        trainer.callback_metrics.update({name: torch.tensor(v) for name, v in metrics.items()})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch at the step at which Lightning logs its own metrics of the epoch."""
        self.on_validation_epoch_end(trainer, pl_module)
        _log(trainer, self._lifecycle.metrics("C_MIEI/epoch/"), before=1)

    def on_fit_end(self, *_: Any, **__: Any) -> None:
        """Take the hook off, here and wherever else a fit may end."""
        self._lifecycle.end()

    on_exception = teardown = on_fit_end

    def state_dict(self) -> dict[str, Any]:
        """What ``Handle.state_dict()`` returns; empty if there is no attachment."""
        return self._lifecycle.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint, now or as soon as the fit starts."""
        self._lifecycle.load_state_dict(state_dict)


def _log(trainer: Trainer, metrics: dict[str, float], before: int = 0) -> None:
    for logger in trainer.loggers if metrics else ():
        logger.log_metrics(metrics, step=trainer.global_step - before)
