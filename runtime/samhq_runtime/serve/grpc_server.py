"""The protocol over gRPC."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from .. import __version__
from ..errors import BackendUnavailable
from .about import EXTENSIONS, model_config, repository_index, statistics
from .access_log import adopt_id, count_bytes
from .errors import Reason, RequestError, message_of, reason_of
from .files_limit import grpc_connections
from .grpc_calls import GuardedCalls, tell_id
from .grpc_standard import add_standard_services
from .held import Holding
from .messages import MESSAGES, PACKAGE, SERVICE
from .off_loop import off_loop
from .options import FLUSH_S, MEGA, ServeOptions
from .service import MODEL_VERSION, Service
from .signature import InferRequest, infer_request, require_few
from .tensors import Tensor, raw_of, tensor_from_raw, tensor_from_values
from .time_limit import time_limit
from .tls import Certificate

log = logging.getLogger(__name__)

CODES = {
    Reason.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Reason.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.BUSY: grpc.StatusCode.UNAVAILABLE,
    Reason.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_MESSAGE_ROOM = 1_000_000  # names and shapes around a request's tensors
_PHOTO_MB = 8
_UNLIMITED = -1
_STREAMS = 1000  # calls of one connection at a time; those of one client process share a connection
_IDLE_S = (
    60  # until a connection without calls is closed, and until a client that says nothing is asked whether it lives
)


class GrpcServer:
    """Listens from `start` on; `stop` refuses new calls and waits for those in flight."""

    def __init__(self, service: Service, certificate: Certificate | None = None) -> None:
        options = service.options
        self._service = service
        self._server = aio.server(
            interceptors=[GuardedCalls(service.tokens, service.tracer)], options=_channel_options(options)
        )
        answers = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._repository_index,
        }
        handlers = {name: _handler(name, answer) for name, answer in answers.items()}
        handlers["ModelInfer"] = _infer_handler(self._model_infer)
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(f"{PACKAGE}.{SERVICE}", handlers)])
        add_standard_services(self._server, service)
        address = options.address(options.grpc_port)
        try:
            self.port = (
                self._server.add_secure_port(address, certificate.grpc_credentials())
                if certificate
                else self._server.add_insecure_port(address)
            )
        except RuntimeError as e:
            raise BackendUnavailable(f"{address}: cannot listen there for gRPC ({e}); choose --grpc-port") from e

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(self._service.options.grace_s + FLUSH_S)

    async def _server_live(self, request: Any) -> Any:
        return MESSAGES["ServerLiveResponse"](live=self._service.live)

    async def _server_ready(self, request: Any) -> Any:
        return MESSAGES["ServerReadyResponse"](ready=self._service.ready)

    async def _model_ready(self, request: Any) -> Any:
        self._service.require_model(request.name, request.version)
        return MESSAGES["ModelReadyResponse"](ready=self._service.ready)

    async def _server_metadata(self, request: Any) -> Any:
        return MESSAGES["ServerMetadataResponse"](name="samhq", version=__version__, extensions=EXTENSIONS)

    async def _model_metadata(self, request: Any) -> Any:
        self._service.require_model(request.name, request.version)
        return MESSAGES["ModelMetadataResponse"](**self._service.metadata())

    async def _model_config(self, request: Any) -> Any:
        self._service.require_model(request.name, request.version)
        return MESSAGES["ModelConfigResponse"](config=model_config(self._service))

    async def _statistics(self, request: Any) -> Any:
        if request.name:
            self._service.require_model(request.name, request.version)
        return MESSAGES["ModelStatisticsResponse"](**statistics(self._service))

    async def _repository_index(self, request: Any) -> Any:
        return MESSAGES["RepositoryIndexResponse"](models=repository_index(self._service, ready=request.ready))

    async def _model_infer(self, context: aio.ServicerContext) -> None:
        with self._service.counted("grpc") as holding:
            body = await self._body(context, holding)
            with self._service.admitted():
                answer = await self._answer(body, context, holding)
            with time_limit(self._service.options.write_timeout_s, "the answer was not read in time"):
                await context.write(answer)
            count_bytes(sent=len(answer))

    async def _answer(self, body: bytes, context: aio.ServicerContext, holding: Holding) -> bytes:
        message, request = await off_loop(len(body), lambda: _read(body))
        adopt_id(message.id)
        tell_id(context)
        self._service.require_model(message.model_name, message.model_version)
        tensors = await self._service.infer(request, holding)
        size = sum(tensor.nbytes for tensor in tensors)
        return await off_loop(size, lambda: _infer_response(message, tensors).SerializeToString())

    async def _body(self, context: aio.ServicerContext, holding: Holding) -> bytes:
        """The message; gRPC does not say how large it will be, so until it is there it counts as a photo's."""
        with time_limit(self._service.options.body_timeout_s, "the request did not arrive in time"):
            await holding.arrive(min(self._service.options.max_request_mb, _PHOTO_MB) * MEGA)
            body = await context.read()
        if not isinstance(body, bytes):
            raise RequestError("got a call without a message, expected a ModelInferRequest")
        count_bytes(received=len(body))
        holding.arrived(len(body))
        return body


