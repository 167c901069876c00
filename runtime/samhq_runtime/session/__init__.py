"""A session runs one graph: feeds by name in, tensors by name out. One module per backend, imported when chosen.

Two ways to run, the same for every backend:

* `session(feeds)` returns numpy arrays that belong to the caller;
* `session.keep(feeds)` leaves the outputs where they were computed and returns `DeviceTensor`s. Sessions of the same
  provider and device take them as feeds without a copy through the host; any other session, and `numpy.asarray`, copies
  them to the host first. A session that computes on the CPU keeps plain arrays.

When a call returns its results are complete: no stream, event or lock is left for the caller. Every session may be
called from several threads at once.

In: a graph or an engine, and the contract it must fulfil. Out: a `Session`. Imports contract, manifest and nvidia;
never engine, which builds what is run here.
"""

from .open import open_session
from .protocol import Borrowed, DeviceTensor, Fetching, Neighbourly, Place, ProviderOptions, Session, Tensor

__all__ = [
    "Borrowed",
    "DeviceTensor",
    "Fetching",
    "Neighbourly",
    "Place",
    "ProviderOptions",
    "Session",
    "Tensor",
    "open_session",
]
