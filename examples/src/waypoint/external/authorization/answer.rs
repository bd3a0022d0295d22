//! What a provider's answer comes to.

use http::StatusCode;
use mesh_xds_types::envoy_type::HttpStatus;
use mesh_xds_types::ext_authz::check_response::HttpResponse;
use mesh_xds_types::ext_authz::{CheckResponse, DeniedHttpResponse, OkHttpResponse};

use super::super::edits::{EditFault, Edits, MAX_LINES, Unsaid};
use super::super::reply::Reply;

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
    for option in headers.chunks(1).take(MAX_LINES) {
        if let Ok(edit) = Edits::of(option, Unsaid::Append) {
            edit.apply(&mut reply.headers);
        }
    }
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
