"""Sends requests that no generated client sends, with gRPC's own library.

Arguments: the address. Each line of the output is a JSON object: what was sent (case), the code of the
answer, and its details (hexadecimal).
"""

import json
import sys

import grpc

STATE = "/ccgateway.agent.v1.AgentState/"
SET_BUSY = STATE + "SetBusy"
WATCH_EVENTS = "/ccgateway.agent.v1.AgentEvents/WatchEvents"
CHECK_HEALTH = "/grpc.health.v1.Health/Check"
BROKEN = b"\xff" * 9
LARGE = bytes(5000)


def cases(channel: grpc.Channel):
    def unary(path, message, **options):
        return lambda: channel.unary_unary(path)(message, timeout=20, **options)

    def stream(path, messages):
        return lambda: channel.stream_unary(path)(iter(messages), timeout=20)

    def watch(message):
        return lambda: list(channel.unary_stream(WATCH_EVENTS)(message, timeout=20))

    yield "no protobuf", unary(SET_BUSY, BROKEN)
    yield "no protobuf to a stream", watch(BROKEN)
    yield "no protobuf to health", unary(CHECK_HEALTH, BROKEN)
    yield "no message", stream(SET_BUSY, [])
    yield "two messages", stream(SET_BUSY, [b"", b""])
    yield "too large", unary(SET_BUSY, LARGE)
    yield "too large to a stream", watch(LARGE)
    yield "too large without gzip", unary(SET_BUSY, LARGE, compression=grpc.Compression.Gzip)
    yield "gzip", unary(CHECK_HEALTH, b"\x0a\x00", compression=grpc.Compression.Gzip)
    yield "deflate", unary(SET_BUSY, LARGE, compression=grpc.Compression.Deflate)
    yield "too much metadata", unary(SET_BUSY, b"", metadata=[("x-long", "x" * 16384)])
    yield "no method", unary(STATE + "Nothing", b"")
    yield "no service", unary("/another.Service/Method", b"")


def main() -> None:
    with grpc.insecure_channel(sys.argv[1]) as channel:
        for case, call in cases(channel):
            code, details = 0, b""
            try:
                call()
            except grpc.RpcError as error:
                code = error.code().value[0]
                details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
            print(json.dumps({"case": case, "code": code, "details": details.hex()}))


main()
