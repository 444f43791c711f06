"""Decisions that are averaged: ``python examples/decision_fusion.py``."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from two_views import arguments, loader

import cmiei_hooks


class LateFusion(nn.Module):
    """A classifier for each view; the model returns the mean of their logits."""

    def __init__(self):
        super().__init__()
        self.audio_classifier = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
        self.video_classifier = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, audio, video):
        return (self.audio_classifier(audio) + self.video_classifier(video)) / 2


def main():
    args = arguments("runs/decision_fusion")
    torch.manual_seed(0)
    model = LateFusion()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)

    # No module receives both views, so name the branch that gives the logits of each.
    branches = {"audio": "audio_classifier", "video": "video_classifier"}
    handle = cmiei_hooks.attach(model, head=branches, combine="mean", warmup_epochs=1)
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
