"""PEFT: ``python examples/peft_training.py [--resume CHECKPOINT]``."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from two_views import SPLITS, TwoViews, arguments, loader

import cmiei_hooks

LORA = LoraConfig(r=2, target_modules=["audio.0", "video.0"], modules_to_save=["classifier"])


def main():
    args = arguments("runs/peft")
    torch.manual_seed(0)
    pretrained = TwoViews()  # here as it was born

    # begin C-MIEI
    if args.resume:
        model = PeftModel.from_pretrained(pretrained, args.resume, is_trainable=True)
    else:
        model = get_peft_model(pretrained, LORA)
    handle = cmiei_hooks.attach(model, head="classifier", splits=SPLITS, warmup_epochs=1)
    # end C-MIEI
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), 0.01)
    first = 0
    if args.resume:
        rest = torch.load(args.resume / "rest.pt")
        optimizer.load_state_dict(rest["optimizer"])
        handle.load_state_dict(rest["cmiei"])
        first = rest["epoch"]
    for epoch in range(first, args.epochs):
        handle.set_epoch(epoch)
        for audio, video, labels in loader():
            loss = cross_entropy(model(audio, video), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        folder = args.output / f"epoch-{epoch + 1}"
        model.save_pretrained(folder)
        rest = {"optimizer": optimizer.state_dict(), "epoch": epoch + 1}
        torch.save(rest | {"cmiei": handle.state_dict()}, folder / "rest.pt")

    handle.remove()
    torch.save(model.state_dict(), args.output / "weights.pt")


if __name__ == "__main__":
    main()
