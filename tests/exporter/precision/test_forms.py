"""Typed graphs: what policies cannot ask for."""

from __future__ import annotations

import pytest

from samhq_exporter.precision.forms import apply_policy
from samhq_exporter.precision.policy import PrecisionPolicy
from samhq_runtime.errors import GraphError
from tests.support.small_graphs import chain


def test_unknown_compute_type() -> None:
    policy = PrecisionPolicy(compute="float8")
    with pytest.raises(GraphError, match="no pass for compute type float8"):
        apply_policy(chain(), policy=policy, half_io=frozenset())
