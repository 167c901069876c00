"""Errors a user can act on. Each message says what was wrong, what was got, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SamHqError(Exception):
    """Base of everything this project raises on purpose; commands print it and exit with 1."""


class ConfigError(SamHqError):
    """An option or a combination of options that cannot be honoured."""


class CheckpointError(SamHqError):
    """A weights file that is damaged, unsafe, or not a SAM-HQ checkpoint."""


class DownloadError(SamHqError):
    """A file that could not be fetched, or that is not the one expected."""


class ContractError(SamHqError):
    """Tensors or graphs whose names, dtypes or shapes are not those of the IO contract."""


class PromptError(SamHqError, ValueError):
    """Prompts that are missing, malformed, not finite, or used before `set_image`."""


class ImageError(SamHqError, ValueError):
    """An image that cannot be read or has the wrong dtype, shape or size."""


class EmbeddingError(SamHqError, ValueError):
    """A file of an encoded image that is damaged, of another bundle, or cannot be written."""


class DatasetError(SamHqError):
    """A dataset to evaluate on that is missing, malformed, or without a single usable object."""


class TrainingError(SamHqError):
    """A training that diverged."""


class BundleError(SamHqError):
    """A bundle that is incomplete, damaged, unsafe or of a newer schema."""


class BackendUnavailable(SamHqError):
    """A backend or execution provider that was asked for and cannot be had here."""


class GraphError(SamHqError):
    """An ONNX graph that breaks a rule of this project (missing fusion node, forbidden operator...)."""


class ParityError(SamHqError):
    """An exported graph whose results are not those of the PyTorch model."""


class DeviceError(SamHqError):
    """A GPU that failed while it worked, or whose memory is full."""


class BenchmarkError(SamHqError):
    """A measurement that cannot be made, or results that cannot be compared or are worse than allowed."""


def reason_of(error: BaseException) -> str:
    """The first line of another library's message; its type if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def interrupted(outcome: str) -> Iterator[None]:
    """Ctrl-C inside -> the message says `outcome`, what of the results is there."""
    try:
        yield
    except KeyboardInterrupt as e:
        raise KeyboardInterrupt(f"interrupted; {outcome}") from e