def _channel_options(options: ServeOptions) -> list[tuple[str, int]]:
    """How gRPC treats connections; it counts and times them itself."""
    second = 1000
    return [
        ("grpc.max_receive_message_length", options.max_request_mb * MEGA + _MESSAGE_ROOM),
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.so_reuseport", 0),
        ("grpc.max_allowed_incoming_connections", grpc_connections(options.max_connections)),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.server_handshake_timeout_ms", round(options.header_timeout_s * second)),
        ("grpc.max_connection_idle_ms", _IDLE_S * second),
        ("grpc.keepalive_time_ms", _IDLE_S * second),
    ]


def _handler(name: str, answer: Callable[[Any], Awaitable[Any]]) -> grpc.RpcMethodHandler:
    async def call(request: Any, context: aio.ServicerContext) -> Any:
        return await _or_abort(name, context, answer(request))

    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=MESSAGES[f"{name}Request"].FromString,
        response_serializer=MESSAGES[f"{name}Response"].SerializeToString,
    )


def _infer_handler(answer: Callable[[aio.ServicerContext], Awaitable[None]]) -> grpc.RpcMethodHandler:
    """Looks at a call before its body is received, and takes and returns bytes: large ones are not parsed on the loop.

    To the client a stream of one message is what a single message is; to us it says when the answer has left.
    """

    async def call(requests: Any, context: aio.ServicerContext) -> Any:
        await _or_abort("ModelInfer", context, answer(context))

    return grpc.stream_stream_rpc_method_handler(call)


async def _or_abort(name: str, context: aio.ServicerContext, answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except Exception as e:
        if reason_of(e) is Reason.INTERNAL:
            log.exception("%s failed", name)
        return await context.abort(CODES[reason_of(e)], message_of(e))


def _read(body: bytes) -> tuple[Any, InferRequest]:
    try:
        message = MESSAGES["ModelInferRequest"].FromString(body)
    except DecodeError as e:
        raise RequestError(f"not a ModelInferRequest ({e})") from e
    return message, _infer_request(message)


def _infer_request(request: Any) -> InferRequest:
    for kind in ("inputs", "outputs", "parameters"):
        require_few(kind, len(getattr(request, kind)))
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise RequestError(f"raw_input_contents: got {len(raw)}, expected one for each of {len(request.inputs)} inputs")
    inputs = [_tensor(tensor, raw[i] if raw else None) for i, tensor in enumerate(request.inputs)]
    return infer_request(
        inputs,
        [output.name for output in request.outputs],
        {name: _value(parameter) for name, parameter in request.parameters.items()},
    )


def _tensor(tensor: Any, raw: bytes | None) -> Tensor:
    if raw is not None:
        return tensor_from_raw(tensor.name, tensor.datatype, tensor.shape, raw)
    if tensor.datatype not in _CONTENTS:
        raise RequestError(f"{tensor.name}: {tensor.datatype!r} has no typed contents; send raw_input_contents")
    return tensor_from_values(
        tensor.name, tensor.datatype, tensor.shape, list(getattr(tensor.contents, _CONTENTS[tensor.datatype]))
    )


def _value(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _infer_response(request: Any, tensors: list[Tensor]) -> Any:
    response = MESSAGES["ModelInferResponse"](model_name=request.model_name, model_version=MODEL_VERSION, id=request.id)
    for tensor in tensors:
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.data.shape)
        response.raw_output_contents.append(raw_of(tensor))
    return response
