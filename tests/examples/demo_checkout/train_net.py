"""A stand-in for DeMo: the names, signatures and batches are DeMo's, the model is tiny."""

import argparse
import logging
import os
import sys

import torch
from config import cfg
from data import make_dataloader
from engine.processor import do_train
from modeling import make_model

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="DeMo Training")
    parser.add_argument("--config_file", default="", type=str)
    parser.add_argument("opts", default=None, nargs=argparse.REMAINDER)
    args = parser.parse_args()

    if args.config_file != "":
        cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()

    torch.manual_seed(cfg.SOLVER.SEED)
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    logger = logging.getLogger("DeMo")
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    logger.addHandler(handler)

    train_loader, _, _, _, num_classes, camera_num, view_num = make_dataloader(cfg)
    model = make_model(cfg, num_class=num_classes, camera_num=camera_num, view_num=view_num)
    optimizer = torch.optim.Adam(model.parameters(), cfg.SOLVER.BASE_LR)
    do_train(cfg, model, train_loader, optimizer)
