"""The table of docs/security.md names a test for every kind of hostile input, and those tests exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = re.compile(r"<!-- kinds: begin -->\n(.*)<!-- kinds: end -->", flags=re.DOTALL)


def test_every_kind_has_its_tests() -> None:
    found = TABLE.search((ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    assert found
    rows = found[1].splitlines()[2:]
    assert len(rows) == 14
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(\w+)`", row)
        assert named, row
        for file, name in named:
            files = (ROOT / "tests").rglob(file)
            assert any(f"def {name}(" in path.read_text(encoding="utf-8") for path in files), name
