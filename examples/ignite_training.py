"""PyTorch-Ignite: ``python examples/ignite_training.py [--resume CHECKPOINT]``."""

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from torch.nn.functional import cross_entropy
from two_views import SPLITS, TwoViews, arguments, loader

import cmiei_hooks


def main():
    args = arguments("runs/ignite")
    torch.manual_seed(0)
    model = TwoViews()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)

    def train_step(engine, batch):
        audio, video, labels = batch
        loss = cross_entropy(model(audio, video), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    trainer = Engine(train_step)

    # begin C-MIEI
    settings = {"first_epoch": 1, "warmup_epochs": 1}  # Ignite's first epoch is 1
    handle = cmiei_hooks.attach(
        model, head="classifier", splits=SPLITS, epoch=lambda: trainer.state.epoch, **settings
    )
    to_save = {"model": model, "optimizer": optimizer, "trainer": trainer, "cmiei": handle}
    # end C-MIEI

    saver = DiskSaver(args.output, require_empty=False)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint(to_save, saver, n_saved=None))
    if args.resume:
        Checkpoint.load_objects(to_save, torch.load(args.resume))
    # begin C-MIEI
    with handle:  # takes the hook off at the end, also if training fails
        trainer.run(loader(), max_epochs=args.epochs)
    # end C-MIEI
    torch.save(model.state_dict(), args.output / "weights.pt")


if __name__ == "__main__":
    main()
