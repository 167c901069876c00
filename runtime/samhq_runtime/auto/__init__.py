"""From the providers that a caller asked for to the way each graph runs; what `auto` means on this machine.

In: a manifest, names of providers. Out: `Ways`. Imports manifest, nvidia and the names of session; opens nothing.
"""

from .ways import Way, Ways, ways_of

__all__ = ["Way", "Ways", "ways_of"]
