"""What the values of options mean, and what is said of those that mean nothing."""

from __future__ import annotations

import argparse

import pytest

from cmiei_hooks.cli.values import keys, widths


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("null, 196", [None, 196]),
        ("text=null,image=196", {"text": None, "image": 196}),
        ("512,512,512", [512, 512, 512]),
        ("audio=32,video=48", {"audio": 32, "video": 48}),
        (" audio = 32 , video = 48 ", {"audio": 32, "video": 48}),
        ("a=b=3,c=4", {"a=b": 3, "c": 4}),
    ],
)
def test_widths_with_and_without_names(text, found):
    assert widths(text) == found


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "text", ["", "512,", "32,video=48", "audio=,video=48", "=32,=48", "a=3,a=4", "a=x,b=4"]
)
def test_what_is_neither_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        widths(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2", 2),
        ("logits", "logits"),
        ("1,0,1", [1, 0, 1]),
        ("extra, all,0", ["extra", "all", 0]),
        ("[0, null, [1, 0]]", [0, None, [1, 0]]),
        ("0,null", [0, None]),
        ('"a,b"', "a,b"),
    ],
)
def test_keys_that_lead_inwards_need_no_brackets(text, found):
    assert keys(text) == found
