"""transformers: ``python examples/transformers_training.py [--resume CHECKPOINT]``."""

import torch
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments
from two_views import SPLITS, TwoViews, arguments, samples

from cmiei_hooks.integrations.transformers import CMIEICallback


class Task(TwoViews):
    """Returns the loss, as the Trainer expects it."""

    def forward(self, audio, video, labels):
        logits = super().forward(audio, video)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def collate(rows):
    audio, video, labels = map(torch.stack, zip(*rows, strict=True))
    return {"audio": audio, "video": video, "labels": labels}


def main():
    args = arguments("runs/transformers")
    settings = TrainingArguments(
        str(args.output),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=32,
        learning_rate=0.01,
        save_strategy="epoch",
        logging_steps=4,
        report_to=[],
        remove_unused_columns=False,
        use_cpu=True,
    )
    torch.manual_seed(0)
    trainer = Trainer(Task(), settings, collate, train_dataset=samples())
    # begin C-MIEI
    trainer.add_callback(CMIEICallback("classifier", SPLITS, warmup_epochs=1))
    # end C-MIEI
    trainer.train(resume_from_checkpoint=args.resume and str(args.resume))
    torch.save(trainer.model.state_dict(), args.output / "weights.pt")


if __name__ == "__main__":
    main()
