"""A ReID code base: ``python examples/yacs_training.py [--resume CHECKPOINT] [KEY VALUE ...]``."""

import argparse
import logging
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from two_views import TwoViews, arguments, loader
from yacs.config import CfgNode

from cmiei_hooks import StandardLogging, add_cmiei_config, attach

DEFAULTS = CfgNode({"MODEL": {"NAME": "TwoViews"}, "SOLVER": {"BASE_LR": 0.1}})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config_file", default=str(Path(__file__).with_suffix(".yml")))
    parser.add_argument("opts", nargs="*", help="MODEL.C_MIEI.SIGMA 0.1")
    args = arguments("runs/yacs", parser)
    logging.basicConfig(level="INFO", format="%(name)s: %(message)s")
    cfg = DEFAULTS.clone()
    # begin C-MIEI
    add_cmiei_config(cfg)
    # end C-MIEI
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    do_train(cfg, args)


def do_train(cfg, args):
    torch.manual_seed(0)
    model = TwoViews()
    optimizer = torch.optim.Adam(model.parameters(), cfg.SOLVER.BASE_LR)

    # begin C-MIEI
    logger = StandardLogging("reid.train")
    handle = attach(model, config=cfg, epoch=lambda: epoch, log=logger)
    # end C-MIEI

    first = 1
    if args.resume:
        checkpoint = torch.load(args.resume)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        # begin C-MIEI
        handle.load_state_dict(checkpoint["cmiei"])
        # end C-MIEI
        first = checkpoint["epoch"] + 1
    for epoch in range(first, args.epochs + 1):
        for audio, video, labels in loader():
            loss = cross_entropy(model(audio, video), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        # begin C-MIEI
        checkpoint |= {"epoch": epoch, "cmiei": handle.state_dict()}
        # end C-MIEI
        torch.save(checkpoint, args.output / f"epoch-{epoch}.pt")

    handle.remove()
    torch.save(model.state_dict(), args.output / "weights.pt")


if __name__ == "__main__":
    main()
