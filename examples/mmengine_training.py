"""mmengine: ``python examples/mmengine_training.py [--resume CHECKPOINT]``."""

import os

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.nn.functional import cross_entropy
from two_views import SPLITS, TwoViews, arguments, loader

import cmiei_hooks


# begin C-MIEI
class CMIEIHook(Hook):
    """Keeps C-MIEI attached while a Runner runs, and its state in the Runner's checkpoints."""

    def __init__(self, **options):
        self.options = options

    def before_run(self, runner):
        self.handle = cmiei_hooks.attach(runner.model, epoch=lambda: runner.epoch, **self.options)

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint["cmiei"] = self.handle.state_dict()

    def after_load_checkpoint(self, runner, checkpoint):
        if runner._resume and "cmiei" in checkpoint:  # not when it only loads weights
            self.handle.load_state_dict(checkpoint["cmiei"])

    def after_run(self, runner):
        self.handle.remove()


# end C-MIEI
class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.views = TwoViews()

    def forward(self, audio, video, labels, mode):
        return {"loss": cross_entropy(self.views(audio, video), labels)}


def main():
    args = arguments("runs/mmengine")
    torch.manual_seed(0)
    # Since torch 2.6 torch.load refuses what mmengine's checkpoints hold beside tensors. This lifts
    # it for this process: load no checkpoint that you do not trust.
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    runner = Runner(
        Model(),
        str(args.output),
        train_dataloader=loader(),
        train_cfg={"by_epoch": True, "max_epochs": args.epochs},
        optim_wrapper={"optimizer": {"type": "Adam", "lr": 0.01}},
        load_from=args.resume and str(args.resume),
        resume=bool(args.resume),
        custom_hooks=[CMIEIHook(head="views.classifier", splits=SPLITS, warmup_epochs=1)],
        log_level="WARNING",
    )
    runner.train()
    torch.save(runner.model.state_dict(), args.output / "weights.pt")


if __name__ == "__main__":
    main()
