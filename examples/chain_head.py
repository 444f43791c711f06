"""A head of several modules: ``python examples/chain_head.py``."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, gelu
from two_views import SPLITS, TwoViews, arguments, loader

import cmiei_hooks


class Chain(TwoViews):
    """Concatenation, BatchNorm, a hidden layer, a function, the classifier."""

    def __init__(self):
        super().__init__()
        self.norm, self.hidden = nn.BatchNorm1d(14), nn.Linear(14, 16)
        self.classifier = nn.Linear(16, 3)

    def forward(self, audio, video):
        fused = torch.cat([self.audio(audio), self.video(video)], dim=1)
        return self.classifier(gelu(self.hidden(self.norm(fused))))


def main():
    args = arguments("runs/chain_head")
    torch.manual_seed(0)
    model = Chain()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)

    # The head begins where the modalities are still apart, and ends with the logits.
    head = ["norm", "hidden", gelu, "classifier"]
    handle = cmiei_hooks.attach(model, head=head, splits=SPLITS, warmup_epochs=1)
    for epoch in range(args.epochs):
        handle.set_epoch(epoch)
        for audio, video, labels in loader():
            loss = cross_entropy(model(audio, video), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    handle.remove()


if __name__ == "__main__":
    main()
