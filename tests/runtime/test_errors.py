"""What our messages take over from those of other libraries."""

from __future__ import annotations

import pytest

from samhq_runtime.errors import reason_of


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError("one\ntwo"), "one"), (ValueError("one"), "one"), (KeyError("k"), "'k'"), (EOFError(), "EOFError")],
)
def test_reason_of(error: Exception, expected: str) -> None:
    assert reason_of(error) == expected
