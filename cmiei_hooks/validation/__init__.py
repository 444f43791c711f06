"""The experiment that decides whether C-MIEI helps a given model: paired runs and controls."""

from .arms import Arm
from .experiment import Experiment, validate
from .recording import Recorder

__all__ = ["Arm", "Experiment", "Recorder", "validate"]
