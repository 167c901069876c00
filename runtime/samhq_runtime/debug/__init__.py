"""Where a typed graph or an engine departs from its reference: the first node, by how much, and what would help.

In: a bundle and reference graphs, or a GPU. Out: a `Departure` per graph. Imports parity, frames, bundle;
and Polygraphy (extra `debug`), whose runners and comparator do the running.
"""

from ..errors import BackendUnavailable
from ..installing import install_command

try:
    import onnxruntime  # noqa: F401
    import polygraphy  # noqa: F401
except ModuleNotFoundError as e:
    install = install_command("cpu,debug")
    raise BackendUnavailable(f"{e.name} is missing, --locate runs graphs with it: {install}") from e

from .locate import Departure, locate_in_engine, locate_in_graphs

__all__ = ["Departure", "locate_in_engine", "locate_in_graphs"]
