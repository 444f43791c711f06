"""As in DeMo: logits in training, features in eval mode, and an embedding of the camera."""

import torch
from torch import nn

PIXELS = 3 * 4 * 2


class DeMo(nn.Module):
    def __init__(self, num_classes, cfg, camera_num, feat_dim=512):
        super().__init__()
        self.backbone = nn.Linear(PIXELS, feat_dim)
        self.cv_embed = nn.Parameter(torch.zeros(camera_num, feat_dim))
        self.bottleneck = nn.BatchNorm1d(3 * feat_dim)
        if cfg.MODEL.DIRECT:
            self.classifier = nn.Linear(3 * feat_dim, num_classes, bias=False)
            nn.init.normal_(self.classifier.weight, std=0.001)

    def encode(self, image, cam_label):
        return self.backbone(image.flatten(1)).relu() + self.cv_embed[cam_label]

    def forward(
        self, x, label=None, cam_label=None, view_label=None, return_pattern=3, img_path=None
    ):
        ori = torch.cat([self.encode(x[name], cam_label) for name in ("RGB", "NI", "TI")], dim=-1)
        if self.training:
            return self.classifier(self.bottleneck(ori)), ori
        return ori


def make_model(cfg, num_class, camera_num, view_num=0):
    print("===========Building DeMo===========")
    return DeMo(num_class, cfg, camera_num)
