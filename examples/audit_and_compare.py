"""``python examples/audit_and_compare.py``: train plainly and with C-MIEI, audit and compare."""

import rich
import torch
from torch.nn.functional import cross_entropy
from two_views import SPLITS, TwoViews, arguments, loader

import cmiei_hooks


def trained(epochs, **settings):
    torch.manual_seed(0)
    model = TwoViews()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    handle = cmiei_hooks.attach(model, "classifier", SPLITS, warmup_epochs=1, log=False, **settings)
    for epoch in range(epochs):
        handle.set_epoch(epoch)
        for audio, video, labels in loader():
            loss = cross_entropy(model(audio, video), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    handle.remove()
    return model


def main():
    args = arguments("runs/audit_and_compare")
    for name, settings in {"plain": {"p_max": 0.0}, "equalised": {}}.items():
        model = trained(args.epochs, **settings)
        torch.save(model.state_dict(), args.output / f"{name}.pt")
        report = cmiei_hooks.audit(model, loader(), head="classifier", splits=SPLITS)
        report.save(args.output / name)
    comparison = cmiei_hooks.compare(args.output / "plain", args.output / "equalised")
    comparison.save(args.output / "comparison")
    rich.print(comparison.table())


if __name__ == "__main__":
    main()
