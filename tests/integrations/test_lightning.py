"""The callback for Lightning, compared with the same training written by hand."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused, trace
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import cmiei_hooks
from cmiei_hooks.errors import ConfigError, HeadError

L = pytest.importorskip("lightning.pytorch", reason="lightning is not installed (extra lightning)")

from cmiei_hooks.integrations.lightning import CMIEICallback  # noqa: E402  # after the line above

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning:lightning"),
    pytest.mark.filterwarnings(
        "ignore::lightning.fabric.utilities.rank_zero.LightningDeprecationWarning"
    ),
]

EAGER = {"k": 2, "warmup_epochs": 1, "abs_thr": 0.0, "rel_thr": 0.0, "log": False, "log_period": 3}
"""Something is substituted from the second epoch on."""


class Task(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.model = Fused(nn.Sequential(nn.Dropout(0.1), nn.Linear(sum(WIDTHS), 7)))
        self.lr = 0.1

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = cross_entropy(self.model(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", cross_entropy(self.model(x), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)


def loader(samples: int = 64) -> DataLoader:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(samples, 6, generator=generator)
    return DataLoader(TensorDataset(x, x.argmax(1)), batch_size=8)


def trainer(tmp_path, *callbacks, epochs: int = 3, **options) -> L.Trainer:
    torch.manual_seed(3)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    plain = {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    return L.Trainer(
        max_epochs=epochs,
        callbacks=list(callbacks),
        default_root_dir=tmp_path,
        **{**quiet, **plain, **options},
    )


def callback(**options) -> CMIEICallback:
    return CMIEICallback("model.classifier", WIDTHS, **{**EAGER, **options})


class ByHand(L.Callback):
    """The three lines that the callback replaces: attach with epoch=, and the state by hand."""

    def __init__(self) -> None:
        self.loaded = None

    def on_fit_start(self, trainer, pl_module):
        self.handle = cmiei_hooks.attach(
            pl_module,
            "model.classifier",
            WIDTHS,
            epoch=lambda: trainer.current_epoch,
            **EAGER,
        )
        if self.loaded:
            self.handle.load_state_dict(self.loaded)

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["by hand"] = self.handle.state_dict()

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        self.loaded = checkpoint["by hand"]


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


WAYS = {
    "plain": {},
    "accumulation": {"accumulate_grad_batches": 3},
    "a sanity check and validations in mid-epoch": {
        "num_sanity_val_steps": 2,
        "val_check_interval": 3,
    },
}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_the_weights_are_those_of_the_lines_written_by_hand(tmp_path, options):
    tasks, handles = [], []
    for one in (callback(), ByHand()):
        task = Task()
        trainer(tmp_path, one, **options).fit(task, loader(), loader(16))
        tasks.append(task)
        handles.append(one.handle)
    assert equal(*tasks)
    ours, by_hand = (handle.state_dict() for handle in handles)
    assert ours["totals"].equal(by_hand["totals"])
    tensors = ("sums", "totals", "usual_influence")
    assert {k: v for k, v in ours.items() if k not in tensors} == {
        k: v for k, v in by_hand.items() if k not in tensors
    }
    assert ours["totals"][3] > 0  # substituted samples
    assert handles[0].step == 24


@pytest.mark.negative_control
def test_without_c_miei_the_weights_are_others(tmp_path):
    tasks = [Task(), Task()]
    trainer(tmp_path, callback()).fit(tasks[0], loader())
    trainer(tmp_path).fit(tasks[1], loader())
    assert not equal(*tasks)


def test_afterwards_no_trace_is_left(tmp_path):
    task, plain = Task(), Task()
    before = trace(task.model)
    one = callback(p_max=0)
    trainer(tmp_path, one).fit(task, loader())
    trainer(tmp_path).fit(plain, loader())
    assert set(trace(task.model)) == set(before)
    assert not task.model.classifier._forward_pre_hooks
    assert equal(task, plain)
    assert one.handle.metrics()["Hist_r"] >= 0


def resumed(tmp_path, by, seed: int) -> Task:
    """Trained for two epochs, and then from the checkpoint for a third one."""
    task = Task()
    earlier = trainer(tmp_path, by(), epochs=2)
    earlier.fit(task, loader())
    earlier.save_checkpoint(tmp_path / "two.ckpt")
    task = Task()
    later = trainer(tmp_path, by())
    torch.manual_seed(seed)
    later.fit(task, loader(), ckpt_path=tmp_path / "two.ckpt")
    return task


class Seeded(L.Callback):
    """Lightning keeps no state of generators in its checkpoints, and the model has dropout."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(trainer.global_step)


