"""What clients of Triton ask beside inference, answered as far as it exists here: configuration, statistics, index.

Plain dictionaries in the protocol's words, for JSON and for messages alike.
"""

from __future__ import annotations

from typing import Any

from .service import MODEL_VERSION, Service
from .signature import TensorInfo, model_inputs, model_outputs
from .tensors import BYTES

# Triton's extensions of the protocol that are answered.
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
_NANO = 1_000_000_000


def model_config(service: Service) -> dict[str, Any]:
    """Name, inputs and outputs; there is no batch dimension, hence `max_batch_size` 0. No input is required alone."""
    sizes = service.sizes
    return {
        "name": service.options.model_name,
        "platform": "samhq_bundle",
        "backend": "samhq",
        "max_batch_size": 0,
        "input": [{**_config_of(info), "optional": True} for info in model_inputs(sizes)],
        "output": [_config_of(info) for info in model_outputs(sizes)],
    }


def statistics(service: Service) -> dict[str, Any]:
    """Since the start; times of requests from parsed to answered, of computing those of both graphs together."""
    counts = service.metrics.counts()
    return {
        "model_stats": [
            {
                "name": service.options.model_name,
                "version": MODEL_VERSION,
                "last_inference": counts.last_ms,
                "inference_count": counts.prompts,
                "execution_count": counts.batches,
                "inference_stats": {
                    "success": _duration(counts.answered, counts.answered_s),
                    "fail": _duration(counts.failed, 0),
                    "compute_infer": _duration(counts.batches, counts.computed_s),
                },
            }
        ]
    }


def repository_index(service: Service, *, ready: bool = False) -> list[dict[str, str]]:
    """The one model; none if only those that are `ready` are asked for and it is not."""
    reason = service.not_ready
    if ready and reason:
        return []
    state = "UNAVAILABLE" if reason else "READY"
    return [{"name": service.options.model_name, "version": MODEL_VERSION, "state": state, "reason": reason}]


def _config_of(info: TensorInfo) -> dict[str, Any]:
    datatype = "STRING" if info.datatype == BYTES else info.datatype
    return {"name": info.name, "data_type": f"TYPE_{datatype}", "dims": list(info.shape)}


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * _NANO)}
