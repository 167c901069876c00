"""`samhq tune`: the ways to run a bundle that this machine has, timed and held against PyTorch's recorded results.

In: a bundle with its recording. Out: the quickest ways that compute the right masks, and a table of all that was tried.
Every try is a process of its own. Imports bundle, auto, engine's parity and what bench measures with; stores nothing.
"""

from .run import Tried, TuneOptions, Tuning, tune

__all__ = ["Tried", "TuneOptions", "Tuning", "tune"]
