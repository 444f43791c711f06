"""What the words of the command line mean."""

from __future__ import annotations

import argparse

import pytest

from cmiei_hooks.cli.options import add_head_arguments
from cmiei_hooks.cli.settings import configuration


def given(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_head_arguments(parser.add_argument_group())
    parser.set_defaults(config=None, opts=[])
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rgb=clf_rgb,depth=heads.1", {"rgb": "clf_rgb", "depth": "heads.1"}),
        (" rgb = a , depth = a ", {"rgb": "a", "depth": "a"}),
        ("bottleneck,classifier", ("bottleneck", "classifier")),
        ("", ""),
    ],
)
def test_a_head_is_a_name_a_chain_or_branches(text, found):
    assert configuration(given("--head", text)).head == found


@pytest.mark.parametrize("text", ["rgb=a,b", "rgb=a,rgb=b"])
def test_what_is_neither_a_chain_nor_branches_is_refused(text):
    with pytest.raises(argparse.ArgumentError, match="not a branch for each modality"):
        given("--head", text)


def test_how_branches_are_combined_and_what_token_ids_become():
    config = configuration(given("--combine", "mean", "--fill", "text=3"))
    assert (config.combine, config.fill) == ("mean", {"text": 3})
    assert configuration(given("--combine", "package.module:function")).combine is None
