"""How many files, connections among them, this process may have open."""

from __future__ import annotations

import resource

_MOST = 65_536
_CROWD = 8  # times the limit
_OURS = 256  # graphs, pipes to decoders, the listeners and what libraries open


def raise_files_limit() -> int:
    """As many open files as the system allows, within reason; the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _MOST if soft == resource.RLIM_INFINITY else soft


def most_http_connections(limit: int) -> int:
    """How many there may be for a moment, until those above the limit are closed."""
    return max(limit, min(_CROWD * limit, (raise_files_limit() - _OURS) // 2))


def grpc_connections(http_limit: int) -> int:
    """What is left for gRPC, which closes nobody's connection for another's: enough that many idle ones fit."""
    return max(http_limit, raise_files_limit() - most_http_connections(http_limit) - _OURS)
