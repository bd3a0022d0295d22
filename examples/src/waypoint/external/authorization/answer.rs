//! What a provider's answer comes to.

use http::StatusCode;
use mesh_xds_types::envoy_type::HttpStatus;
use mesh_xds_types::ext_authz::check_response::HttpResponse;
use mesh_xds_types::ext_authz::{CheckResponse, DeniedHttpResponse, OkHttpResponse};

use super::super::edits::{EditFault, Edits, Unsaid};
use crate::waypoint::reply::Reply;

/// What a provider says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may pass, changed so, and its response too.
    Allowed { request: Edits, response: Edits },
    /// It may not, and this is the answer.
    Denied(Reply),
    /// The provider could not tell. If that is a no, this is the answer; without a status it is for
    /// the configuration to say.
    Failed { status: Option<StatusCode>, reply: Reply },
}

/// What an answer means.
///
/// A denial is a denial however badly it is written: what cannot be sent of it is left out. What lets
/// a request pass must be understood as a whole.
///
/// # Errors
///
/// The answer lets the request pass, and cannot be carried out; or does not say whether it may.
pub(super) fn answer(response: CheckResponse) -> Result<Answer, AnswerFault> {
    // What other filters might want to know is for nobody here.
    let CheckResponse {
        status,
        http_response,
        dynamic_metadata: _,
    } = response;
    let code = status.map(|status| status.code);
    match (code, http_response) {
        // Envoy lets pass what has neither; so would read whatever another service answers.
        (None, None) => Err(AnswerFault::Empty),
        (None | Some(0), Some(HttpResponse::OkResponse(ok))) => allowed(ok),
        (Some(0), None) => Ok(Answer::Allowed {
            request: Edits::default(),
            response: Edits::default(),
        }),
        (None | Some(0), Some(HttpResponse::DeniedResponse(_) | HttpResponse::ErrorResponse(_))) => {
            Err(AnswerFault::Contradiction)
        }
        (Some(_), Some(HttpResponse::ErrorResponse(error))) => {
            let (status, reply) = refusal(error);
            Ok(Answer::Failed { status, reply })
        }
        (Some(_), Some(HttpResponse::DeniedResponse(denied))) => {
            let (status, reply) = refusal(denied);
            let status = status.unwrap_or(StatusCode::FORBIDDEN);
            Ok(Answer::Denied(Reply { status, ..reply }))
        }
        (Some(_), Some(HttpResponse::OkResponse(_)) | None) => Ok(Answer::Denied(Reply::bare(StatusCode::FORBIDDEN))),
    }
}

fn allowed(ok: OkHttpResponse) -> Result<Answer, AnswerFault> {
    let OkHttpResponse {
        headers,
        headers_to_remove,
        dynamic_metadata: _,
        response_headers_to_add,
        query_parameters_to_set,
        query_parameters_to_remove,
    } = ok;
    if !query_parameters_to_set.is_empty() || !query_parameters_to_remove.is_empty() {
        return Err(AnswerFault::Query);
    }
    Ok(Answer::Allowed {
        request: Edits::of(&headers, Unsaid::Overwrite)?.removing(&headers_to_remove)?,
        response: Edits::of(&response_headers_to_add, Unsaid::Append)?,
    })
}

