"""As in DeMo: the loop over the epochs, which are counted from 1."""

import logging
import os
import time

import torch
from torch.nn.functional import cross_entropy


def do_train(cfg, model, train_loader, optimizer):
    epochs = cfg.SOLVER.MAX_EPOCHS
    logger = logging.getLogger("DeMo.train")
    logger.info("start training")
    for epoch in range(1, epochs + 1):
        start_time = time.time()
        model.train()
        for img, vid, target_cam, target_view, _ in train_loader:
            optimizer.zero_grad()
            output = model(img, label=vid, cam_label=target_cam, view_label=target_view)
            cross_entropy(output[0], vid).backward()
            optimizer.step()
        logger.info(f"Epoch {epoch} done. Time: {time.time() - start_time:.3f}[s]")
    torch.save(model.state_dict(), os.path.join(cfg.OUTPUT_DIR, cfg.MODEL.NAME + "best.pth"))
