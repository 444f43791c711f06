from __future__ import annotations

import ast
import inspect

from cmiei_hooks.demo import digits


def test_the_model_of_the_demo_knows_nothing_of_this_package():
    imported = {
        name
        for node in ast.walk(ast.parse(inspect.getsource(digits)))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
    }
    assert not any("cmiei" in (name or "") for name in imported)


def test_training_and_test_digits_are_all_digits_once():
    train = digits.make_train_loader().dataset.tensors[-1]
    test = digits.make_test_loader().dataset.tensors[-1]
    assert len(train) + len(test) == 1797
    assert set(train.tolist()) == set(test.tolist()) == set(range(digits.CLASSES))