/// The status, if it is one that ends a request, and the rest.
fn refusal(denied: DeniedHttpResponse) -> (Option<StatusCode>, Reply) {
    let DeniedHttpResponse { status, headers, body } = denied;
    let code = status.map_or(0, |HttpStatus { code }| code);
    let status = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    let mut reply = Reply::bare(StatusCode::FORBIDDEN).saying(body.into_bytes());
    Edits::sendable(&headers, |line| Edits::of(line, Unsaid::Append)).apply(&mut reply.headers);
    (status, reply)
}

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerFault {
    #[error("the answer says nothing")]
    Empty,
    #[error("the answer lets the request pass and refuses it")]
    Contradiction,
    #[error("the answer changes the query, which this proxy does not")]
    Query,
    #[error("the answer cannot be carried out: {0}")]
    Edit(#[from] EditFault),
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use mesh_xds_types::core::{HeaderValue, HeaderValueOption, QueryParameter};
    use mesh_xds_types::rpc::Status;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn said(code: Option<i32>, http_response: Option<HttpResponse>) -> CheckResponse {
        CheckResponse {
            status: code.map(|code| Status {
                code,
                ..Status::default()
            }),
            http_response,
            dynamic_metadata: Some(prost_types::Struct::default()),
        }
    }

    fn denied(status: Option<i32>, body: &str) -> DeniedHttpResponse {
        DeniedHttpResponse {
            status: status.map(|code| HttpStatus { code }),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    fn line(key: &str) -> HeaderValueOption {
        HeaderValueOption {
            header: Some(HeaderValue {
                key: key.into(),
                value: "v".into(),
                raw_value: Vec::new(),
            }),
            ..HeaderValueOption::default()
        }
    }

    fn reply(status: u16, body: &'static str) -> Reply {
        Reply::bare(StatusCode::from_u16(status).unwrap()).saying(body)
    }

    fn allowed() -> Answer {
        Answer::Allowed {
            request: Edits::default(),
            response: Edits::default(),
        }
    }

    #[test]
    fn status_and_response_must_agree() {
        let ok = || Some(HttpResponse::OkResponse(OkHttpResponse::default()));
        let no = || Some(HttpResponse::DeniedResponse(denied(Some(401), "no")));
        let error = || Some(HttpResponse::ErrorResponse(denied(None, "broken")));
        let failed = |status| Answer::Failed {
            status,
            reply: reply(403, "broken"),
        };
        for (code, response, expected) in [
            (Some(0), None, Ok(allowed())),
            (Some(0), ok(), Ok(allowed())),
            (None, ok(), Ok(allowed())),
            (None, None, Err(AnswerFault::Empty)),
            (Some(0), no(), Err(AnswerFault::Contradiction)),
            (None, no(), Err(AnswerFault::Contradiction)),
            (Some(0), error(), Err(AnswerFault::Contradiction)),
            (Some(7), None, Ok(Answer::Denied(reply(403, "")))),
            (Some(-1), ok(), Ok(Answer::Denied(reply(403, "")))),
            (Some(99), no(), Ok(Answer::Denied(reply(401, "no")))),
            (Some(13), error(), Ok(failed(None))),
        ] {
            let shown = format!("{code:?} {response:?}");
            assert_eq!(answer(said(code, response)), expected, "{shown}");
        }
    }

    #[test]
    fn a_denial_has_a_status_that_ends_a_request() {
        for (status, expected) in [
            (None, 403),
            (Some(0), 403),
            (Some(100), 403),
            (Some(101), 403),
            (Some(200), 200),
            (Some(302), 302),
            (Some(429), 429),
            (Some(599), 599),
            (Some(600), 403),
            (Some(-401), 403),
            (Some(65_536 + 401), 403),
        ] {
            let answered = answer(said(Some(7), Some(HttpResponse::DeniedResponse(denied(status, "")))));
            assert_eq!(answered, Ok(Answer::Denied(reply(expected, ""))), "{status:?}");
        }
    }

    #[test]
    fn a_denial_keeps_of_its_lines_what_can_be_sent() {
        let headers = vec![
            line("set-cookie"),
            line("content-length"),
            line("a b"),
            line("set-cookie"),
        ];
        let denied = DeniedHttpResponse {
            headers,
            ..denied(None, "")
        };
        let Ok(Answer::Denied(reply)) = answer(said(Some(7), Some(HttpResponse::DeniedResponse(denied)))) else {
            panic!()
        };
        assert_eq!(
            reply.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["set-cookie"; 2]
        );
    }

    #[test]
    fn what_is_not_understood_lets_nothing_pass() {
        let parameter = QueryParameter {
            key: "k".into(),
            value: "v".into(),
        };
        for (ok, expected) in [
            (
                OkHttpResponse {
                    query_parameters_to_set: vec![parameter],
                    ..OkHttpResponse::default()
                },
                AnswerFault::Query,
            ),
            (
                OkHttpResponse {
                    query_parameters_to_remove: vec!["k".into()],
                    ..OkHttpResponse::default()
                },
                AnswerFault::Query,
            ),
            (
                OkHttpResponse {
                    headers: vec![line(":path")],
                    ..OkHttpResponse::default()
                },
                AnswerFault::Edit(EditFault::Name { name: ":path".into() }),
            ),
            (
                OkHttpResponse {
                    response_headers_to_add: vec![line("Upgrade")],
                    ..OkHttpResponse::default()
                },
                AnswerFault::Edit(EditFault::Name { name: "Upgrade".into() }),
            ),
        ] {
            assert_eq!(answer(said(Some(0), Some(HttpResponse::OkResponse(ok)))), Err(expected));
        }
    }

    #[test]
    fn what_a_provider_vouches_for_takes_the_place_of_what_a_client_wrote() {
        let ok = OkHttpResponse {
            headers: vec![line("x-user")],
            response_headers_to_add: vec![line("set-cookie")],
            ..OkHttpResponse::default()
        };
        let Ok(Answer::Allowed { request, response }) = answer(said(Some(0), Some(HttpResponse::OkResponse(ok))))
        else {
            panic!()
        };
        let mut headers = HeaderMap::new();
        for name in ["x-user", "set-cookie"] {
            headers.insert(name, http::HeaderValue::from_static("forged"));
        }
        request.apply(&mut headers);
        response.apply(&mut headers);
        assert_eq!(headers.get_all("x-user").iter().collect::<Vec<_>>(), ["v"]);
        assert_eq!(
            headers.get_all("set-cookie").iter().collect::<Vec<_>>(),
            ["forged", "v"]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(response) = CheckResponse::decode(bytes.as_slice()) {
                let may_pass = response.status.as_ref().is_none_or(|status| status.code == 0);
                let is_allowed = matches!(answer(response), Ok(Answer::Allowed { .. }));
                prop_assert!(may_pass || !is_allowed);
            }
        }
    }
}
