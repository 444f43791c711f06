"""YAML is read in bounded time and memory, from files and from words of a command line."""

from __future__ import annotations

import time

import pytest
import yaml

from cmiei_hooks import Config
from cmiei_hooks.cli.settings import overrides
from cmiei_hooks.errors import ConfigError
from cmiei_hooks.settings import parse_value


def laughs(first: str, item: str, levels: int) -> str:
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} " + item.format(",".join([f"*a{i - 1}"] * 9)) for i in range(1, levels)]
    return "\n".join(lines)


BOMBS = {
    "billion laughs": laughs("[x, x]", "[{}]", 30),
    "billion laughs in merge keys": laughs("{x: 1}", "{{<<: [{}]}}", 30),
    "5,000 digits": "9" * 5000,
    "5,000 hexadecimal digits": "0x" + "f" * 5000,
    "integer to base 60": "1" + ":1" * 5000,
    "float to base 60": "1" + ":1" * 5000 + ".0",
    "deep lists": "[" * 100_000,
    "deep mappings": "{" * 100_000,
    "deep block lists": "- " * 5000 + "x",
    "deep keys": "? " * 5000,
    "deep aliases": "\n".join(
        ["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 2000))]
    ),
    "list in itself": "&a [*a]",
    "mapping in itself": "&a {b: *a}",
    "very many values": "[" + "1," * 400_000 + "1]",
    "very long word": "a" * 3_000_000,
}
MALFORMED = {
    "unclosed": "K: [1",
    "impossible date": "D: 2024-99-99",
    "date without a date": "D: !!timestamp today",
    "unhashable key": "? [a, b]\n: 1",
    "integer tag": "K: !!int abc",
    "truth tag": "K: !!bool perhaps",
    "hexadecimal without digits": "K: 0x_",
    "null byte": "K: \0",
    "two documents": "K: 1\n---\nK: 2",
}


@pytest.mark.parametrize("name", [*BOMBS, *MALFORMED])
def test_what_is_huge_or_malformed_is_refused_at_once(tmp_path, name):
    text = (BOMBS | MALFORMED)[name]
    path = tmp_path / "c.yml"
    path.write_text(text, encoding="utf-8")
    began = time.process_time()
    with pytest.raises(ConfigError) as from_file:
        Config.load(path)
    with pytest.raises(ConfigError) as from_word:
        parse_value(text)
    with pytest.raises(ConfigError) as from_options:
        overrides(["SPLITS", text])
    assert time.process_time() - began < 30
    for error in (from_file, from_word, from_options):
        assert error.value.remedy
        assert len(str(error.value)) < 2000


@pytest.mark.negative_control
def test_pyyaml_alone_expands_what_is_refused():
    few = yaml.safe_load(laughs("{x: 1}", "{{<<: [{}]}}", 4))
    assert few["a3"] == {"x": 1}
    lists = yaml.safe_load(laughs("[x, x]", "[{}]", 5))
    assert repr(lists["a4"]).count("x") == 2 * 9**4
    assert yaml.safe_load("0x" + "f" * 5000) > 10**5000


def test_the_limits_leave_room_for_whole_configurations(tmp_path):
    text = "".join(f"KEY_{i}: &a{i} [{i}, 1.5, word]\nALSO_{i}: *a{i}\n" for i in range(1000))
    path = tmp_path / "c.yml"
    path.write_text(text + "MODEL: {C_MIEI: {K: 2}}\n", encoding="utf-8")
    assert Config.load(path).k == 2
    assert parse_value(text) == yaml.safe_load(text)
    assert parse_value("9" * 100) == int("9" * 100)
    assert parse_value("[" * 49 + "1" + "]" * 49) == yaml.safe_load("[" * 49 + "1" + "]" * 49)


@pytest.mark.parametrize("text", ["1", "1.5", "yes", "null", "word", "[r, n]", "{a: [0, 1]}", ""])
def test_a_value_is_what_pyyaml_reads(text):
    assert parse_value(text) == yaml.safe_load(text)


def test_the_messages(tmp_path, golden):
    def of(text: str) -> str:
        path = tmp_path / "c.yml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as error:
            Config.load(path)
        return str(error.value).replace(str(path), "c.yml")

    for name in ("billion laughs", "5,000 digits", "list in itself", "very long word"):
        golden(of(BOMBS[name]))
    golden(of(MALFORMED["unclosed"]))
    golden(of("- 1\n"))
    with pytest.raises(ConfigError) as error:
        overrides(["SIGMA", "9" * 5000])
    golden(error.value)
    with pytest.raises(ConfigError) as error:
        Config.load("no/such.yml")
    golden(error.value)


def test_a_file_that_never_ends_is_refused():
    with pytest.raises(ConfigError):
        Config.load("/dev/zero")
