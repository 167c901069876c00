"""How many files, connections among them, this process may have open."""

from __future__ import annotations

import resource

_MOST = 65_536
_OURS = 256  # graphs, pipes to decoders, the listeners and what libraries open


def raise_files_limit() -> int:
    """As many open files as the system allows, within reason; the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return _MOST if soft == resource.RLIM_INFINITY else soft


def grpc_connections(http_connections: int) -> int:
    """What is left for gRPC, which closes nobody's connection for another's: enough that many idle ones fit."""
    return max(http_connections, raise_files_limit() - http_connections - _OURS)
