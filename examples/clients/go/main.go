// Command set-busy makes an agent busy through ccgateway-bridge, and takes an error apart; or watches its events.
//
// Exit code: 0 for an answer, 1 for an error of the bridge's, 2 for a wrong command line.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // without it, the service config's healthCheckConfig does nothing
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "example.com/set-busy/gen/ccgateway/agent/v1"
)

// Who says what is known of the agent. A proxy's error does not know it.
const domain = "ccgateway-bridge"

// Before a watch goes on.
const shortestPause = 250 * time.Millisecond

// What the bridge knows of the agent after an error: whether trying again is safe.
var outcomes = map[string]string{
	"not_sent":    "the gateway was not asked; trying again is safe",
	"refused":     "the gateway said no; trying again is safe, but may not help",
	"not_applied": "the request was lost, and the agent is as it was; trying again is safe",
	"unknown":     "the agent may have changed; look before trying again",
}

type arguments struct {
	addr, ca, serviceConfig, until string
	deadline                       time.Duration
	request                        *agentv1.SetBusyRequest
}

func main() {
	if err := run(parse()); err != nil {
		describe(status.Convert(err))
		os.Exit(1)
	}
}

func run(args arguments) error {
	if args.until != "" {
		return watch(args)
	}
	answer, err := setBusy(args)
	if err != nil {
		return err
	}
	if confirmation := answer.GetConfirmation(); confirmation != nil {
		fmt.Printf("accepted: %s, %s\n", confirmation.GetStatus(), confirmation.GetReason())
	} else {
		fmt.Printf("accepted: %s\n", answer.GetMessage())
	}
	return nil
}

func parse() arguments {
	// However often the request is sent with this id, the change is made once.
	args := arguments{request: &agentv1.SetBusyRequest{RequestId: newID()}}
	flag.StringVar(&args.addr, "addr", "127.0.0.1:50051", "such as dns:///bridge:50051")
	flag.StringVar(&args.ca, "ca", "", "use TLS, and trust this PEM `file`")
	flag.DurationVar(&args.deadline, "deadline", 5*time.Second, "for the call")
	flag.StringVar(&args.serviceConfig, "service-config", "docs/service-config-with-ids.json", "`file`")
	flag.StringVar(&args.until, "until", "", "change nothing, but watch until an event of this `type` comes")
	flag.StringVar(&args.request.TenantId, "tenant", "", "may be left out where there is one only")
	// Left out is not the same as 0 or false: what is not given is not sent.
	flag.Func("reason", "200 to 250, or 0 for none", func(given string) error {
		reason, err := strconv.ParseInt(given, 10, 32)
		args.request.Reason = proto.Int32(int32(reason))
		return err
	})
	prolong := flag.Bool("prolong", false, "replace the reason of a busy agent")
	confirmWithin := flag.Duration("confirm-within", 0, "wait for the event that says so")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: set-busy [flags] AGENT")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	args.request.AgentId = flag.Arg(0)
	if *prolong {
		args.request.Prolong = prolong
	}
	if *confirmWithin != 0 {
		args.request.ConfirmWithin = durationpb.New(*confirmWithin)
	}
	return args
}

// ANCHOR: call

func setBusy(args arguments) (*agentv1.SetBusyResponse, error) {
	connection := connect(args)
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), args.deadline)
	defer cancel()
	return agentv1.NewAgentStateClient(connection).SetBusy(ctx, args.request)
}

// ANCHOR_END: call

// ANCHOR: connect

func connect(args arguments) *grpc.ClientConn {
	transport := insecure.NewCredentials()
	if args.ca != "" {
		var err error
		transport, err = credentials.NewClientTLSFromFile(args.ca, "")
		exitOn(err)
	}
	config, err := os.ReadFile(args.serviceConfig)
	exitOn(err)
	// Spreads calls over the replicas that say they are healthy, and repeats what is UNAVAILABLE. That is
	// for changes with an id only: the library also repeats one whose connection was cut after it had left.
	connection, err := grpc.NewClient(args.addr,
		grpc.WithTransportCredentials(transport), grpc.WithDefaultServiceConfig(string(config)))
	exitOn(err)
	return connection
}

