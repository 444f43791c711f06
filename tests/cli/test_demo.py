"""The demo and the audit of its model, end to end; the values are recomputed here."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from cmiei_hooks.cli import main
from cmiei_hooks.demo import WIDTH, digits

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """One run of the demo: its directory and what it printed."""
    directory = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        out = io.StringIO()
        patch.chdir(directory)
        patch.setattr(sys, "stdout", out)
        assert main(["demo"]) == 0
    return directory / "runs" / "demo", out.getvalue()


def accuracy(checkpoint: Path, without: int | None = None) -> float:
    """Percent of the test digits, with one view's features zeroed in front of the classifier."""
    model = digits.make_model()
    model.load_state_dict(torch.load(checkpoint, weights_only=True))
    model.eval()
    right = total = 0
    with torch.no_grad():
        for *views, label in digits.make_test_loader():
            features = [encode(v) for encode, v in zip(model.encoders, views, strict=True)]
            features = model.bottleneck(torch.cat(features, dim=1))
            if without is not None:
                features[:, without * WIDTH : (without + 1) * WIDTH] = 0
            right += (model.classifier(features).argmax(1) == label).sum().item()
            total += len(label)
    return 100 * right / total


def table(text: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def test_the_table_has_the_values_of_the_saved_checkpoints(demo):
    directory, text = demo
    rows = table(text)
    plain, equalised = directory / "plain.pth", directory / "equalised.pth"
    expected = {"accuracy %": (accuracy(plain), accuracy(equalised))}
    for i, view in enumerate(digits.VIEWS):
        expected[f"accuracy % without {view}"] = (accuracy(plain, i), accuracy(equalised, i))
    for name, (before, after) in expected.items():
        assert rows[name][:2] == [f"{before:.2f}", f"{after:.2f}"]
        assert float(rows[name][2]) == pytest.approx(after - before, abs=0.011)
    for i, run in enumerate(("plain", "equalised")):
        report = json.loads((directory / run / "report.json").read_text())
        for view in digits.VIEWS:
            assert rows[f"CI (nats) {view}"][i] == f"{report['influence'][view]['mean']:.4f}"
            assert rows[f"Hist % {view}"][i] == f"{100 * report['dominance'][view]['mean']:.1f}"


def test_the_influence_of_the_dominant_view_falls_and_accuracy_without_it_rises(demo):
    rows = table(demo[1])
    dominant = max(digits.VIEWS, key=lambda view: float(rows[f"CI (nats) {view}"][0]))
    assert float(rows[f"CI (nats) {dominant}"][2]) < 0
    assert float(rows[f"accuracy % without {dominant}"][2]) > 0


def test_the_log_is_shown_for_the_equalised_run_only(demo):
    text = demo[1]
    assert len(re.findall(r"^C-MIEI attached \| K 3 \| SIGMA 0.05", text, re.M)) == 1
    assert text.index("equalised: 30 epochs") < text.index("C-MIEI attached")
    lines = re.findall(
        r"^C-MIEI classifier \| epoch +(\d+) step +(\d+) \| C_MIEI_Ratio (\S+)", text, re.M
    )
    assert len(lines) == 10
    assert all((float(ratio) > 0) == (int(epoch) >= 5) for epoch, _, ratio in lines)


def test_diagnose_without_arguments_audits_the_model_of_the_demo(demo, monkeypatch, capsys):
    directory = demo[0]
    monkeypatch.chdir(directory.parents[1])
    before = (directory / "plain.pth").read_bytes()
    assert main(["diagnose"]) == 0
    text, said = capsys.readouterr()
    assert said.startswith(
        "Nothing was named, so this audits the demo's model, runs/demo/plain.pth"
    )
    assert "come first" not in said
    report = json.loads(Path("runs/audit/report.json").read_text())
    saved = json.loads((directory / "plain" / "report.json").read_text())
    assert report["environment"].pop("command") == "cmiei diagnose"
    del report["environment"], saved["environment"]
    assert report == saved
    assert "pixels" in text
    assert (directory / "plain.pth").read_bytes() == before


def words(text: str) -> str:
    """Without numbers and borders, which differ from machine to machine."""
    return " ".join(re.sub(r"[^\W\d_]*[\d.]+%?|[─╭┬╮├┼┤╰┴╯│]", " ", text).split())


def test_the_page_on_the_audit_shows_what_is_printed(demo, monkeypatch, capsys):
    monkeypatch.chdir(demo[0].parents[1])
    assert main(["diagnose"]) == 0
    page = Path(__file__).parents[2] / "docs" / "audit.md"
    (shown,) = re.findall(r"```text\nAudit of [^\n]*\n(.*?)\n\.\.\.\n```", page.read_text(), re.S)
    _, printed = capsys.readouterr().out.split("\n", 1)
    assert words(printed).startswith(words(shown))


def test_diagnose_without_arguments_trains_that_model_if_it_never_was(tmp_path, monkeypatch, demo):
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", "--output", "here"]) == 0
    report = json.loads(Path("here/report.json").read_text())
    again = json.loads((demo[0] / "plain" / "report.json").read_text())
    assert report["influence"] == again["influence"]  # the same seed, the same model


def test_it_says_that_it_audits_the_demo_before_it_trains(tmp_path, monkeypatch, capsys, golden):
    def train(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cmiei_hooks.cli.demo._train", train)
    assert main(["diagnose"]) == 130
    golden(capsys.readouterr().err)


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "words",
    [
        ["--features", "f.pt"],
        ["--head", "classifier"],
        ["--splits", "3,4"],
        ["--modalities", "{a: 0, b: 1}"],
        ["--combine", "mean"],
        ["--fill", "text=0"],
        ["--logits", "0"],
        ["--labels", "0"],
        ["--inputs", "0"],
        ["--group-by", "camera"],
        ["--forward", "my:forward"],
        ["--model-args", "depth=3"],
        ["--weights", "ema"],
        ["--training-branch"],
        ["--features-head"],
        ["--discover"],
        ["--verify"],
    ],
    ids=lambda words: words[0],
)
def test_whoever_says_what_is_audited_does_not_get_the_demo(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", *words]) == 2
    said = capsys.readouterr().err
    assert "missing --model" in said
    assert "demo" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_is_interrupted_leaves_no_checkpoint(tmp_path, monkeypatch):
    from cmiei_hooks.demo import digit_runs

    def pressed(state, stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(digit_runs, "EPOCHS", 1)
    monkeypatch.setattr(torch, "save", pressed)
    assert main(["demo", "--output", "here"]) == 130
    assert list(Path("here").iterdir()) == []


def test_without_scikit_learn_the_demo_says_what_to_install(monkeypatch, capsys, golden):
    for name in ("digit_runs", "digits"):
        monkeypatch.delitem(sys.modules, f"cmiei_hooks.demo.{name}", raising=False)
        monkeypatch.delattr(f"cmiei_hooks.demo.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["demo"]) == 3
    golden(capsys.readouterr().err)


def test_its_reports_can_be_compared_as_the_guide_shows(demo, tmp_path, capsys):
    directory, _ = demo
    words = ["compare", str(directory / "plain"), str(directory / "equalised")]
    assert main([*words, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    guide = (ROOT / "docs" / "guides" / "compare.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```text\n(.*?)^```", guide, re.M | re.S)
    accuracy = printed.partition("\nAccuracy\n")[2].partition("\nDominant modality\n")[0]
    for name, row in table(shown).items():
        assert table(accuracy)[name][-1] == row[-1]  # the verdict, or the title of its column
    rows = table(demo[1])
    for view in digits.VIEWS:
        before, after = (float(x) for x in rows[f"accuracy % without {view}"][:2])
        assert table(accuracy)[f"without {view}"][:2] == [f"{before:.1f}%", f"{after:.1f}%"]
