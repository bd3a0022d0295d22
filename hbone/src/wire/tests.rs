use std::error::Error;

use http::HeaderName;
use proptest::prelude::*;

use super::*;

/// Every variant; the match makes a new one fail to compile here.
fn rejections() -> Vec<Rejection> {
    use Rejection::*;
    match NotConnect {
        NotConnect
        | MalformedAuthority(_)
        | MalformedHead(_)
        | DestinationMismatch
        | Denied(_)
        | UnknownDestination
        | UpstreamUnreachable
        | UpstreamTimeout
        | Overloaded
        | Draining => {}
    }
    let faults = head_faults().into_iter().map(MalformedHead);
    let rest = [
        NotConnect,
        MalformedAuthority(AuthorityError::PortMissing),
        DestinationMismatch,
        Denied(DeniedStatus::Unauthorized),
        Denied(DeniedStatus::Forbidden),
        UnknownDestination,
        UpstreamUnreachable,
        UpstreamTimeout,
        Overloaded,
        Draining,
    ];
    faults.chain(rest).collect()
}

fn head_faults() -> Vec<HeadFault> {
    use HeadFault::*;
    match Host {
        Protocol
        | SchemeOrPath
        | AuthorityMissing
        | Host
        | ContentLength
        | ConnectionSpecific { .. }
        | TooManyFields { .. }
        | TooLarge { .. } => {}
    }
    vec![
        Protocol,
        SchemeOrPath,
        AuthorityMissing,
        Host,
        ContentLength,
        ConnectionSpecific {
            name: HeaderName::from_static("upgrade"),
        },
        TooManyFields { count: 200, limit: 128 },
        TooLarge {
            bytes: 20_000,
            limit: 16_384,
        },
    ]
}

fn reset_reasons() -> [ResetReason; 7] {
    use ResetReason::*;
    match Finished {
        Finished | Aborted | Cancelled | Refused | ProtocolViolation | Flooded | Internal => {}
    }
    [
        Finished,
        Aborted,
        Cancelled,
        Refused,
        ProtocolViolation,
        Flooded,
        Internal,
    ]
}

#[test]
fn statuses_are_those_of_the_reference_proxy() {
    for rejection in rejections() {
        let status = match rejection {
            Rejection::Denied(DeniedStatus::Unauthorized) => 401,
            Rejection::Denied(DeniedStatus::Forbidden) => 403,
            Rejection::UnknownDestination
            | Rejection::UpstreamUnreachable
            | Rejection::UpstreamTimeout
            | Rejection::Overloaded
            | Rejection::Draining => 503,
            _ => 400,
        };
        assert_eq!(rejection.status(), status, "{rejection}");
        assert_eq!(rejection.to_response().status(), status, "{rejection}");
        assert!(rejection.to_response().headers().is_empty(), "{rejection}");
    }
}

#[test]
fn a_client_reads_back_what_a_server_rejected() {
    for rejection in rejections() {
        let refusal = Refusal::from(rejection.status());
        let (kind, blame) = match rejection.blame() {
            Blame::Peer if matches!(rejection, Rejection::Denied(_)) => (RefusalKind::Denied, Blame::Local),
            // The one reason for which both ends point at each other: the status does not tell it
            // from an outage.
            Blame::Peer if rejection == Rejection::UnknownDestination => (RefusalKind::Unavailable, Blame::Peer),
            Blame::Peer => (RefusalKind::Malformed, Blame::Local),
            Blame::Local | Blame::Network => (RefusalKind::Unavailable, Blame::Peer),
        };
        assert_eq!((refusal.kind(), refusal.blame()), (kind, blame), "{rejection}");
        assert_eq!(refusal.is_retry_safe(), kind == RefusalKind::Unavailable, "{rejection}");
    }
}

