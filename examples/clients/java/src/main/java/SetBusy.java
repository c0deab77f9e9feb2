import ccgateway.agent.v1.AgentEventsGrpc;
import ccgateway.agent.v1.AgentStateGrpc;
import ccgateway.agent.v1.Confirmation;
import ccgateway.agent.v1.SetBusyRequest;
import ccgateway.agent.v1.SetBusyResponse;
import ccgateway.agent.v1.WatchEventsRequest;
import ccgateway.agent.v1.WatchEventsResponse;
import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.PreconditionFailure;
import com.google.rpc.RetryInfo;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.StatusProto;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/**
 * Makes an agent busy through ccgateway-bridge, and takes an error apart; or watches its events.
 *
 * <p>Exit code: 0 for an answer, 1 for an error of the bridge's, 2 for a wrong command line.
 */
public final class SetBusy {
    /** Who says what is known of the agent. A proxy's error does not know it. */
    private static final String DOMAIN = "ccgateway-bridge";

    /** What the bridge knows of the agent after an error: whether trying again is safe. */
    private static final Map<String, String> OUTCOMES = Map.of(
            "not_sent", "the gateway was not asked; trying again is safe",
            "not_applied", "the request was lost, and the agent is as it was; trying again is safe",
            "refused", "the gateway said no; trying again is safe, but may not help",
            "unknown", "the agent may have changed; look before trying again");

    /** The shortest pause before a watch goes on, in milliseconds. */
    private static final long PAUSE = 250;

