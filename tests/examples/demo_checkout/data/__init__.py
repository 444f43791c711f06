"""As in DeMo: the loaders, with images made of numbers. Of the three, RGB is the clearest."""

import torch
from torch.utils.data import DataLoader, Dataset

NOISE = {"RGB": 0.5, "NI": 1.0, "TI": 1.5}
SHAPE = (3, 4, 2)
IMAGES, CAMERAS = 8, 4


class ImageDataset(Dataset):
    """Eight images of each person, by four cameras."""

    def __init__(self, people, first_label):
        self.people, self.first_label = people, first_label

    def __len__(self):
        return len(self.people) * IMAGES

    def __getitem__(self, index):
        person = self.people[index // IMAGES]
        looks = torch.Generator().manual_seed(person)
        noise = torch.Generator().manual_seed(1000 * person + index)
        images = [
            torch.randn(SHAPE, generator=looks) + scale * torch.randn(SHAPE, generator=noise)
            for scale in NOISE.values()
        ]
        path = f"{person:06d}_cam{1 + index % CAMERAS}_0_{index:02d}.jpg"
        return images, person - self.first_label, index % CAMERAS, -1, path


def images_of(images):
    by_modality = zip(*images, strict=True)
    return {name: torch.stack(each) for name, each in zip(NOISE, by_modality, strict=True)}


def train_collate_fn(batch):
    images, people, cameras, views, paths = zip(*batch, strict=True)
    return images_of(images), *map(torch.tensor, (people, cameras, views)), paths


def val_collate_fn(batch):
    images, people, cameras, views, paths = zip(*batch, strict=True)
    cameras = torch.tensor(cameras)
    return images_of(images), people, cameras, cameras, torch.tensor(views), paths


def make_dataloader(cfg):
    known, queries, gallery = range(1, 13), [*range(180, 184)], [*range(180, 188)]
    train_set, val_set = ImageDataset(known, 1), ImageDataset(queries + gallery, 0)
    train_loader = DataLoader(
        train_set, cfg.SOLVER.IMS_PER_BATCH, shuffle=True, collate_fn=train_collate_fn
    )
    train_loader_normal, val_loader = (
        DataLoader(each, cfg.TEST.IMS_PER_BATCH, collate_fn=val_collate_fn)
        for each in (train_set, val_set)
    )
    num_query = len(queries) * IMAGES
    return train_loader, train_loader_normal, val_loader, num_query, len(known), CAMERAS, 1
