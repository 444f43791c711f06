"""Modalities that never meet in one row of the head's input: there is no influence to measure."""

from __future__ import annotations

from ..errors import HeadError, SplitsError

__all__ = ["on_the_batch_axis", "one_modality_a_row"]

_DECISIONS = "docs/heads.md#decisions-that-are-averaged"
"""Where to read on if the model puts the logits of the modalities together behind the head."""


def on_the_batch_axis(got: str) -> SplitsError:
    """The refusal of modalities that stand one under the other.

    Args:
        got: the axis that was given.
    """
    return SplitsError(
        "modalities on the batch axis have no influence that could be measured",
        got=got,
        expected="an axis of the features, such as dim=-1, on which each sample has all modalities",
        remedy="if the modalities stand side by side, name that axis, or leave dim out for the "
        "last one; if each row of the head's input is of one modality (visible images above "
        "infrared ones), the logits of a row do not depend on the other modality, and dropping it "
        "changes nothing: there is nothing to equalise at this head; one head for each "
        f"modality is fused by decisions: see {_DECISIONS}",
    )


def one_modality_a_row(name: str, got: str, otherwise: str) -> HeadError:
    """The refusal of a head that receives one modality in each call, or in each row.

    Args:
        name: of the head.
        got: what was seen.
        otherwise: what to do if it only looks so, as with two views that hold all modalities.
    """
    return HeadError(
        f"the modalities do not meet in the head {name!r}",
        got=f"{got}, so the splits cut inside one modality",
        expected="a head of which each row receives all modalities of a sample",
        remedy="name a module in which they meet; one head for each modality is fused by "
        f"decisions: see {_DECISIONS}; {otherwise}",
    )