    private SetBusy() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> given = new HashMap<>();
        SetBusyRequest.Builder request = SetBusyRequest.newBuilder();
        // However often the request is sent with this id, the change is made once.
        request.setRequestId(UUID.randomUUID().toString());
        if (!parse(arguments, given, request)) {
            System.err.println("usage: SetBusy [--addr TARGET] [--ca FILE] [--tenant NAME]"
                    + " [--reason NUMBER] [--prolong] [--confirm-within SECONDS]"
                    + " [--deadline SECONDS] [--service-config FILE] [--until TYPE] AGENT");
            System.exit(2);
        }
        long deadline = (long) (Double.parseDouble(given.getOrDefault("deadline", "5")) * 1000);
        ManagedChannel channel = connect(given);
        try {
            if (given.containsKey("until")) {
                watch(channel, request.build(), given.get("until"));
            } else {
                show(setBusy(channel, request.build(), deadline));
            }
        } catch (StatusRuntimeException error) {
            System.out.println(String.join("\n", describe(error)));
            System.exit(1);
        } finally {
            channel.shutdownNow();
        }
    }

    private static void show(SetBusyResponse answer) {
        if (answer.hasConfirmation()) {
            Confirmation confirmation = answer.getConfirmation();
            System.out.printf("accepted: %s, %s%n", confirmation.getStatus(), confirmation.getReason());
        } else {
            System.out.printf("accepted: %s%n", answer.getMessage());
        }
    }

    private static boolean parse(
            String[] arguments, Map<String, String> given, SetBusyRequest.Builder request) {
        List<String> agents = new ArrayList<>();
        Deque<String> left = new ArrayDeque<>(List.of(arguments));
        while (!left.isEmpty()) {
            String word = left.pop();
            if (word.equals("--prolong")) {
                request.setProlong(true);
            } else if (word.startsWith("--")) {
                if (left.isEmpty()) return false;
                given.put(word.substring(2), left.pop());
            } else {
                agents.add(word);
            }
        }
        if (agents.size() != 1) return false;
        request.setAgentId(agents.get(0)).setTenantId(given.getOrDefault("tenant", ""));
        // What is left out is not sent, which is not the same as 0 or false.
        if (given.containsKey("reason")) request.setReason(Integer.parseInt(given.get("reason")));
        if (given.containsKey("confirm-within")) {
            long seconds = Long.parseLong(given.get("confirm-within"));
            request.setConfirmWithin(Duration.newBuilder().setSeconds(seconds));
        }
        return true;
    }

    // ANCHOR: connect
    private static ManagedChannel connect(Map<String, String> given) throws IOException {
        NettyChannelBuilder channel =
                NettyChannelBuilder.forTarget(given.getOrDefault("addr", "127.0.0.1:50051"));
        if (given.containsKey("ca")) {
            File ca = new File(given.get("ca"));
            channel.sslContext(GrpcSslContexts.forClient().trustManager(ca).build());
        } else {
            channel.usePlaintext();
        }
        String file = given.getOrDefault("service-config", "docs/service-config-with-ids.json");
        // Spreads calls over the replicas, and repeats what is UNAVAILABLE. That is for changes with an
        // id only: the library also repeats one whose connection was cut after it had left.
        Map<String, ?> config = new Gson().fromJson(
                Files.readString(Path.of(file)), new TypeToken<Map<String, Object>>() {}.getType());
        return channel.defaultServiceConfig(config).build();
    }
    // ANCHOR_END: connect

    // ANCHOR: call
    private static SetBusyResponse setBusy(
            ManagedChannel channel, SetBusyRequest request, long milliseconds) {
        return AgentStateGrpc.newBlockingStub(channel)
                .withDeadlineAfter(milliseconds, TimeUnit.MILLISECONDS)
                .setBusy(request);
    }
    // ANCHOR_END: call

    // ANCHOR: outcome
    /** The bridge's own word for what has become of the call; empty where the error is not the bridge's. */
    private static Optional<ErrorInfo> errorInfo(StatusRuntimeException error) {
        return details(error, ErrorInfo.class).stream()
                .filter(info -> info.getDomain().equals(DOMAIN))
                .findFirst();
    }

    private static String outcome(StatusRuntimeException error) {
        return errorInfo(error)
                .map(info -> info.getMetadataOrDefault("outcome", "unknown"))
                .filter(OUTCOMES::containsKey)
                .orElse("unknown");
    }

    private static <T extends Message> List<T> details(StatusRuntimeException error, Class<T> type) {
        List<T> found = new ArrayList<>();
        com.google.rpc.Status status = StatusProto.fromThrowable(error);
        if (status == null) return found;
        for (Any any : status.getDetailsList()) {
            try {
                if (any.is(type)) found.add(any.unpack(type));
            } catch (InvalidProtocolBufferException unreadable) {
                // As good as none: without an ErrorInfo the outcome is unknown.
            }
        }
        return found;
    }
    // ANCHOR_END: outcome

    // ANCHOR: watch
    private static void watch(ManagedChannel channel, SetBusyRequest of, String until)
            throws InterruptedException {
        WatchEventsRequest.Builder request = WatchEventsRequest.newBuilder()
                .addAgentIds(of.getAgentId())
                .setTenantId(of.getTenantId());
        // Each stream ends with its connection.
        while (true) {
            long pause = PAUSE;
            try {
                if (follow(channel, request, until)) return;
            } catch (StatusRuntimeException error) {
                pause = pause(error);
            }
            Thread.sleep(pause);
        }
    }

    /** Follows one stream. Returns whether the event has come. */
    private static boolean follow(
            ManagedChannel channel, WatchEventsRequest.Builder request, String until) {
        Iterator<WatchEventsResponse> messages =
                AgentEventsGrpc.newBlockingStub(channel).watchEvents(request.build());
        while (messages.hasNext()) {
            WatchEventsResponse message = messages.next();
            boolean isFirst = !request.hasAfterSequence();
            // Whatever kind of message it is, the next stream has to begin after it.
            request.setAfterSequence(message.getSequence());
            if (message.hasBegin() && isFirst) System.out.println("watching");
            if (message.hasGap()) System.out.println("events are missing: ask GetState");
            if (message.hasGatewayEvent()) {
                String type = message.getGatewayEvent().getTypeName();
                System.out.println("event: " + type);
                if (type.equals(until)) return true;
            }
        }
        return false;
    }

    /** How many milliseconds to wait before the watch goes on. Throws the error where that is of no use. */
    private static long pause(StatusRuntimeException error) {
        if (errorInfo(error).isEmpty()) return PAUSE; // The connection broke.
        // Where the bridge refuses, it says when another attempt may help, if ever.
        return details(error, RetryInfo.class).stream()
                .map(retry -> Math.max(PAUSE, milliseconds(retry)))
                .findFirst()
                .orElseThrow(() -> error);
    }

    private static long milliseconds(RetryInfo retry) {
        Duration delay = retry.getRetryDelay();
        return delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000;
    }
    // ANCHOR_END: watch

    private static List<String> describe(StatusRuntimeException error) {
        List<String> lines = new ArrayList<>();
        lines.add(error.getStatus().getCode() + ": " + error.getStatus().getDescription());
        Optional<ErrorInfo> info = errorInfo(error);
        info.ifPresent(told -> lines.add("  reason: " + told.getReason()));
        String outcome = outcome(error);
        lines.add("  outcome: " + outcome + ", " + OUTCOMES.get(outcome));
        info.map(told -> told.getMetadataMap().get("retcode"))
                .ifPresent(retcode -> lines.add("  retcode: " + retcode));
        for (RetryInfo retry : details(error, RetryInfo.class)) {
            lines.add("  try again in: " + milliseconds(retry) / 1e3 + " s");
        }
        for (BadRequest bad : details(error, BadRequest.class)) {
            bad.getFieldViolationsList().forEach(
                    field -> lines.add("  " + field.getField() + ": " + field.getDescription()));
        }
        for (PreconditionFailure unmet : details(error, PreconditionFailure.class)) {
            unmet.getViolationsList().forEach(
                    violation -> lines.add("  " + violation.getType() + " of " + violation.getSubject()));
        }
        return lines;
    }
}
