"""A plain loop: ``python examples/plain_loop.py`` measures for an epoch, then acts."""

import torch
from torch.nn.functional import cross_entropy
from two_views import SPLITS, TwoViews, arguments, loader

import cmiei_hooks


def main():
    args = arguments("runs/plain_loop")
    torch.manual_seed(0)
    model = TwoViews()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)

    cmiei_hooks.verify(model, *next(iter(loader()))[:2], head="classifier", splits=SPLITS)
    handle = cmiei_hooks.attach(model, head="classifier", splits=SPLITS, warmup_epochs=1)
    for epoch in range(args.epochs):
        handle.set_epoch(epoch)
        for audio, video, labels in loader():
            loss = cross_entropy(model(audio, video), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    handle.remove()
    torch.save(model.state_dict(), args.output / "weights.pt")


if __name__ == "__main__":
    main()
