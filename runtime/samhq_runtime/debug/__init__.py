"""Where a typed graph or an engine departs from its reference: the first node, by how much, and what would help.

In: a bundle and reference graphs, or a GPU. Out: a `Departure` per graph. Imports parity, frames, bundle;
and Polygraphy (extra `debug`), whose runners and comparator do the running.
"""

from ..errors import BackendUnavailable
from ..installing import install_command

try:
    import polygraphy  # noqa: F401
except ModuleNotFoundError as e:
    raise BackendUnavailable(f"Polygraphy is missing, --locate runs graphs with it: {install_command('debug')}") from e

from .locate import Departure, locate_in_engine, locate_in_graphs

__all__ = ["Departure", "locate_in_engine", "locate_in_graphs"]
