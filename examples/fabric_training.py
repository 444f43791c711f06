"""Lightning Fabric: ``fabric run examples/fabric_training.py [--resume CHECKPOINT]``."""

import torch
from lightning.fabric import Fabric
from torch.nn.functional import cross_entropy
from two_views import SPLITS, TwoViews, arguments, loader

import cmiei_hooks


def main():
    args = arguments("runs/fabric")
    fabric = Fabric()
    fabric.seed_everything(0, verbose=False)
    model = TwoViews()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    model, optimizer = fabric.setup(model, optimizer)
    batches = fabric.setup_dataloaders(loader())

    # begin C-MIEI
    handle = cmiei_hooks.attach(model, head="classifier", splits=SPLITS, warmup_epochs=1)
    state = {"model": model, "optimizer": optimizer, "epoch": 0, "cmiei": handle}
    # end C-MIEI

    if args.resume:
        fabric.load(args.resume, state)
    for epoch in range(state["epoch"], args.epochs):
        # begin C-MIEI
        handle.set_epoch(epoch)
        # end C-MIEI
        for audio, video, labels in batches:
            loss = cross_entropy(model(audio, video), labels)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
        state["epoch"] = epoch + 1
        fabric.save(args.output / f"epoch-{epoch + 1}.ckpt", state)

    # begin C-MIEI
    handle.remove()
    # end C-MIEI
    fabric.save(args.output / "weights.pt", model.state_dict())


if __name__ == "__main__":
    main()
