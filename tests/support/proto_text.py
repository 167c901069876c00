"""`deploy/inference.proto`, for clients that generate code: the text of what the server declares in Python.

Run as a program it prints it.
"""

from __future__ import annotations

from collections.abc import Iterator

from samhq_runtime.serve.messages import CALLS, ENUMS, FIELDS, ONEOF, PACKAGE, SERVICE

_HEAD = """// What `samhq serve` speaks over gRPC: the Open Inference Protocol (KServe v2), and of Triton's extensions
// configuration, statistics and index. Every number and name is the protocol's, so its own .proto files work as well.
syntax = "proto3";
"""


def proto_text() -> str:
    return "\n".join([_HEAD, f"package {PACKAGE};", "", *_service(), *_enums(), *_messages()]).rstrip() + "\n"


def _service() -> Iterator[str]:
    yield f"service {SERVICE} {{"
    yield from (f"  rpc {name}({name}Request) returns ({name}Response);" for name in CALLS)
    yield "}\n"


def _enums() -> Iterator[str]:
    for name, values in ENUMS.items():
        yield from (f"enum {name} {{", *(f"  {value} = {number};" for number, value in enumerate(values)), "}\n")


def _messages() -> Iterator[str]:
    for name, fields in FIELDS.items():
        lines = [_field(*text.split()) for text in fields]
        if name in ONEOF:
            lines = [f"oneof {ONEOF[name]} {{", *(f"  {line}" for line in lines), "}"]
        yield (
            "\n".join([f"message {name} {{", *(f"  {line}" for line in lines), "}\n"])
            if lines
            else f"message {name} {{}}\n"
        )


def _field(number: str, name: str, kind: str) -> str:
    if kind.startswith("map:"):
        kind = f"map<string, {kind.removeprefix('map:')}>"
    return f"{kind.replace('*', 'repeated ')} {name} = {number};"


if __name__ == "__main__":
    print(proto_text(), end="")