@pytest.mark.parametrize("by", [callback, ByHand], ids=["callback", "by hand"])
def test_resumed_at_the_end_of_an_epoch_the_weights_are_those_of_one_run(tmp_path, by, monkeypatch):
    monkeypatch.setattr(Task, "configure_callbacks", lambda self: [Seeded()])
    whole = Task()
    trainer(tmp_path, callback()).fit(whole, loader())
    assert equal(resumed(tmp_path, by, seed=99), whole)


@pytest.mark.negative_control
def test_without_the_state_a_resumed_run_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr(Task, "configure_callbacks", lambda self: [Seeded()])
    monkeypatch.setattr(CMIEICallback, "load_state_dict", lambda self, state: None)
    whole = Task()
    trainer(tmp_path, callback()).fit(whole, loader())
    assert not equal(resumed(tmp_path, callback, seed=99), whole)


def test_a_second_fit_of_a_trainer_goes_on_and_another_trainer_begins_anew(tmp_path):
    tasks, handles = [], []
    for one in (callback(), ByHand()):
        task = Task()
        fits = trainer(tmp_path, one, epochs=2)
        fits.fit(task, loader())
        one.loaded = one.handle.state_dict()
        one.handle.remove()
        fits.fit_loop.max_epochs = 3
        fits.fit(task, loader())
        tasks.append(task)
        handles.append(one.handle)
        trainer(tmp_path, fresh := callback()).fit(Task(), loader())
    assert equal(*tasks)
    assert [handle.step for handle in handles] == [24, 24]
    used, again, new = callback(), Task(), Task()
    trainer(tmp_path, used).fit(Task(), loader())
    trainer(tmp_path, used).fit(again, loader())
    trainer(tmp_path, fresh).fit(new, loader())
    assert equal(again, new)
    assert used.handle.step == 24


def test_a_learning_rate_finder_before_the_training_leaves_nothing_behind(tmp_path):
    from lightning.pytorch.tuner import Tuner

    found, plain = Task(), Task()
    one, other = callback(warmup_epochs=0), callback(warmup_epochs=0)
    finding = trainer(tmp_path, one)
    Tuner(finding).lr_find(found, loader(), num_training=8, update_attr=False)
    assert one.handle is None
    torch.manual_seed(3)
    finding.fit(found, loader())
    trainer(tmp_path, other).fit(plain, loader())
    assert equal(found, plain)
    assert one.handle.state_dict()["totals"].equal(other.handle.state_dict()["totals"])


def finder_in_epoch_1(seen: list[int], handle):
    """As Lightning's documentation has it, for fine-tuning."""
    from lightning.pytorch.callbacks import LearningRateFinder

    class Finder(LearningRateFinder):
        def on_fit_start(self, trainer, pl_module):
            pass

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                last = handle().last
                generator = torch.get_rng_state()
                self.lr_find(trainer, pl_module)
                torch.set_rng_state(generator)
                seen.append((handle().step, handle().epoch, handle().last is last))

    return Finder(num_training_steps=8, update_attr=False)


def test_a_learning_rate_finder_in_the_training_leaves_nothing_behind(tmp_path):
    tasks, ends, seen = [], [], []
    for acts in (True, False):
        one = callback(log=lambda r: r.event == "end" and ends.append(r.totals))
        task = Task()
        finder = [finder_in_epoch_1(seen, lambda one=one: one.handle)] if acts else []
        trainer(tmp_path, one, *finder, Seeded()).fit(task, loader())
        tasks.append(task)
    assert seen == [(8, 0, True)]
    assert ends[0] == ends[1]
    assert equal(*tasks)


@pytest.mark.negative_control
def test_without_a_pause_a_learning_rate_finder_would_be_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("cmiei_hooks.integrations.lifecycle.Lifecycle.pause", lambda self: None)
    seen, one = [], callback()
    finder = finder_in_epoch_1(seen, lambda: one.handle)
    trainer(tmp_path, one, finder).fit(Task(), loader())
    assert seen == [(8, 0, False)]


class Recording(L.loggers.logger.Logger):
    name, version = "recording", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows += [(step, name, value) for name, value in metrics.items()]

    def log_hyperparams(self, *args, **kwargs):
        pass


