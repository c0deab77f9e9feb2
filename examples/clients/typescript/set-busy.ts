// Makes an agent busy through ccgateway-bridge, and takes an error apart.
//
// Exit code: 0 for an answer, 1 for an error of the bridge's, 2 for a wrong command line.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { credentials, Metadata, status, type ServiceError } from "@grpc/grpc-js";
import {
  AgentStateClient,
  Confirmation_Reason,
  Confirmation_Status,
  SetBusyRequest,
  type SetBusyResponse,
} from "./gen/ccgateway/agent/v1/agent_state";
import {
  BadRequest,
  ErrorInfo,
  PreconditionFailure,
  RetryInfo,
} from "./gen/google/rpc/error_details";
import { Status } from "./gen/google/rpc/status";

// Who says what is known of the agent. A proxy's error does not know it.
const DOMAIN = "ccgateway-bridge";

// What the bridge knows of the agent after an error: whether trying again is safe.
const OUTCOMES: Record<string, string> = {
  not_sent: "the gateway was not asked; trying again is safe",
  not_applied: "the request was lost, and the agent is as it was; trying again is safe",
  refused: "the gateway said no; trying again is safe, but may not help",
  unknown: "the agent may have changed; look before trying again",
};

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    addr: { type: "string", default: "127.0.0.1:50051" },
    ca: { type: "string" },
    tenant: { type: "string", default: "" },
    reason: { type: "string" },
    prolong: { type: "boolean" },
    "confirm-within": { type: "string" },
    deadline: { type: "string", default: "5" },
    "service-config": { type: "string", default: "docs/service-config-with-ids.json" },
  },
});

// ANCHOR: connect
function connect(): AgentStateClient {
  const channel = args.ca
    ? credentials.createSsl(readFileSync(args.ca))
    : credentials.createInsecure();
  // Spreads calls over the replicas, and repeats what is UNAVAILABLE. That is for changes with an id
  // only: the library also repeats one whose connection was cut after it had left.
  return new AgentStateClient(args.addr, channel, {
    "grpc.service_config": readFileSync(args["service-config"], "utf8"),
  });
}
// ANCHOR_END: connect

// ANCHOR: call
function setBusy(client: AgentStateClient, request: SetBusyRequest): Promise<SetBusyResponse> {
  const deadline = new Date(Date.now() + Number(args.deadline) * 1000);
  return new Promise((resolve, reject) => {
    client.setBusy(request, new Metadata(), { deadline }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}
// ANCHOR_END: call

// ANCHOR: outcome
// The bridge's own word for what has become of the call. `undefined`: the error is not the bridge's.
function errorInfo(error: ServiceError): ErrorInfo | undefined {
  return details(error, "google.rpc.ErrorInfo", ErrorInfo).find((info) => info.domain === DOMAIN);
}

function outcome(error: ServiceError): string {
  const told = errorInfo(error)?.metadata["outcome"] ?? "unknown";
  return told in OUTCOMES ? told : "unknown";
}

function details<T>(
  error: ServiceError,
  name: string,
  type: { decode(bytes: Uint8Array): T },
): T[] {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  if (!(bytes instanceof Uint8Array)) return [];
  const found = Status.decode(bytes).details.filter((any) => any.typeUrl.endsWith(`/${name}`));
  return found.map((any) => type.decode(any.value));
}
// ANCHOR_END: outcome

function describe(error: ServiceError): string[] {
  const lines = [`${status[error.code]}: ${error.details}`];
  const info = errorInfo(error);
  if (info) lines.push(`  reason: ${info.reason}`);
  lines.push(`  outcome: ${outcome(error)}, ${OUTCOMES[outcome(error)]}`);
  if (info?.metadata["retcode"]) lines.push(`  retcode: ${info.metadata["retcode"]}`);
  for (const { retryDelay } of details(error, "google.rpc.RetryInfo", RetryInfo)) {
    const seconds = Number(retryDelay?.seconds ?? 0n) + (retryDelay?.nanos ?? 0) / 1e9;
    lines.push(`  try again in: ${seconds} s`);
  }
  for (const { fieldViolations } of details(error, "google.rpc.BadRequest", BadRequest)) {
    lines.push(...fieldViolations.map(({ field, description }) => `  ${field}: ${description}`));
  }
  const unmet = details(error, "google.rpc.PreconditionFailure", PreconditionFailure);
  for (const { violations } of unmet) {
    lines.push(...violations.map(({ type, subject }) => `  ${type} of ${subject}`));
  }
  return lines;
}

async function main(): Promise<number> {
  const [agentId] = positionals;
  if (agentId === undefined || positionals.length > 1) {
    console.error("usage: set-busy [flags] AGENT");
    return 2;
  }
  // What is left out is not sent, which is not the same as 0 or false.
  const request = SetBusyRequest.fromPartial({ agentId, tenantId: args.tenant });
  // However often the request is sent with this id, the change is made once.
  request.requestId = randomUUID();
  if (args.reason !== undefined) request.reason = Number(args.reason);
  if (args.prolong) request.prolong = true;
  if (args["confirm-within"] !== undefined) {
    request.confirmWithin = { seconds: BigInt(args["confirm-within"]), nanos: 0 };
  }
  const client = connect();
  try {
    const { message, confirmation } = await setBusy(client, request);
    if (confirmation) {
      const told = Confirmation_Status[confirmation.status];
      console.log(`accepted: ${told}, ${Confirmation_Reason[confirmation.reason]}`);
    } else {
      console.log(`accepted: ${message}`);
    }
    return 0;
  } catch (error) {
    console.log(describe(error as ServiceError).join("\n"));
    return 1;
  } finally {
    client.close();
  }
}

main().then((code) => (process.exitCode = code));
