#!/usr/bin/env python3
"""Makes an agent busy through ccgateway-bridge, and takes an error apart.

Exit code: 0 for an answer, 1 for an error of the bridge's, 2 for a wrong command line.
"""

import argparse
import pathlib
import sys
import uuid

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

ROOT = pathlib.Path(__file__).resolve().parents[3]

# Who says what is known of the agent. A proxy's error does not know it.
DOMAIN = "ccgateway-bridge"

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


def main() -> int:
    args = arguments()
    # Compiled from the contract as it is; a program of yours would rather bring generated code.
    sys.path.insert(0, str(args.protos))
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

    with connect(args) as channel:
        try:
            answer = services.AgentStateStub(channel).SetBusy(request, timeout=args.deadline)
        except grpc.RpcError as error:
            print("\n".join(describe(error)))
            return 1
    if answer.HasField("confirmation"):
        status = messages.Confirmation.Status.Name(answer.confirmation.status)
        reason = messages.Confirmation.Reason.Name(answer.confirmation.reason)
        print(f"accepted: {status}, {reason}")
    else:
        print(f"accepted: {answer.message}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