def test_the_loggers_get_the_metrics_at_the_steps_of_lightning(tmp_path):
    logger, records = Recording(), []
    options = {"logger": logger, "log_every_n_steps": 1, "accumulate_grad_batches": 2}
    one = callback(log=records.append, prefix="fusion_")
    trainer(tmp_path, one, epochs=2, **options).fit(Task(), loader())
    theirs = {step for step, name, _ in logger.rows if name == "loss"}
    ours = {(step, name): v for step, name, v in logger.rows if name.startswith("C_MIEI/")}
    figures = [record for record in records if record.event == "figures"]
    whole = [record for record in records if record.event == "epoch"]
    assert {step for step, name in ours if "epoch/" not in name} == {r.step // 2 for r in figures}
    assert {step for step, _ in ours} <= theirs
    for record in figures:
        for name, value in record.metrics.items():
            assert ours[record.step // 2, f"C_MIEI/fusion_{name}"] == value
    for step, record in zip((3, 7), whole, strict=True):
        for name, value in record.metrics.items():
            assert ours[step, f"C_MIEI/epoch/fusion_{name}"] == value
    last = [step for step, *_ in logger.rows]
    assert last == sorted(last)


@pytest.mark.parametrize("validates", [False, True], ids=["training alone", "with validation"])
def test_the_metrics_can_be_monitored(tmp_path, validates):
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    stopping = EarlyStopping(monitor="CI_r", stopping_threshold=0.0, mode="max")
    saving = ModelCheckpoint(tmp_path, monitor="Hist_n", filename="{epoch}-{Hist_n:.3f}")
    one = callback()
    fitting = trainer(
        tmp_path, one, stopping, saving, enable_checkpointing=True, num_sanity_val_steps=1
    )
    fitting.fit(Task(), loader(), loader(16) if validates else None)
    metrics = one.handle.metrics()
    assert one.handle.step == 8  # the influence was above the threshold after one epoch
    for name, value in metrics.items():
        assert fitting.callback_metrics[name].item() == pytest.approx(value)
    assert saving.best_model_score.item() == pytest.approx(metrics["Hist_n"])
    assert f"Hist_n={metrics['Hist_n']:.3f}" in saving.best_model_path


def test_an_epoch_without_an_estimate_stops_nothing(tmp_path):
    from lightning.pytorch.callbacks import EarlyStopping

    one = callback(k=20)  # the second epoch has none
    stopping = EarlyStopping(monitor="CI_r", patience=9, check_finite=True)
    trainer(tmp_path, one, stopping).fit(Task(), loader())
    assert one.handle.step == 24


class Failing(Task):
    fails = True

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.fails and batch_idx == 2:
            raise RuntimeError("out of luck")


def failed(tmp_path) -> tuple[Task, CMIEICallback]:
    task, one = Failing(), callback()
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer(tmp_path, one).fit(task, loader())
    return task, one


def test_an_error_takes_the_hook_off_and_the_model_can_be_trained_again(tmp_path):
    task, one = failed(tmp_path)
    assert not task.model.classifier._forward_pre_hooks
    assert one.handle.step == 3
    task.fails = False
    trainer(tmp_path, callback()).fit(task, loader())


@pytest.mark.negative_control
def test_if_an_error_were_not_told_the_hook_would_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(CMIEICallback, "on_exception", lambda *_: None)
    task, _ = failed(tmp_path)
    assert task.model.classifier._forward_pre_hooks


class TwoHeads(Task):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(sum(WIDTHS), 7)

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.model.features(x)
        return cross_entropy(self.model.classifier(features) + self.other(features), y)


def test_several_callbacks_have_a_state_each(tmp_path):
    def both():
        return callback(), CMIEICallback("other", WIDTHS, prefix="other_", **{**EAGER, "k": 3})

    callbacks = both()
    whole = trainer(tmp_path, *callbacks)
    whole.fit(TwoHeads(), loader())
    whole.save_checkpoint(tmp_path / "both.ckpt")
    states = torch.load(tmp_path / "both.ckpt", weights_only=True)["callbacks"]
    assert {key: state["head"] for key, state in states.items()} == {
        "CMIEICallback{'head': 'model.classifier'}": "model.classifier",
        "CMIEICallback{'head': 'other'}": "other",
    }
    assert {"CI_r", "other_CI_r"} <= whole.callback_metrics.keys()
    again = both()
    trainer(tmp_path, *again, epochs=4).fit(TwoHeads(), loader(), ckpt_path=tmp_path / "both.ckpt")
    assert [one.handle.step for one in again] == [32, 32]


def test_two_callbacks_whose_metrics_have_the_same_names_are_refused(tmp_path, golden):
    callbacks = callback(), CMIEICallback("other", WIDTHS, **EAGER)
    with pytest.raises(ConfigError) as error:
        trainer(tmp_path, *callbacks).fit(TwoHeads(), loader())
    golden(error.value)


def test_with_enabled_false_nothing_is_attached_saved_or_logged(tmp_path):
    task, plain = Task(), Task()
    one = CMIEICallback("model.classifier", WIDTHS, config={"ENABLED": False}, log=False)
    fitting = trainer(tmp_path, one)
    fitting.fit(task, loader())
    trainer(tmp_path).fit(plain, loader())
    assert equal(task, plain)
    assert one.state_dict() == {}
    assert "CI_r" not in fitting.callback_metrics


def test_a_module_or_an_epoch_is_refused_when_the_callback_is_made(golden):
    with pytest.raises(HeadError) as error:
        CMIEICallback([Task().model.classifier], WIDTHS)
    golden(error.value)
    with pytest.raises(ConfigError) as error:
        callback(epoch=lambda: 0)
    golden(error.value)
