"""Two ranks: ``torchrun transformers_ranks.py callback|hand OUTPUT [CHECKPOINT]``."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent))

from test_transformers import EAGER, ByHand, callback, trainer  # after the line above


def main() -> None:
    by, output, *checkpoint = sys.argv[1:]
    torch.set_num_threads(1)
    EAGER["log"] = True
    ours = callback() if by == "callback" else ByHand()
    training = trainer(Path(output), ours, save_strategy="steps", save_steps=5)
    training.train(*checkpoint)
    found = {"weights": training.model.state_dict(), "state": ours.handle.state_dict()}
    found["logged"] = [row for row in training.state.log_history if "CI_r" in row]
    torch.save(found, f"{output}/{by}-{training.args.process_index}.pt")


if __name__ == "__main__":
    main()