// ANCHOR_END: connect

// ANCHOR: outcome

func describe(failure *status.Status) {
	fmt.Printf("%s: %s\n", code.Code(failure.Code()), failure.Message())
	told := false
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() != domain {
				continue
			}
			told = true
			outcome := detail.GetMetadata()["outcome"]
			if _, known := outcomes[outcome]; !known {
				outcome = "unknown"
			}
			fmt.Printf("  reason: %s\n", detail.GetReason())
			fmt.Printf("  outcome: %s, %s\n", outcome, outcomes[outcome])
			if retcode, refused := detail.GetMetadata()["retcode"]; refused {
				fmt.Printf("  retcode: %s\n", retcode)
			}
		case *errdetails.RetryInfo:
			fmt.Printf("  try again in: %g s\n", detail.GetRetryDelay().AsDuration().Seconds())
		case *errdetails.BadRequest:
			for _, field := range detail.GetFieldViolations() {
				fmt.Printf("  %s: %s\n", field.GetField(), field.GetDescription())
			}
		case *errdetails.PreconditionFailure:
			for _, violation := range detail.GetViolations() {
				fmt.Printf("  %s of %s\n", violation.GetType(), violation.GetSubject())
			}
		}
	}
	if !told {
		// Nothing of the bridge's arrived, such as when the connection was cut. This is so whatever
		// the code is.
		fmt.Printf("  outcome: unknown, %s\n", outcomes["unknown"])
	}
}

// ANCHOR_END: outcome

// ANCHOR: watch

func watch(args arguments) error {
	connection := connect(args)
	defer connection.Close()
	events := agentv1.NewAgentEventsClient(connection)
	agents := []string{args.request.GetAgentId()}
	request := &agentv1.WatchEventsRequest{AgentIds: agents, TenantId: args.request.GetTenantId()}
	// Each stream ends with its connection.
	for {
		seen, err := follow(events, request, args.until)
		if seen {
			return nil
		}
		pause := pauseAfter(err)
		if pause < 0 {
			return err
		}
		time.Sleep(pause)
	}
}

// follow follows one stream. It returns whether the event has come.
func follow(events agentv1.AgentEventsClient, request *agentv1.WatchEventsRequest, until string) (bool, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := events.WatchEvents(ctx, request)
	if err != nil {
		return false, err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return false, err
		}
		first := request.AfterSequence == nil
		// Whatever kind of message it is, the next stream has to begin after it.
		request.AfterSequence = proto.Uint64(message.GetSequence())
		switch what := message.GetWhat().(type) {
		case *agentv1.WatchEventsResponse_Begin:
			if first {
				fmt.Println("watching")
			}
		case *agentv1.WatchEventsResponse_Gap:
			fmt.Println("events are missing: ask GetState")
		case *agentv1.WatchEventsResponse_GatewayEvent:
			fmt.Printf("event: %s\n", what.GatewayEvent.GetTypeName())
			if what.GatewayEvent.GetTypeName() == until {
				return true, nil
			}
		}
	}
}

// pauseAfter says how long to wait before the watch goes on; a negative time is for ever.
func pauseAfter(err error) time.Duration {
	told, pause := false, time.Duration(-1)
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			told = told || detail.GetDomain() == domain
		case *errdetails.RetryInfo:
			// Where the bridge refuses, it says when another attempt may help, if ever.
			if pause = detail.GetRetryDelay().AsDuration(); pause < shortestPause {
				pause = shortestPause
			}
		}
	}
	if !told {
		return shortestPause // The connection broke, or the stream is over.
	}
	return pause
}

// ANCHOR_END: watch

// newID makes a UUID, version 4.
func newID() string {
	id := make([]byte, 16)
	_, err := rand.Read(id)
	exitOn(err)
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