#[test]
fn a_client_reads_the_statuses_of_both_reference_peers() {
    use RefusalKind::*;
    let table = [
        (400, Malformed, Blame::Local, false),
        (401, Denied, Blame::Local, false),
        (403, Denied, Blame::Local, false),
        (404, UnknownDestination, Blame::Local, false),
        (408, Timeout, Blame::Network, true),
        (429, Overloaded, Blame::Peer, true),
        (431, Malformed, Blame::Local, false),
        (500, Unexpected, Blame::Peer, false),
        (502, Unavailable, Blame::Peer, true),
        (503, Unavailable, Blame::Peer, true),
        (504, Timeout, Blame::Network, true),
        (302, Unexpected, Blame::Peer, false),
    ];
    for (status, kind, blame, retry) in table {
        let refusal = Refusal::from(StatusCode::from_u16(status).unwrap());
        assert_eq!(refusal.status(), status);
        assert_eq!(refusal.kind(), kind, "{status}");
        assert_eq!(refusal.blame(), blame, "{status}");
        assert_eq!(refusal.is_retry_safe(), retry, "{status}");
        assert_grammar(&refusal);
    }
}

#[test]
fn every_reset_reason_survives_the_wire() {
    for reason in reset_reasons() {
        let reset = Reset::from(ErrorCode::from(u32::from(reason.code())));
        assert_eq!(reset.reason(), reason);
        assert_eq!(reset.code(), reason.code());
    }
}

#[test]
fn codes_are_those_of_the_standard() {
    let codes = reset_reasons().map(|reason| u32::from(reason.code()));
    assert_eq!(codes, [0x0, 0xa, 0x8, 0x7, 0x1, 0xb, 0x2]);
    for code in 0..=0xd {
        let ours = ErrorCode::from(code);
        assert_eq!(ours.to_string(), format!("{:?}", h2::Reason::from(code)));
    }
    assert_eq!(ErrorCode::from(0xe).to_string(), "0xe");
}

#[test]
fn only_a_refused_stream_is_retry_safe() {
    for code in 0..=0xff {
        let reset = Reset::from(ErrorCode::from(code));
        assert_eq!(reset.is_retry_safe(), code == 0x7, "{reset}");
    }
}

#[test]
fn a_reset_is_never_an_end_of_file() {
    for reason in reset_reasons() {
        let reset = Reset::from(reason.code());
        let error = io::Error::from(reset);
        let source = error.get_ref().and_then(|source| source.downcast_ref::<Reset>());
        assert_eq!(source, Some(&reset));
        let kind = match reason {
            ResetReason::Finished => io::ErrorKind::UnexpectedEof,
            ResetReason::Aborted => io::ErrorKind::ConnectionReset,
            ResetReason::Refused => io::ErrorKind::ConnectionRefused,
            _ => io::ErrorKind::ConnectionAborted,
        };
        assert_eq!(error.kind(), kind, "{reset}");
    }
}

#[test]
fn a_reset_in_place_of_a_status_tells_no_less_about_retrying() {
    for rejection in rejections() {
        let retry = Reset::from(rejection.reset_reason().code()).is_retry_safe();
        let untouched = matches!(rejection, Rejection::Overloaded | Rejection::Draining);
        assert_eq!(retry, untouched, "{rejection}");
    }
}

#[test]
fn messages_follow_the_grammar() {
    for rejection in rejections() {
        assert_grammar(&rejection);
    }
    for fault in head_faults() {
        assert_grammar(&fault);
    }
    for reason in reset_reasons() {
        assert_grammar(&Reset::from(reason.code()));
    }
}

proptest! {
    #[test]
    fn every_code_keeps_its_number(code: u32) {
        let reset = Reset::from(ErrorCode::from(code));
        prop_assert_eq!(u32::from(reset.code()), code);
        // Reading what the reason would be sent as gives the reason again.
        prop_assert_eq!(Reset::from(reset.reason().code()).reason(), reset.reason());
    }

    #[test]
    fn every_status_is_kept(status in 100_u16..1000) {
        let refusal = Refusal::from(StatusCode::from_u16(status).unwrap());
        prop_assert_eq!(refusal.status().as_u16(), status);
    }
}

/// Lower case, one line, no full stop.
fn assert_grammar(error: &dyn Error) {
    let text = error.to_string();
    let first = text.chars().next().unwrap();
    assert!(
        first.is_ascii_lowercase() || first.is_ascii_digit() || first == '`',
        "{text}"
    );
    assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
}
