"""Training scripts as users write them: none knows this package. They are run, never imported."""

PLAIN = """
import argparse
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.audio, self.video = nn.Linear(6, 4), nn.Linear(5, 3)
        self.classifier = nn.Linear(7, 3)

    def forward(self, a, v):
        return self.classifier(torch.cat([self.audio(a).relu(), self.video(v).relu()], 1))


class Data(Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.a = torch.randn(64, 6, generator=generator)
        self.v = torch.randn(64, 5, generator=generator)

    def __len__(self):
        return len(self.a)

    def __getitem__(self, i):
        return self.a[i], self.v[i], int(self.a[i].argmax()) % 3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="weights.pt")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, criterion = Model(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    start = "spawn" if args.workers else None
    loader = DataLoader(
        Data(), 16, shuffle=True, num_workers=args.workers, multiprocessing_context=start
    )
    for epoch in range(args.epochs):
        for a, v, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(a, v), y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.9f}")
    print(sys.argv, __name__, __file__, sys.path[0], __spec__ and __spec__.name)
    print(torch.rand(1).item())
    torch.save(model.state_dict(), args.out)
    finish(model)


def finish(model):
    pass


if __name__ == "__main__":
    main()
"""
"""A plain loop, with any number of workers, which are spawned and import the script again."""


def ending(code: str) -> str:
    """The plain script, with something else at its end."""
    return PLAIN.replace("def finish(model):\n    pass\n", f"def finish(model):\n    {code}\n")


SAVES_THE_MODEL = ending(
    'torch.save(model, "whole.pt"); again = torch.load("whole.pt", weights_only=False); '
    "again(torch.randn(4, 6), torch.randn(4, 5)).sum().backward(); print(type(again))"
)
FAILS = ending('raise RuntimeError("out of luck")')
INTERRUPTED = ending("raise KeyboardInterrupt")
EXITS = ending("sys.exit(7)")
FORKS = ending(
    "import os; pid = os.fork(); "
    "model(torch.randn(4, 6), torch.randn(4, 5)).sum().backward(); "
    "pid and os.waitpid(pid, 0); sys.exit(0)"
)

DDP = PLAIN.replace(
    "    optimizer = torch",
    """    import os
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(torch.distributed.get_rank())
    model = nn.parallel.DistributedDataParallel(model)
    args.out = f"rank{torch.distributed.get_rank()}.pt"
    optimizer = torch""",
    1,
)

_START_THE_OTHER = """
import os
import socket
import subprocess
import sys

child = None
if __name__ == "__main__" and "RANK" not in os.environ:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    os.environ.update(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    child = subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "RANK": "1"})
    os.environ["RANK"] = "0"
"""
STARTS_ITS_RANKS = _START_THE_OTHER + DDP + "    sys.exit(child.wait() if child else 0)\n"
"""Starts its second rank as Lightning does: the same script, by Python."""

LIGHTNING = PLAIN.replace(
    "def main():",
    """class Task(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Model()

    def training_step(self, batch, _):
        a, v, y = batch
        return nn.functional.cross_entropy(self.model(a, v), y)

    def validation_step(self, batch, _):
        self.model(batch[0], batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def main():
    ranks = int(sys.argv[1])
    torch.manual_seed(0)
    task = Task()
    trainer = L.Trainer(
        max_epochs=2, val_check_interval=0.5, accelerator="cpu", devices=ranks,
        strategy="ddp" if ranks > 1 else "auto", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(task, DataLoader(Data(), 8, shuffle=True), DataLoader(Data(), 16))
    if trainer.is_global_zero:
        torch.save(task.model.state_dict(), "weights.pt")


def plain():""",
).replace("import torch\n", "import lightning.pytorch as L\nimport torch\n", 1)
"""Lightning, with two validations in each epoch, on as many ranks as the first argument says."""

TRANSFORMERS = PLAIN.replace(
    "def main():",
    """class WithLoss(Model):
    def forward(self, a, v, labels):
        logits = super().forward(a, v)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def collated(rows):
    a, v, y = zip(*rows)
    return {"a": torch.stack(a), "v": torch.stack(v), "labels": torch.tensor(y)}


def main():
    torch.manual_seed(0)
    model = WithLoss()
    arguments = TrainingArguments(
        "trainer", num_train_epochs=2, per_device_train_batch_size=8, use_cpu=True, report_to=[],
        eval_strategy="steps", eval_steps=3, save_strategy="no", remove_unused_columns=False,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model, arguments, data_collator=collated, train_dataset=Data(), eval_dataset=Data()
    )
    trainer.train()
    torch.save(model.state_dict(), "weights.pt")


def plain():""",
).replace(
    "import torch\n", "import torch\nfrom transformers import Trainer, TrainingArguments\n", 1
)
"""The Trainer of transformers, with an evaluation every three steps."""
