"""What is missing is skipped here and fails in CI."""

from __future__ import annotations

import pytest

from tests.support.required import required


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_what_is_missing(monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no_such_module: pip install 'nothing'"):
        required("no_such_module", install="nothing")
    assert required("json", install="nothing").loads("1") == 1
