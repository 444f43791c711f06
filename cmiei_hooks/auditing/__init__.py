"""``audit``: measure a trained model or its checkpoints over a whole data set; nothing is trained.

From loading to the finished ``AuditReport`` there is one road, which the command line and
Python share.
"""

from .api import audit
from .batches import Columns, read_batch
from .bootstrap import Interval
from .checkpoints import audit_checkpoint, audit_checkpoints, seed_everything
from .collect import Setting, device_of
from .gate import violations
from .interrupt import finish_first
from .loading import Loaded, call_function, checkpoints_in, import_function, load_checkpoint
from .report import AuditReport

__all__ = [
    "AuditReport",
    "Columns",
    "Interval",
    "Loaded",
    "Setting",
    "audit",
    "audit_checkpoint",
    "audit_checkpoints",
    "call_function",
    "checkpoints_in",
    "device_of",
    "finish_first",
    "import_function",
    "load_checkpoint",
    "read_batch",
    "seed_everything",
    "violations",
]
