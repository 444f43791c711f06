from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from helpers import Fused
from saved_weights import save, weights

from cmiei_hooks import CMIEIError
from cmiei_hooks.auditing.checkpoint_file import checkpoints_in, read_state_dict
from cmiei_hooks.errors import CheckpointError


class Harmful:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_state_dict_that_contains_itself(tmp_path):
    content: dict = {}
    content["state_dict"] = content
    with pytest.raises(CheckpointError):
        read_state_dict(save(tmp_path / "c.pth", content))


def test_a_file_that_would_run_code_is_not_opened(tmp_path, golden):
    target = tmp_path / "harm"
    path = save(tmp_path / "c.pth", {"state_dict": weights(), "extra": Harmful(target)})
    with pytest.raises(CMIEIError) as error:
        read_state_dict(path)
    assert error.value.got.startswith("blocked: ")
    golden(f"{error.value.problem}\n{error.value.remedy}".replace(str(tmp_path), "."))
    assert not target.exists()
    torch.load(path, weights_only=False)  # the control: it would have
    assert target.exists()


def test_a_whole_pickled_model_is_refused_with_the_remedy(tmp_path, golden):
    with pytest.raises(CMIEIError) as error:
        read_state_dict(save(tmp_path / "c.pth", Fused()))
    golden(str(error.value).replace(str(tmp_path), "."))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda p: None, id="no file"),
        pytest.param(lambda p: p.write_bytes(b""), id="empty"),
        pytest.param(lambda p: p.write_bytes(b"<html>not a checkpoint"), id="html"),
        pytest.param(lambda p: p.write_bytes(pickle.dumps({"a": 1}, protocol=2)), id="pickle"),
        pytest.param(lambda p: p.mkdir(), id="directory"),
        pytest.param(lambda p: torch.save({"epoch": 3, "model": {"lr": 1}}, p), id="no tensors"),
        pytest.param(lambda p: torch.save([1, 2], p), id="list"),
        pytest.param(lambda p: truncate(save(p, weights())), id="truncated"),
    ],
)
def test_files_that_hold_no_weights(tmp_path, make, golden):
    path = tmp_path / "c.pth"
    make(path)
    with pytest.raises(CheckpointError) as error:
        read_state_dict(path)
    golden(error.value.problem.replace(str(tmp_path), "."))  # the rest is what torch says


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_epochs_in_a_directory_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("epoch_10.pth", "epoch_9.pt", "epoch_2.safetensors", "log.txt"):
        (tmp_path / name).touch()
    found = [Path(path).name for path in checkpoints_in(tmp_path)]
    assert found == ["epoch_2.safetensors", "epoch_9.pt", "epoch_10.pth"]
    assert checkpoints_in(tmp_path / "log.txt") == [str(tmp_path / "log.txt")]


def test_a_directory_without_checkpoints(tmp_path, golden):
    (tmp_path / "log.txt").touch()
    with pytest.raises(CheckpointError) as error:
        checkpoints_in(tmp_path)
    golden(str(error.value).replace(str(tmp_path), "."))


def test_a_path_where_nothing_is_may_be_another_one(tmp_path):
    (tmp_path / "best.pth").touch()
    for name, remedy in {"bst.pth": "did you mean", "other.bin": "check the path"}.items():
        with pytest.raises(CheckpointError) as error:
            read_state_dict(tmp_path / name)
        assert error.value.remedy.startswith(remedy)
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        read_state_dict(tmp_path / "best.pth")  # an empty file is not misspelled
    assert error.value.remedy.startswith("check the path")
