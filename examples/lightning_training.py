"""Lightning: ``python examples/lightning_training.py [--resume CHECKPOINT]``."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn.functional import cross_entropy
from two_views import SPLITS, TwoViews, arguments, loader

from cmiei_hooks.integrations.lightning import CMIEICallback


class Task(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = TwoViews()

    def training_step(self, batch, batch_idx):
        audio, video, labels = batch
        loss = cross_entropy(self.model(audio, video), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


def main():
    args = arguments("runs/lightning")
    pl.seed_everything(0, verbose=False)
    task = Task()
    checkpoints = {"save_top_k": -1, "auto_insert_metric_name": False}
    callbacks = [ModelCheckpoint(args.output, "epoch-{epoch}", **checkpoints)]
    # begin C-MIEI
    callbacks.append(CMIEICallback("model.classifier", SPLITS, warmup_epochs=1))
    # end C-MIEI
    trainer = pl.Trainer(
        max_epochs=args.epochs,
        accelerator="cpu",
        callbacks=callbacks,
        default_root_dir=args.output,
        enable_progress_bar=False,
        logger=False,
    )
    trainer.fit(task, loader(), ckpt_path=args.resume)
    torch.save(task.model.state_dict(), args.output / "weights.pt")


if __name__ == "__main__":
    main()
