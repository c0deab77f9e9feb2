"""Makes calls with gRPC's own library, as a test tells it to.

Each line of the input is a call: a JSON object with id, path, message (hexadecimal), traceparent and
timeout. Each line of the output is what came of one: id, code, message, details and answer (both
hexadecimal). Arguments: the address, and a service config.
"""

import asyncio
import json
import sys

import grpc


async def ask(channel: grpc.aio.Channel, call: dict) -> dict:
    method = channel.unary_unary(call["path"])
    try:
        answer = await method(
            bytes.fromhex(call["message"]),
            timeout=call["timeout"],
            metadata=(("traceparent", call["traceparent"]),),
        )
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        code, message, answer = error.code().value[0], error.details() or "", b""
    else:
        code, message, details = 0, "", b""
    return {
        "id": call["id"],
        "code": code,
        "message": message,
        "details": details.hex(),
        "answer": answer.hex(),
    }


async def told(channel: grpc.aio.Channel, line: bytes) -> None:
    print(json.dumps(await ask(channel, json.loads(line))), flush=True)


async def main(addr: str, service_config: str) -> None:
    lines = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    options = [("grpc.service_config", service_config), ("grpc.enable_retries", 1)]
    async with grpc.aio.insecure_channel(addr, options=options) as channel:
        under_way = set()
        while line := await lines.readline():
            task = asyncio.create_task(told(channel, line))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)


asyncio.run(main(*sys.argv[1:]))
