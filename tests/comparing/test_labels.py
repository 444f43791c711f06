from __future__ import annotations

import pytest

from cmiei_hooks.comparing.labels import labels_of
from cmiei_hooks.comparing.saved_audit import Audited


def named(*groups):
    def audits(paths):
        return [Audited(path, {}, {}, None) for path in paths]

    return labels_of([audits([group] if isinstance(group, str) else group) for group in groups])


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["runs/plain.pth", "runs/new.pth"], ["plain", "new"]),
        (["plain/best.pth", "new/best.pth"], ["plain", "new"]),
        (["runs/v1.0", "runs/v1.1"], ["v1.0", "v1.1"]),
        (["a/x/best.pt", "b/x/best.pt", "b/y/best.pt"], ["a/x", "b/x", "b/y"]),
        (["a.pth", "b/a.pth"], ["a", "b/a"]),
        (["same.pth", "same.pth"], ["run 1", "run 2"]),
        (["", "a.pth"], ["run 1", "run 2"]),
        ([["plain/0.pth", "plain/1.pth"], ["new/0.pth", "new/1.pth"]], ["plain", "new"]),
        ([["0/plain", "1/plain"], ["0/new", "1/new"]], ["plain", "new"]),
        ([["p0.pth", "p1.pth"], ["n0.pth", "n1.pth"]], ["group 1", "group 2"]),
        ([["", ""], ["a/0.pth", "a/1.pth"]], ["group 1", "group 2"]),
    ],
)
def test_names_are_short_and_differ(paths, expected):
    assert named(*paths) == expected
