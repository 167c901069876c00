"""The protocol's gRPC messages, built when imported: no generated code that is bound to one version of protobuf.

They live in a pool of their own, so that a client library with the same messages fits into the same process.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = "GRPCInferenceService"

# The calls, each with messages NAMERequest and NAMEResponse.
CALLS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
)
# enum: its values, numbered from 0 on.
ENUMS = {
    "DataType": (
        "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8",
        "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING", "TYPE_BF16",
    )
}  # fmt: skip
# message: fields in the form "number name type", a leading * for repeated, "map:TYPE" for map<string, TYPE>; of
# what Triton adds to the protocol, those that are answered here. `parameter_choice` is the one oneof of the protocol.
FIELDS: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("1 live bool",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("1 ready bool",),
    "ModelReadyRequest": ("1 name string", "2 version string"),
    "ModelReadyResponse": ("1 ready bool",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("1 name string", "2 version string", "3 extensions *string"),
    "ModelMetadataRequest": ("1 name string", "2 version string"),
    "TensorMetadata": ("1 name string", "2 datatype string", "3 shape *int64"),
    "ModelMetadataResponse": (
        "1 name string",
        "2 versions *string",
        "3 platform string",
        "4 inputs *TensorMetadata",
        "5 outputs *TensorMetadata",
    ),
    "InferParameter": (
        "1 bool_param bool",
        "2 int64_param int64",
        "3 string_param string",
        "4 double_param double",
        "5 uint64_param uint64",
    ),
    "InferTensorContents": (
        "1 bool_contents *bool",
        "2 int_contents *int32",
        "3 int64_contents *int64",
        "4 uint_contents *uint32",
        "5 uint64_contents *uint64",
        "6 fp32_contents *float",
        "7 fp64_contents *double",
        "8 bytes_contents *bytes",
    ),
    "InferInputTensor": (
        "1 name string",
        "2 datatype string",
        "3 shape *int64",
        "4 parameters map:InferParameter",
        "5 contents InferTensorContents",
    ),
    "InferRequestedOutputTensor": ("1 name string", "2 parameters map:InferParameter"),
    "ModelInferRequest": (
        "1 model_name string",
        "2 model_version string",
        "3 id string",
        "4 parameters map:InferParameter",
        "5 inputs *InferInputTensor",
        "6 outputs *InferRequestedOutputTensor",
        "7 raw_input_contents *bytes",
    ),
    "InferOutputTensor": (
        "1 name string",
        "2 datatype string",
        "3 shape *int64",
        "4 parameters map:InferParameter",
        "5 contents InferTensorContents",
    ),
    "ModelInferResponse": (
        "1 model_name string",
        "2 model_version string",
        "3 id string",
        "4 parameters map:InferParameter",
        "5 outputs *InferOutputTensor",
        "6 raw_output_contents *bytes",
    ),
    "ModelConfigRequest": ("1 name string", "2 version string"),
    "ModelConfigResponse": ("1 config ModelConfig",),
    "ModelConfig": (
        "1 name string",
        "2 platform string",
        "4 max_batch_size int32",
        "5 input *ModelInput",
        "6 output *ModelOutput",
        "17 backend string",
    ),
    "ModelInput": ("1 name string", "2 data_type DataType", "4 dims *int64", "8 optional bool"),
    "ModelOutput": ("1 name string", "2 data_type DataType", "3 dims *int64"),
    "ModelStatisticsRequest": ("1 name string", "2 version string"),
    "ModelStatisticsResponse": ("1 model_stats *ModelStatistics",),
    "ModelStatistics": (
        "1 name string",
        "2 version string",
        "3 last_inference uint64",
        "4 inference_count uint64",
        "5 execution_count uint64",
        "6 inference_stats InferStatistics",
    ),
    "InferStatistics": (
        "1 success StatisticDuration",
        "2 fail StatisticDuration",
        "5 compute_infer StatisticDuration",
    ),
    "StatisticDuration": ("1 count uint64", "2 ns uint64"),
    "RepositoryIndexRequest": ("1 repository_name string", "2 ready bool"),
    "RepositoryIndexResponse": ("1 models *ModelIndex",),
    "ModelIndex": ("1 name string", "2 version string", "3 state string", "4 reason string"),
}
ONEOF = {"InferParameter": "parameter_choice"}
_Field = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="samhq/inference.proto", package=PACKAGE, syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        if name in ONEOF:
            message.oneof_decl.add(name=ONEOF[name])
        for text in fields:
            _add_field(message, *text.split())
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    service = file.service.add(name=SERVICE)
    for name in CALLS:
        service.method.add(name=name, input_type=f".{PACKAGE}.{name}Request", output_type=f".{PACKAGE}.{name}Response")
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, number: str, name: str, kind: str) -> None:
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if message.oneof_decl:
        field.oneof_index = 0
    if kind.startswith(("*", "map:")):
        field.label = _Field.LABEL_REPEATED
    if kind.startswith("map:"):
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, "1", "key", "string")
        _add_field(entry, "2", "value", kind.removeprefix("map:"))
        kind = f"{message.name}.{entry.name}"
    _set_type(field, kind.removeprefix("*"))


def _set_type(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    if kind in ENUMS:
        field.type, field.type_name = _Field.TYPE_ENUM, f".{PACKAGE}.{kind}"
    elif kind[0].isupper():
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


def add_to_pool(*serialized_files: bytes) -> descriptor_pool.DescriptorPool:
    """The pool of the messages, for reflection, with other files in it too."""
    for file in serialized_files:
        _pool.AddSerializedFile(file)
    return _pool


MESSAGES: dict[str, Any] = {
    name: message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in FIELDS
}
