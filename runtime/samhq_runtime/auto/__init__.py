"""From the providers that a caller asked for to the way each graph runs; what `auto` means on this machine.

In: a bundle's folder and manifest, names of providers. Out: `Ways`, stored ones first. Imports manifest, nvidia,
machine and the names of session; opens nothing.
"""

from .resolve import stored_ways, ways_of
from .ways import Way, Ways

__all__ = ["Way", "Ways", "stored_ways", "ways_of"]
