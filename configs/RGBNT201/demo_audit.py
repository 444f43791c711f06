"""What ``cmiei diagnose`` needs for DeMo: the model, the batches, and how a batch is passed.

Copy this file beside ``DeMo.yml`` into a checkout of DeMo (github.com/924973292/DeMo), and run the
commands of ``docs/guides/demo-reid.md`` in the root of that checkout.
"""

from functools import cache

from config import cfg as defaults
from data import make_dataloader
from modeling import make_model
from torch.utils.data import DataLoader, Subset

CONFIG = "configs/RGBNT201/DeMo.yml"
OPTIONS = []
"""What train_net.py got behind it, without MODEL.C_MIEI: ["MODEL.STRIDE_SIZE", "[12, 12]"]."""


def model():
    """DeMo as ``train_net.py`` makes it, without the weights of a checkpoint."""
    cfg, (*_, classes, cameras, views) = settings_and_data()
    return make_model(cfg, num_class=classes, camera_num=cameras, view_num=views)


def train():
    """The training images in order, without augmentation; column 1 has their classes."""
    _, (_, images, *_) = settings_and_data()
    return images


def query():
    """The query images. They show people who are none of the classes."""
    _, (_, _, images, queries, *_) = settings_and_data()
    return DataLoader(
        Subset(images.dataset, range(queries)),  # behind them is the gallery
        images.batch_size,
        num_workers=images.num_workers,
        collate_fn=images.collate_fn,
    )


def forward(model, batch):
    """Run the model on a batch of these loaders as DeMo's own evaluation does."""
    images, _, _, cameras, views, _ = batch
    return model(images, cam_label=cameras, view_label=views)


@cache
def settings_and_data():
    """DeMo's settings, and what its ``make_dataloader`` returns for them."""
    cfg = defaults.clone()
    cfg.merge_from_file(CONFIG)
    cfg.merge_from_list(OPTIONS)
    cfg.freeze()
    return cfg, make_dataloader(cfg)
