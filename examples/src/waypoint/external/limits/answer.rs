//! What the answer of a service that counts requests comes to.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use mesh_xds_types::core::header_value_option::HeaderAppendAction;
use mesh_xds_types::rate_limit::RateLimitResponse;
use mesh_xds_types::rate_limit::rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit};

use super::super::edits::{EditFault, Edits};
use super::super::reply::Reply;

/// What is said about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may pass, changed so, and its response too.
    Within { request: Edits, response: Edits },
    /// It is one too many.
    Over(Reply),
}

/// What an answer means, with `x-ratelimit` headers if they are wanted.
///
/// # Errors
///
/// It does not say whether the request may pass, or has lines that cannot be.
pub(super) fn answer(response: RateLimitResponse, x_ratelimit: bool) -> Result<Answer, AnswerFault> {
    // Every request is asked about, so that a quota is of no use; and what other filters might want
    // to know is for nobody here.
    let RateLimitResponse {
        overall_code,
        statuses,
        response_headers_to_add,
        request_headers_to_add,
        raw_body,
        dynamic_metadata: _,
        quota: _,
    } = response;
    let mut response = Edits::adding(&response_headers_to_add)?;
    if x_ratelimit {
        for (name, value) in x_ratelimit_lines(&statuses) {
            response = response.with(HeaderAppendAction::OverwriteIfExistsOrAdd, name, value);
        }
    }
    match Code::try_from(overall_code) {
        Ok(Code::Ok) => Ok(Answer::Within {
            request: Edits::adding(&request_headers_to_add)?,
            response,
        }),
        Ok(Code::OverLimit) => {
            if let Some(wait) = wait(&statuses) {
                response = response.with(HeaderAppendAction::AddIfAbsent, header::RETRY_AFTER, seconds(wait));
            }
            let mut reply = Reply::bare(StatusCode::TOO_MANY_REQUESTS).saying(Bytes::from(raw_body));
            response.apply(&mut reply.headers);
            Ok(Answer::Over(reply))
        }
        Ok(Code::Unknown) | Err(_) => Err(AnswerFault::Code { code: overall_code }),
    }
}

/// How long it takes until every limit that the request is over counts anew, if that is said of all.
fn wait(statuses: &[DescriptorStatus]) -> Option<Duration> {
    let over = statuses
        .iter()
        .filter(|status| status.code == i32::from(Code::OverLimit));
    let waits: Option<Vec<_>> = over.map(until_reset).collect();
    waits?.into_iter().max()
}

fn until_reset(status: &DescriptorStatus) -> Option<Duration> {
    Duration::try_from(status.duration_until_reset?).ok()
}

/// Whole seconds, not fewer than there are.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The limit that is nearest to its end, with all the others after it (draft-polli-ratelimit-headers-03).
fn x_ratelimit_lines(statuses: &[DescriptorStatus]) -> Vec<(HeaderName, HeaderValue)> {
    let limited = || {
        let of = |status: &'_ DescriptorStatus| status.current_limit.clone();
        statuses.iter().filter_map(move |status| Some((status, of(status)?)))
    };
    let Some((nearest, limit)) = limited().min_by_key(|(status, _)| status.limit_remaining) else {
        return Vec::new();
    };
    let mut policy = limit.requests_per_unit.to_string();
    for (_, limit) in limited() {
        quota(&mut policy, &limit);
    }
    let mut lines = Vec::new();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        lines.push((HeaderName::from_static("x-ratelimit-limit"), policy));
    }
    let remaining = HeaderName::from_static("x-ratelimit-remaining");
    lines.push((remaining, nearest.limit_remaining.into()));
    let reset = until_reset(nearest).map_or(0, seconds);
    lines.push((HeaderName::from_static("x-ratelimit-reset"), reset.into()));
    lines
}

/// One limit of the policy: how many in how many seconds, and what it is called.
fn quota(policy: &mut String, limit: &RateLimit) {
    let RateLimit {
        name,
        requests_per_unit,
        unit: _,
    } = limit;
    let window: u32 = match limit.unit() {
        Unit::Unknown => return,
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 3_600,
        Unit::Day => 86_400,
        Unit::Week => 7 * 86_400,
        Unit::Month => 30 * 86_400,
        Unit::Year => 365 * 86_400,
    };
    // Writing to a string does not fail.
    let _ = write!(policy, ", {requests_per_unit};w={window}");
    // A name that would end its quotes is left out.
    if !name.is_empty() && !name.contains(['"', '\\']) {
        let _ = write!(policy, ";name=\"{name}\"");
    }
}

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerFault {
    #[error("the answer has the code {code}")]
    Code { code: i32 },
    #[error("the answer cannot be carried out: {0}")]
    Edit(#[from] EditFault),
}
