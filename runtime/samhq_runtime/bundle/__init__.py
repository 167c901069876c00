"""A bundle folder, verified: the way in for every runtime.

In: a folder written by `samhq-export`. Out: a `Bundle` whose every file was hashed, and sessions for its graphs.
Imports manifest, session and nvidia, and of frames and masks what a decoder is fed; knows nothing of engines being
built.
"""

from ..session.ort_providers import NOT_ON_CPU
from .bundle import Bundle, load_bundle

__all__ = ["NOT_ON_CPU", "Bundle", "load_bundle"]
