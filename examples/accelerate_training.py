"""Accelerate: ``accelerate launch examples/accelerate_training.py [--resume CHECKPOINT]``."""

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from two_views import SPLITS, TwoViews, arguments, loader

import cmiei_hooks


def main():
    args = arguments("runs/accelerate")
    torch.manual_seed(0)
    accelerator = Accelerator()
    model = TwoViews()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    model, optimizer, batches = accelerator.prepare(model, optimizer, loader())

    # begin C-MIEI
    handle = cmiei_hooks.attach(model, head="classifier", splits=SPLITS, warmup_epochs=1)
    accelerator.register_for_checkpointing(handle)
    # end C-MIEI

    first = 0
    if args.resume:
        accelerator.load_state(args.resume)
        first = int(args.resume.name.removeprefix("epoch-"))
    for epoch in range(first, args.epochs):
        # begin C-MIEI
        handle.set_epoch(epoch)
        # end C-MIEI
        for audio, video, labels in batches:
            loss = cross_entropy(model(audio, video), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
        accelerator.save_state(args.output / f"epoch-{epoch + 1}")

    # begin C-MIEI
    handle.remove()
    # end C-MIEI
    accelerator.save(accelerator.unwrap_model(model).state_dict(), args.output / "weights.pt")


if __name__ == "__main__":
    main()
