"""``audit``: measure a trained model or its checkpoints over a whole data set; nothing is trained.

There is one road from loading to the finished ``AuditReport``, which the command line and Python
share: ``audit_checkpoints``.
"""

from .api import audit
from .batches import Columns, read_batch
from .bootstrap import Interval, random_groups, resampled_sums
from .checkpoint_file import checkpoints_in
from .checkpoint_loading import Loaded, load_checkpoint
from .collect import device_of
from .gate import violations
from .interrupt import finish_first
from .options import AuditOptions
from .report import AuditReport
from .run import Outcome, audit_checkpoints
from .seeding import seed_everything
from .user_code import call_function, import_function, make_model

__all__ = [
    "AuditOptions",
    "AuditReport",
    "Columns",
    "Interval",
    "Loaded",
    "Outcome",
    "audit",
    "audit_checkpoints",
    "call_function",
    "checkpoints_in",
    "device_of",
    "finish_first",
    "import_function",
    "load_checkpoint",
    "make_model",
    "random_groups",
    "read_batch",
    "resampled_sums",
    "seed_everything",
    "violations",
]
