"""DDP: ``torchrun --nproc-per-node 2 examples/torchrun_training.py [--resume CHECKPOINT]``."""

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from two_views import SPLITS, TwoViews, arguments, samples

import cmiei_hooks


def main():
    args = arguments("runs/torchrun")
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = DistributedDataParallel(TwoViews())
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    sampler = DistributedSampler(samples())
    batches = DataLoader(samples(), batch_size=16, sampler=sampler)

    # begin C-MIEI
    handle = cmiei_hooks.attach(model, head="classifier", splits=SPLITS, warmup_epochs=1)
    # end C-MIEI

    first = 0
    if args.resume:
        checkpoint = torch.load(args.resume)
        model.module.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        first = checkpoint["epoch"]
        # begin C-MIEI
        handle.load_state_dict(checkpoint["cmiei"])
        # end C-MIEI
    for epoch in range(first, args.epochs):
        sampler.set_epoch(epoch)
        # begin C-MIEI
        handle.set_epoch(epoch)
        # end C-MIEI
        for audio, video, labels in batches:
            loss = cross_entropy(model(audio, video), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if dist.get_rank() == 0:
            checkpoint = {"model": model.module.state_dict(), "optimizer": optimizer.state_dict()}
            # begin C-MIEI
            checkpoint |= {"epoch": epoch + 1, "cmiei": handle.state_dict()}
            # end C-MIEI
            torch.save(checkpoint, args.output / f"epoch-{epoch + 1}.pt")

    handle.remove()
    if dist.get_rank() == 0:
        torch.save(model.module.state_dict(), args.output / "weights.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
