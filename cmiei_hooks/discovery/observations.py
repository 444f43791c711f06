"""What the runs of ``discover`` have shown, before it is judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .attribution import ModalitySet, ModuleCall
from .branches import Branches
from .functions import Activations
from .hidden import Feeds
from .layout import Widths
from .model_arguments import ModelArguments
from .routes import Hop
from .trace import Trace

__all__ = ["Observations"]


@dataclass(frozen=True)
class Observations:
    """Everything that the runs have shown."""

    calls: Sequence[ModuleCall]
    evaluated: Trace
    """The run in eval mode; empty if the model fails there."""
    names: Sequence[str]
    """The names of the modalities."""
    ends: Sequence[Hop]
    """Outputs ``[B, C]`` that no module receives: logits, perhaps."""
    used: Mapping[bytes, bool]
    """For each of these outputs, whether what the model returns depends on it."""
    uncalled: Sequence[str]
    """Linear modules that the training branch never calls."""
    functions: Activations
    """Functions that the model applies between modules."""
    branches: Branches | None
    """Logits of one modality each, whose sum or mean the model returns."""
    arguments: ModelArguments | None
    """The model's own arguments that hold the modalities, if ``attach`` can name them."""
    feeds: Feeds
    """Which returned tensors that may be logits are computed from which others."""
    notes: tuple[str, ...] = ()

    @property
    def root(self) -> ModuleCall:
        """The call of the model itself."""
        return next(call for call in self.calls if not call.path)

    @property
    def alive(self) -> ModalitySet:
        """The modalities that change what the model returns."""
        returned = self.root.outputs
        everyone = frozenset(range(len(self.names)))
        return frozenset().union(*(out.modalities for out in returned)) if returned else everyone

    @property
    def widths(self) -> Widths:
        """The widths that the features of each modality had when a module returned them."""
        widths: defaultdict[ModalitySet, set[int]] = defaultdict(set)
        for call in self.calls:
            for output in call.outputs:
                if len(output.shape) >= 2:
                    widths[output.modalities].add(output.shape[-1])
        return widths
