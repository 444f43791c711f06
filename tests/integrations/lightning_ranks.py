"""Two ranks of Lightning: ``python lightning_ranks.py ddp|ddp_spawn callback|hand OUTPUT``."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent))

from test_lightning import EAGER, ByHand, L, Seeded, Task, callback, loader  # after the line above


class Saved(L.Callback):
    """What each rank has at the end."""

    def __init__(self, output: str) -> None:
        self.output = output

    def on_train_end(self, trainer, pl_module):
        state = trainer.callbacks[0].handle.state_dict()
        monitored = dict(trainer.callback_metrics)
        found = {"weights": pl_module.state_dict(), "state": state, "monitored": monitored}
        torch.save(found, f"{self.output}-{trainer.global_rank}.pt")


def main() -> None:
    strategy, by, output = sys.argv[1:]
    torch.set_num_threads(1)
    EAGER["log"] = True
    task = Task()
    torch.manual_seed(3)
    fitting = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        max_epochs=2,
        callbacks=[callback() if by == "callback" else ByHand(), Seeded(), Saved(output)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    fitting.fit(task, loader(), loader(16))


if __name__ == "__main__":
    main()
