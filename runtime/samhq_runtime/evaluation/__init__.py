"""How good are a bundle's masks? IoU and boundary IoU against the truth of a dataset, several bundles side by side.

In: bundles and a dataset with true masks. Out: a `Report`, records and pictures. Imports bundle, predictor and masks.
"""

from .metrics import boundary_iou, iou
from .open import open_dataset
from .report import Report
from .run import evaluate

__all__ = ["Report", "boundary_iou", "evaluate", "iou", "open_dataset"]
