"""``python tools/validate.py``: the same as ``cmiei validate``, from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cmiei_hooks.cli import main  # the checkout must be importable first

if __name__ == "__main__":
    sys.exit(main(["validate", *sys.argv[1:]]))
