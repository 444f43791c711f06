"""Tables of influences for tests of statistics."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

# Few values, so that ties are common, and all exact in binary.
few = st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0, 3.0])


def tables(rows: int, most: int = 5) -> st.SearchStrategy[list[list[float]]]:
    return st.integers(2, most).flatmap(
        lambda m: st.lists(st.lists(few, min_size=m, max_size=m), min_size=rows, max_size=12)
    )


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)
