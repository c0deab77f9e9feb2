// Makes an agent busy through ccgateway-bridge, and takes an error apart; or watches its events.
//
// Exit code: 0 for an answer, 1 for an error of the bridge's, 2 for a wrong command line.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import {
  type ChannelCredentials,
  type ClientOptions,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import {
  AgentEventsClient,
  WatchEventsRequest,
  type WatchEventsResponse,
} from "./gen/ccgateway/agent/v1/agent_events";
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

// The shortest pause before a watch goes on, in milliseconds.
const PAUSE = 250;

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
    until: { type: "string" },
    "service-config": { type: "string", default: "docs/service-config-with-ids.json" },
  },
});

// ANCHOR: connect
type ClientType<Client> = new (
  addr: string,
  channel: ChannelCredentials,
  options?: Partial<ClientOptions>,
) => Client;

function connect<Client>(type: ClientType<Client>): Client {
  const channel = args.ca
    ? credentials.createSsl(readFileSync(args.ca))
    : credentials.createInsecure();
  // Spreads calls over the replicas, and repeats what is UNAVAILABLE. That is for changes with an id
  // only: the library also repeats one whose connection was cut after it had left.
  return new type(args.addr, channel, {
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

function milliseconds({ retryDelay }: RetryInfo): number {
  return Number(retryDelay?.seconds ?? 0n) * 1000 + (retryDelay?.nanos ?? 0) / 1e6;
}

function describe(error: ServiceError): string[] {
  const lines = [`${status[error.code]}: ${error.details}`];
  const info = errorInfo(error);
  if (info) lines.push(`  reason: ${info.reason}`);
  lines.push(`  outcome: ${outcome(error)}, ${OUTCOMES[outcome(error)]}`);
  if (info?.metadata["retcode"]) lines.push(`  retcode: ${info.metadata["retcode"]}`);
  for (const retry of details(error, "google.rpc.RetryInfo", RetryInfo)) {
    lines.push(`  try again in: ${milliseconds(retry) / 1000} s`);
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

// ANCHOR: watch
async function watch(client: AgentEventsClient, agentId: string, until: string): Promise<void> {
  const request = WatchEventsRequest.fromPartial({ agentIds: [agentId], tenantId: args.tenant });
  // Each stream ends with its connection.
  for (;;) {
    try {
      if (await follow(client, request, until)) return;
      await sleep(PAUSE);
    } catch (error) {
      await sleep(pause(error as ServiceError));
    }
  }
}

// Follows one stream. Returns whether the event has come.
function follow(
  client: AgentEventsClient,
  request: WatchEventsRequest,
  until: string,
): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const stream = client.watchEvents(request);
    stream.on("data", ({ sequence, begin, gap, gatewayEvent }: WatchEventsResponse) => {
      if (begin && request.afterSequence === undefined) console.log("watching");
      // Whatever kind of message it is, the next stream has to begin after it.
      request.afterSequence = sequence;
      if (gap) console.log("events are missing: ask GetState");
      if (gatewayEvent) console.log(`event: ${gatewayEvent.typeName}`);
      if (gatewayEvent?.typeName === until) {
        resolve(true);
        stream.cancel();
      }
    });
    stream.on("end", () => resolve(false));
    stream.on("error", reject);
  });
}

// How long to wait before the watch goes on. Throws the error where that is of no use.
function pause(error: ServiceError): number {
  if (!errorInfo(error)) return PAUSE; // The connection broke.
  // Where the bridge refuses, it says when another attempt may help, if ever.
  const [retry] = details(error, "google.rpc.RetryInfo", RetryInfo);
  if (!retry) throw error;
  return Math.max(PAUSE, milliseconds(retry));
}
// ANCHOR_END: watch

async function makeBusy(client: AgentStateClient, agentId: string): Promise<void> {
  // What is left out is not sent, which is not the same as 0 or false.
  const request = SetBusyRequest.fromPartial({ agentId, tenantId: args.tenant });
  // However often the request is sent with this id, the change is made once.
  request.requestId = randomUUID();
  if (args.reason !== undefined) request.reason = Number(args.reason);
  if (args.prolong) request.prolong = true;
  if (args["confirm-within"] !== undefined) {
    request.confirmWithin = { seconds: BigInt(args["confirm-within"]), nanos: 0 };
  }
  const { message, confirmation } = await setBusy(client, request);
  if (confirmation) {
    const told = Confirmation_Status[confirmation.status];
    console.log(`accepted: ${told}, ${Confirmation_Reason[confirmation.reason]}`);
  } else {
    console.log(`accepted: ${message}`);
  }
}

async function main(): Promise<number> {
  const [agentId] = positionals;
  if (agentId === undefined || positionals.length > 1) {
    console.error("usage: set-busy [flags] AGENT");
    return 2;
  }
  const [events, states] = [connect(AgentEventsClient), connect(AgentStateClient)];
  try {
    if (args.until !== undefined) await watch(events, agentId, args.until);
    else await makeBusy(states, agentId);
    return 0;
  } catch (error) {
    console.log(describe(error as ServiceError).join("\n"));
    return 1;
  } finally {
    events.close();
    states.close();
  }
}

main().then((code) => (process.exitCode = code));
