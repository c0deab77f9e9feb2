use tonic::Code;

use super::{
    Details::{self, BadRequest, Precondition, Quota, Resource},
    Reason,
    Retry::{After, AfterDeadline, No},
};
use crate::call::Outcome::{NotApplied, NotSent, Refused, Unknown};

const NONE: Details = Details::None;

/// Defines a constant for each row, and `ALL` in the order of the rows.
macro_rules! reasons {
    ($($name:ident $code:ident $outcomes:tt $retry:ident $details:expr, $advice:literal;)+) => {
        $(
            #[doc = concat!("`", stringify!($name), "`.")]
            pub static $name: Reason = Reason {
                name: stringify!($name),
                code: Code::$code,
                outcomes: &$outcomes,
                retry: $retry,
                details: $details,
                advice: $advice,
            };
        )+

        /// Every reason, by code.
        pub static ALL: &[&Reason] = &[$(&$name),+];
    };
}

#[rustfmt::skip] // one row a line, so that the table reads as a table
reasons! {
    INVALID_REQUEST            InvalidArgument    [NotSent]                    No            BadRequest,                   "correct the fields that are named";
    GATEWAY_REJECTED_PARAMETER InvalidArgument    [Refused]                    No            NONE,                         "correct the request";
    REQUEST_ID_REUSED          InvalidArgument    [NotSent]                    No            NONE,                         "make a new id for each change, and send it again only with the same request";
    MESSAGE_MALFORMED          InvalidArgument    [NotSent]                    No            NONE,                         "send one whole message; compare the caller's proto with the bridge's";
    MESSAGE_TOO_LARGE          InvalidArgument    [NotSent]                    No            NONE,                         "send a smaller message";
    NOT_GRPC                   InvalidArgument    [NotSent]                    No            NONE,                         "use a gRPC client";
    CALLER_UNKNOWN             Unauthenticated    [NotSent]                    No            NONE,                         "show a certificate or a token that this listener takes";
    CALLER_NOT_ALLOWED         PermissionDenied   [NotSent]                    No            NONE,                         "ask the operators of the bridge for the right";
    TENANT_UNKNOWN             NotFound           [NotSent]                    No            Resource("tenant"),           "check tenant_id";
    SESSION_NOT_FOUND          NotFound           [NotSent]                    No            Resource("session"),          "sign the agent in, or register its Guid";
    REQUEST_ID_UNKNOWN         NotFound           [NotSent]                    No            NONE,                         "send the change again with the same request_id";
    AGENT_ALREADY_SIGNED_IN    AlreadyExists      [Refused]                    No            NONE,                         "register its Guid, or sign in with force to take the agent over";
    SESSION_MISSING            FailedPrecondition [NotSent, Refused]           No            Precondition("SESSION"),      "sign the agent in, or register its Guid";
    SESSION_EXPIRED            FailedPrecondition [Refused]                    No            Precondition("SESSION"),      "sign the agent in again or register its new Guid";
    AGENT_NOT_SIGNED_IN        FailedPrecondition [Refused]                    No            Precondition("SIGNED_IN"),    "sign the agent in first";
    AGENT_STATE_REFUSED        FailedPrecondition [Refused]                    No            Precondition("AGENT_STATE"),  "check its state with GetState, and whether it has the right";
    AGENT_TAKEN_OVER           FailedPrecondition [NotSent, Refused]           No            Precondition("SESSION"),      "stop the other client, or take the agent over with SignIn and force";
    FORCE_NOT_ALLOWED          FailedPrecondition [Refused]                    No            Precondition("SIGNED_OUT"),   "sign the agent out where it is signed in, or register its Guid";
    CREDENTIALS_MISSING        FailedPrecondition [NotSent]                    No            Precondition("CREDENTIALS"),  "send the password";
    CREDENTIALS_REJECTED       FailedPrecondition [Refused]                    No            Precondition("CREDENTIALS"),  "correct the agent's password before trying again";
    ACCOUNT_LOCKED             FailedPrecondition [Refused]                    No            Precondition("CREDENTIALS"),  "ask the operators of the platform to unlock the account";
    SIGN_IN_WITHOUT_GUID       FailedPrecondition [NotSent, Refused]           No            Precondition("SESSION"),      "ask the operators of the bridge: a proxy may remove Set-GUID, and a gateway without Guids needs auth_mode = \"none\"";
    OPERATION_IN_PROGRESS      Aborted            [Refused]                    After         NONE,                         "another call for this agent was open; try again";
    TENANT_OVERLOADED          ResourceExhausted  [NotSent, Refused]           After         Quota,                        "try again shortly";
    TENANT_LIMIT_REACHED       ResourceExhausted  [NotSent, Refused]           No            Quota,                        "end what is not needed, or ask for a higher limit";
    SERVER_OVERLOADED          ResourceExhausted  [NotSent]                    After         Quota,                        "try again shortly";
    SIGN_INS_QUEUED            ResourceExhausted  [NotSent, Refused]           AfterDeadline NONE,                         "the agent keeps its place in the queue: try again after that time";
    GATEWAY_UNREACHABLE        Unavailable        [NotSent, Refused]           After         NONE,                         "try again shortly; if it persists, call the operators of the gateway";
    AGENT_SWITCHOVER           Unavailable        [Refused]                    After         NONE,                         "try again when the switch-over is done";
    PLATFORM_UNAVAILABLE       Unavailable        [Refused]                    After         NONE,                         "try again later";
    GATEWAY_BUSY               Unavailable        [Refused]                    After         NONE,                         "the request was not carried out: try again after that time";
    STORE_UNAVAILABLE          Unavailable        [NotSent, Refused]           After         NONE,                         "try again shortly";
    SESSION_GUID_LOST          Unavailable        [NotSent, Refused]           After         NONE,                         "try again after that time, or end the lost session with SignIn and force";
    ISSUER_UNAVAILABLE         Unavailable        [NotSent]                    After         NONE,                         "try again after that time";
    SHUTTING_DOWN              Unavailable        [NotSent, Refused]           After         NONE,                         "try again at once";
    CONNECTION_AGED            Unavailable        [NotSent]                    After         NONE,                         "open a new connection, and continue a watch after its last sequence";
    STREAM_IDLE                Unavailable        [NotSent]                    After         NONE,                         "open another stream when there is something to ask";
    CHANGE_NOT_APPLIED         Unavailable        [NotApplied]                 After         NONE,                         "the request was lost and the agent is as it was: try again";
    DEADLINE                   DeadlineExceeded   [NotSent, Refused, Unknown]  No            NONE,                         "check the outcome, and give the call more time";
    GATEWAY_NO_ANSWER          Unknown            [Unknown]                    No            NONE,                         "the agent may have changed: look before trying again";
    GATEWAY_PROXY_FAILED       Unknown            [Unknown]                    No            NONE,                         "a proxy sent this answer, and the gateway may have acted: look before trying again";
    UNLISTED_RETCODE           Unknown            [Refused]                    No            NONE,                         "ask the operators of the gateway what the retcode means; the operator of the bridge can give it a reason under [retcodes]";
    REQUEST_BROKEN_OFF         Cancelled          [NotSent]                    No            NONE,                         "send the whole request";
    INTERFACE_NOT_IN_EDITION   Unimplemented      [NotSent, Refused]           No            NONE,                         "check the tenant's edition";
    METHOD_UNKNOWN             Unimplemented      [NotSent]                    No            NONE,                         "compare the caller's proto with the bridge's";
    COMPRESSION_UNSUPPORTED    Unimplemented      [NotSent]                    No            NONE,                         "compress it with gzip, or not at all";
    HTTP2_REFUSED              Internal           [NotSent]                    No            NONE,                         "keep within the limits of HTTP/2";
    GATEWAY_OPERATION_FAILED   Internal           [Refused]                    No            NONE,                         "ask the operators of the gateway";
    GATEWAY_INTERFACE_MISSING  Internal           [Refused]                    No            NONE,                         "there is no such interface: check the tenant's base_urls; an older gateway may not have it";
    GATEWAY_HTTP_STATUS        Internal           [Unknown]                    No            NONE,                         "check the tenant's base_urls; the agent may have changed: look before trying again";
    GATEWAY_BAD_REPLY          Internal           [Unknown]                    No            NONE,                         "the agent may have changed: look before trying again";
    BRIDGE_FAILED              Internal           [Unknown]                    No            NONE,                         "the agent may have changed: look before trying again";
}
