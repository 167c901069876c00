"""The checkpoints that their authors released, by name. No torch here, so `--help` stays instant.

Each is one file of a Hugging Face repository at a fixed revision, with the SHA-256 its publishers and users give for it
(docs/checkpoints.md says where each sum was found). The sum is what is trusted: whoever serves the file, other bytes
are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Release:
    """One released weights file; `revision` is a commit, or a branch where no commit is known."""

    repository: str
    file: str
    revision: str
    sha256: str
    bytes: int


def _sam_hq(file: str, sha256: str, size: int, revision: str = "67ab82412bc794d5ce2e9799b8b6a3c0a8cfe1d2") -> Release:
    return Release(repository="lkeab/hq-sam", file=file, revision=revision, sha256=sha256, bytes=size)


def _sam(file: str, sha256: str, size: int) -> Release:
    return Release(
        repository="ybelkada/segment-anything",
        file=f"checkpoints/{file}",
        revision="7790786db131bcdc639f24a915d9f2c331d843ee",
        sha256=sha256,
        bytes=size,
    )


RELEASES: dict[str, Release] = {
    "sam_hq_vit_b": _sam_hq(
        "sam_hq_vit_b.pth", "14a9d662cd6f5a9c2dba6d40ab0058d88d287e4a18fd6fdc6ad5fb1a3fdeaa57", 379_335_069
    ),
    "sam_hq_vit_l": _sam_hq(
        "sam_hq_vit_l.pth", "e1a6c385d62bf005ded91a54d5ec55c985cfc4103ef89c08d90f39f04934c343", 1_254_865_805
    ),
    "sam_hq_vit_h": _sam_hq(
        "sam_hq_vit_h.pth", "a7ac14a085326d9fa6199c8c698c4f0e7280afdbb974d2c4660ec60877b45e35", 2_570_940_653
    ),
    "sam_hq_vit_tiny": _sam_hq(
        "sam_hq_vit_tiny.pth",
        "0f32c075ccdd870ae54db2f7630e7a0878ede5a2b06d05d6fe02c65a82fb7196",
        42_526_881,
        revision="a3a77cd0a2e5e50eaa76faccf61b964732d9b35f",
    ),
    "sam_vit_b": _sam(
        "sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 375_042_383
    ),
    "sam_vit_l": _sam(
        "sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", 1_249_524_607
    ),
    "sam_vit_h": _sam(
        "sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 2_564_550_879
    ),
    "mobile_sam": Release(
        repository="dhkim2810/MobileSAM",
        file="mobile_sam.pt",
        revision="main",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        bytes=40_728_226,
    ),
}
RELEASES |= {name.removeprefix("sam_hq_"): row for name, row in RELEASES.items() if name.startswith("sam_hq_")}


def release_of(checkpoint: Path) -> Release | None:
    """The release that `checkpoint` names; None if it is a path. What exists as a file or folder always is a path."""
    return None if checkpoint.exists() else RELEASES.get(str(checkpoint))
