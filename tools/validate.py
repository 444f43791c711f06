"""``python tools/validate.py``: the same as ``cmiei validate``, from a checkout."""

from checkout import run  # type: ignore[import-not-found]  # beside this script

if __name__ == "__main__":  # not in worker processes, which import this file
    run("validate")
