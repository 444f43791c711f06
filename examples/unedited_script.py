"""A training that knows nothing of C-MIEI.

Observed from outside:

    cmiei run --head classifier --splits audio=8,video=6 -- examples/unedited_script.py
"""

import torch
from torch.nn.functional import cross_entropy
from two_views import TwoViews, arguments, loader


def main():
    args = arguments("runs/unedited_script")
    torch.manual_seed(0)
    model = TwoViews()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(args.epochs):
        for audio, video, labels in loader():
            loss = cross_entropy(model(audio, video), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(model.state_dict(), args.output / "weights.pt")


if __name__ == "__main__":
    main()
