"""Kernel timings kept beside a bundle, so that building again on the same machine takes less time.

Timings hold for one TensorRT version on one GPU. Both are in the file's name and in its first line; a file that says
otherwise, or is damaged, is left alone and the build starts without one.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..callbacks import Notice
from ..files import write_whole


@dataclass(frozen=True)
class TimingCache:
    """The cache of one flavour, version and GPU in `folder`."""

    folder: Path
    flavour: str
    version: str
    gpu: str

    @property
    def path(self) -> Path:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.flavour}-{self.version}-{self.gpu}")
        return self.folder / f"{name}.timing-cache"

    def load(self, notice: Notice) -> bytes:
        """The timings, or b"" if there are none that hold here; `notice` gets the reason in one line."""
        try:
            header, _, timings = self.path.read_bytes().partition(b"\n")
            kept = json.loads(header)
            found = (kept["flavour"], kept["version"], kept["gpu"])
            if found != (self.flavour, self.version, self.gpu):
                notice(f"timing cache ignored: {self.path} was made by {' '.join(found)}; starting a new one")
                return b""
            if hashlib.sha256(timings).hexdigest() != kept["sha256"]:
                notice(f"timing cache ignored: {self.path} is damaged; starting a new one")
                return b""
        except FileNotFoundError:
            self._notice_others(notice)
            return b""
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
            notice(f"timing cache ignored: {self.path} cannot be read ({type(e).__name__}); starting a new one")
            return b""
        return timings

    def save(self, timings: bytes, notice: Notice) -> None:
        """Write the file whole or not at all; failing to is worth a line, not a build."""
        header = {
            "flavour": self.flavour,
            "version": self.version,
            "gpu": self.gpu,
            "sha256": hashlib.sha256(timings).hexdigest(),
        }
        content = json.dumps(header).encode() + b"\n" + timings
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, lambda partial: partial.write_bytes(content))
        except OSError as e:
            notice(f"timing cache not kept: {self.path} ({e.strerror})")

    def _notice_others(self, notice: Notice) -> None:
        others = sorted(path.name for path in self.folder.glob("*.timing-cache"))
        if others:
            notice(f"timing cache: none yet for {self.flavour} {self.version} on {self.gpu}; not used: {others[0]}")


def timing_cache_folder(bundle: Path) -> Path:
    """Beside the bundle, not in it: timings are this machine's, and the bundle travels."""
    bundle = bundle.resolve()
    return bundle.with_name(f"{bundle.name}.timing-cache")
