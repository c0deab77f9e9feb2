#!/usr/bin/env python3
"""Makes an agent busy through ccgateway-bridge, and takes an error apart; or watches its events.

Exit code: 0 for an answer, 1 for an error of the bridge's, 2 for a wrong command line.
"""

import argparse
import pathlib
import sys
import time
import uuid

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

ROOT = pathlib.Path(__file__).resolve().parents[3]

# Who says what is known of the agent. A proxy's error does not know it.
DOMAIN = "ccgateway-bridge"

# The shortest pause before a watch goes on, in seconds.
PAUSE = 0.25

# What the bridge knows of the agent after an error: whether trying again is safe.
OUTCOMES = {
    "not_sent": "the gateway was not asked; trying again is safe",
    "refused": "the gateway said no; trying again is safe, but may not help",
    "not_applied": "the request was lost, and the agent is as it was; trying again is safe",
    "unknown": "the agent may have changed; look before trying again",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("agent", help="the agent's id on the gateway")
    parser.add_argument("--addr", default="127.0.0.1:50051", help="such as dns:///bridge:50051")
    parser.add_argument("--ca", type=pathlib.Path, help="use TLS, and trust this PEM file")
    parser.add_argument("--tenant", default="")
    parser.add_argument("--reason", type=int, help="200 to 250, or 0 for none")
    parser.add_argument("--prolong", action="store_true", help="replace the reason of a busy agent")
    parser.add_argument("--confirm-within", type=int, metavar="SECONDS")
    parser.add_argument("--deadline", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument(
        "--until", metavar="TYPE", help="change nothing, but watch until an event of this type comes"
    )
    parser.add_argument("--protos", type=pathlib.Path, default=ROOT / "proto")
    parser.add_argument(
        "--service-config", type=pathlib.Path, default=ROOT / "docs" / "service-config-with-ids.json"
    )
    return parser.parse_args()


# ANCHOR: connect
def connect(args: argparse.Namespace) -> grpc.Channel:
    # Spreads calls over the replicas that say they are healthy, and repeats what is UNAVAILABLE. That is
    # for changes with an id only: the library also repeats one whose connection was cut after it had left.
    options = [("grpc.service_config", args.service_config.read_text())]
    if args.ca is None:
        return grpc.insecure_channel(args.addr, options)
    credentials = grpc.ssl_channel_credentials(args.ca.read_bytes())
    return grpc.secure_channel(args.addr, credentials, options)
# ANCHOR_END: connect


def set_busy(args: argparse.Namespace, channel: grpc.Channel) -> str:
    messages, services = grpc.protos_and_services("ccgateway/agent/v1/agent_state.proto")

    request = messages.SetBusyRequest(agent_id=args.agent, tenant_id=args.tenant)
    # However often the request is sent with this id, the change is made once.
    request.request_id = str(uuid.uuid4())
    # Left out is not the same as 0 or false.
    if args.reason is not None:
        request.reason = args.reason
    if args.prolong:
        request.prolong = True
    if args.confirm_within is not None:
        request.confirm_within.CopyFrom(duration_pb2.Duration(seconds=args.confirm_within))

    answer = services.AgentStateStub(channel).SetBusy(request, timeout=args.deadline)
    if not answer.HasField("confirmation"):
        return answer.message
    status = messages.Confirmation.Status.Name(answer.confirmation.status)
    reason = messages.Confirmation.Reason.Name(answer.confirmation.reason)
    return f"{status}, {reason}"


def describe(error: grpc.RpcError) -> list[str]:
    lines = [f"{error.code().name}: {error.details()}"]
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        retry = error_details_pb2.RetryInfo()
        bad = error_details_pb2.BadRequest()
        unmet = error_details_pb2.PreconditionFailure()
        if detail.Unpack(info):
            if info.domain != DOMAIN:
                continue
            outcome = info.metadata["outcome"]
            if outcome not in OUTCOMES:
                outcome = "unknown"
            lines.append(f"  reason: {info.reason}")
            lines.append(f"  outcome: {outcome}, {OUTCOMES[outcome]}")
            if "retcode" in info.metadata:
                lines.append(f"  retcode: {info.metadata['retcode']}")
        elif detail.Unpack(retry):
            lines.append(f"  try again in: {retry.retry_delay.ToTimedelta().total_seconds():g} s")
        elif detail.Unpack(bad):
            lines += [f"  {field.field}: {field.description}" for field in bad.field_violations]
        elif detail.Unpack(unmet):
            lines += [f"  {violation.type} of {violation.subject}" for violation in unmet.violations]
    if not any(line.startswith("  outcome: ") for line in lines):
        # Nothing of the bridge's arrived, such as when the connection was cut. This is so whatever
        # the code is.
        lines.append(f"  outcome: unknown, {OUTCOMES['unknown']}")
    return lines


# ANCHOR: watch
def watch(args: argparse.Namespace, channel: grpc.Channel) -> None:
    messages, services = grpc.protos_and_services("ccgateway/agent/v1/agent_events.proto")
    request = messages.WatchEventsRequest(agent_ids=[args.agent], tenant_id=args.tenant)
    # Each stream ends with its connection.
    while True:
        try:
            for message in services.AgentEventsStub(channel).WatchEvents(request):
                is_first = not request.HasField("after_sequence")
                # Whatever kind of message it is, the next stream has to begin after it.
                request.after_sequence = message.sequence
                what = message.WhichOneof("what")
                if what == "begin" and is_first:
                    print("watching", flush=True)
                elif what == "gap":
                    print("events are missing: ask GetState", flush=True)
                elif what == "gateway_event":
                    print(f"event: {message.gateway_event.type_name}", flush=True)
                    if message.gateway_event.type_name == args.until:
                        return
            time.sleep(PAUSE)
        except grpc.RpcError as error:
            time.sleep(pause(error))


def pause(error: grpc.RpcError) -> float:
    """How long to wait before the watch goes on. Raises the error where that is of no use."""
    status = rpc_status.from_call(error)
    details = status.details if status else []
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    if not any(detail.Unpack(info) and info.domain == DOMAIN for detail in details):
        return PAUSE  # The connection broke.
    # Where the bridge refuses, it says when another attempt may help, if ever.
    if not any(detail.Unpack(retry) for detail in details):
        raise error
    return max(PAUSE, retry.retry_delay.ToTimedelta().total_seconds())
# ANCHOR_END: watch


def main() -> int:
    args = arguments()
    # Compiled from the contract as it is; a program of yours would rather bring generated code.
    sys.path.insert(0, str(args.protos))
    with connect(args) as channel:
        try:
            if args.until is not None:
                watch(args, channel)
            else:
                print(f"accepted: {set_busy(args, channel)}")
        except grpc.RpcError as error:
            print("\n".join(describe(error)))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
