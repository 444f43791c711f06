"""A small project of a user: models, loaders, and whatever may go wrong in them.

The tests of commands find a copy of it in the working directory (the fixture ``their_code``).
"""

from __future__ import annotations

import signal

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(6, 8)
        self.classifier = nn.Linear(8, 3)

    def forward(self, x):
        return self.classifier(self.encode(x))


def model():
    return Model()


class Parted(nn.Module):
    def __init__(self):
        super().__init__()
        self.audio, self.video = nn.Linear(6, 4), nn.Linear(5, 3)
        self.classifier = nn.Linear(7, 3)

    def forward(self, a, v):
        return self.classifier(torch.cat([self.audio(a), self.video(v)], 1))


def parted():
    torch.manual_seed(0)
    return Parted()


class Functional(Parted):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(3, 4)

    def forward(self, a, v):
        return self.out(super().forward(a, v).relu())


def functional():
    torch.manual_seed(0)
    return Functional()


def parted_loader():
    torch.manual_seed(1)
    return [(torch.randn(8, 6), torch.randn(8, 5), torch.zeros(8, dtype=torch.long))]


def loader():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(5, 6, generator=generator), torch.tensor([0, 1, 2, 0, 1]))] * 2


def turned_loader():
    return [(label, x) for x, label in loader()]


class TwoInputs(nn.Module):
    # Two tensors to its fusion, in training only, and it needs the labels.
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(6, 4)
        self.fusion = nn.Bilinear(4, 4, 3)
        self.out = nn.Linear(3, 1)

    def forward(self, views, label):
        a, v = (self.encode(x) for x in views)
        if not self.training:
            return a, v
        return self.out(self.fusion(a, input2=v)) + 0 * label[:, None]


def two_inputs():
    torch.manual_seed(1)
    return TwoInputs()


def records():
    generator = torch.Generator().manual_seed(0)
    a, v = (torch.randn(5, 6, generator=generator) for _ in "av")
    return [{"id": ["x"] * 5, "views": (a, v), "label": torch.tensor([0, 1, 1, 0, 1])}] * 2


def forward(model, batch):
    return model(batch["views"], batch["label"].float())


def in_training_only(model, batch):
    return forward(model, batch) if model.training else None


def parts(model, batch):
    return model.audio(batch[0])


def no_model():
    return 3


def no_loader():
    return 3


def needs_arguments(cfg):
    return cfg


def other_batches():
    return [{"x": torch.randn(5, 6), "label": 3}]


def interrupted():
    raise KeyboardInterrupt


def pressing():
    yield loader()[0]
    signal.raise_signal(signal.SIGINT)
    yield loader()[1]


def exiting():
    raise SystemExit(0)


def not_a_number():
    return [torch.full((4, 6), float("nan"))]


def raising():
    raise OSError("disk")


def empty():
    return []


def half_way(error):
    yield loader()[0]
    raise error


def interrupted_half_way():
    return half_way(KeyboardInterrupt())


def raising_half_way():
    return half_way(OSError("disk"))


def sized(outputs):
    model = Model()
    model.classifier = nn.Linear(8, outputs)
    return model


def shuffled():
    generator = torch.Generator().manual_seed(1)
    data = torch.utils.data.TensorDataset(
        torch.randn(23, 6, generator=generator), torch.randint(3, (23,), generator=generator)
    )
    return torch.utils.data.DataLoader(data, batch_size=5, shuffle=True)


def three_batches():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(48, 6, generator=generator)
    return [(x[i : i + 16], torch.arange(16) % 3) for i in (0, 16, 32)]


def three_batches_turned():
    return three_batches()[::-1]


def parted_dicts():
    ((a, v, label),) = parted_loader()
    return [{"video": v, "audio": a, "label": label}]


def parted_forward(model, batch):
    return model(batch["audio"], v=batch["video"])
