//! What the answer of a service that counts requests comes to.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use mesh_xds_types::core::header_value_option::HeaderAppendAction;
use mesh_xds_types::rate_limit::RateLimitResponse;
use mesh_xds_types::rate_limit::rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit};

use super::super::edits::{EditFault, Edits};
use crate::waypoint::reply::Reply;

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
/// One request too many is that however badly the answer is written: what cannot be sent of it is left
/// out. What lets a request pass must be understood as a whole.
///
/// # Errors
///
/// The answer lets the request pass, and has lines that cannot be; or does not say whether it may.
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
    let limits = match x_ratelimit {
        true => x_ratelimit_lines(&statuses),
        false => Vec::new(),
    };
    let with_limits = |edits: Edits| {
        limits.into_iter().fold(edits, |edits, (name, value)| {
            edits.with(HeaderAppendAction::OverwriteIfExistsOrAdd, name, value)
        })
    };
    match Code::try_from(overall_code) {
        Ok(Code::Ok) => Ok(Answer::Within {
            request: Edits::adding(&request_headers_to_add)?,
            response: with_limits(Edits::adding(&response_headers_to_add)?),
        }),
        Ok(Code::OverLimit) => {
            let mut response = with_limits(Edits::sendable(&response_headers_to_add, Edits::adding));
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
    policy.push_str(&format!(", {requests_per_unit};w={window}"));
    // A name that would end its quotes is left out.
    if !name.is_empty() && !name.contains(['"', '\\']) {
        policy.push_str(&format!(";name=\"{name}\""));
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

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use mesh_xds_types::core;

    use super::*;

    fn status(code: Code, limit: Option<(u32, Unit, &str)>, remaining: u32, reset: Option<f64>) -> DescriptorStatus {
        DescriptorStatus {
            code: code.into(),
            current_limit: limit.map(|(requests_per_unit, unit, name)| RateLimit {
                name: name.into(),
                requests_per_unit,
                unit: unit.into(),
            }),
            limit_remaining: remaining,
            duration_until_reset: reset.map(|seconds| prost_types::Duration {
                seconds: seconds as i64,
                nanos: (seconds.fract() * 1e9) as i32,
            }),
            quota: None,
        }
    }

    fn said(code: Code, statuses: Vec<DescriptorStatus>) -> RateLimitResponse {
        RateLimitResponse {
            overall_code: code.into(),
            statuses,
            ..RateLimitResponse::default()
        }
    }

    fn line(key: &str, value: &str) -> core::HeaderValue {
        core::HeaderValue {
            key: key.into(),
            value: value.into(),
            raw_value: Vec::new(),
        }
    }

    /// The headers that a response has in the end, if it had these.
    fn response(answer: Answer, had: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in had {
            headers.append(*name, HeaderValue::from_static(value));
        }
        match answer {
            Answer::Within { response, .. } => response.apply(&mut headers),
            Answer::Over(reply) => headers = reply.headers,
        }
        let lines = headers.iter();
        let mut lines: Vec<_> = lines
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines.join("\n")
    }

    #[test]
    fn the_limit_that_is_nearest_to_its_end_comes_first_and_all_follow() {
        let statuses = vec![
            status(Code::Ok, None, 0, None),
            status(Code::Ok, Some((1000, Unit::Hour, "")), 900, Some(1800.0)),
            status(Code::Ok, Some((10, Unit::Second, "per-ip")), 4, Some(0.25)),
            status(Code::Ok, Some((7, Unit::Unknown, "")), 5, None),
            status(Code::Ok, Some((70, Unit::Week, "a\"b")), 50, None),
        ];
        let answered = answer(said(Code::Ok, statuses), true).unwrap();
        assert_eq!(
            response(answered, &[("x-ratelimit-limit", "the service's own")]),
            "x-ratelimit-limit: 10, 1000;w=3600, 10;w=1;name=\"per-ip\", 70;w=604800\n\
             x-ratelimit-remaining: 4\n\
             x-ratelimit-reset: 1"
        );
    }

    #[test]
    fn limits_are_told_only_if_that_is_wanted_and_there_are_any() {
        let limited = vec![status(Code::Ok, Some((10, Unit::Second, "")), 4, None)];
        assert_eq!(response(answer(said(Code::Ok, limited), false).unwrap(), &[]), "");
        let unlimited = vec![status(Code::Ok, None, 0, None)];
        assert_eq!(response(answer(said(Code::Ok, unlimited), true).unwrap(), &[]), "");
    }

    #[test]
    fn a_client_is_told_to_wait_for_the_last_of_the_limits_it_is_over() {
        let over = |reset| status(Code::OverLimit, None, 0, reset);
        for (statuses, expected) in [
            (vec![], ""),
            (vec![over(Some(2.0))], "retry-after: 2"),
            (vec![over(Some(2.1)), over(Some(1.0))], "retry-after: 3"),
            (
                vec![over(Some(2.0)), status(Code::Ok, None, 0, Some(9.0))],
                "retry-after: 2",
            ),
            (vec![over(Some(2.0)), over(None)], ""),
            (vec![over(Some(-2.0))], ""),
        ] {
            let answered = answer(said(Code::OverLimit, statuses), false).unwrap();
            assert_eq!(response(answered, &[]), expected);
        }
        let own = RateLimitResponse {
            response_headers_to_add: vec![line("Retry-After", "99")],
            ..said(Code::OverLimit, vec![over(Some(2.0))])
        };
        assert_eq!(response(answer(own, false).unwrap(), &[]), "retry-after: 99");
    }

    #[test]
    fn lines_and_bodies_are_passed_on() {
        let within = RateLimitResponse {
            response_headers_to_add: vec![line("x-a", "1")],
            request_headers_to_add: vec![line("x-b", "2")],
            raw_body: b"unused".to_vec(),
            ..said(Code::Ok, Vec::new())
        };
        let Answer::Within {
            request,
            response: later,
        } = answer(within, false).unwrap()
        else {
            panic!()
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-b", HeaderValue::from_static("1"));
        request.apply(&mut headers);
        assert_eq!(headers.get_all("x-b").iter().collect::<Vec<_>>(), ["1", "2"]);
        later.apply(&mut headers);
        assert_eq!(headers["x-a"], "1");

        let over = RateLimitResponse {
            raw_body: b"slow down".to_vec(),
            ..said(Code::OverLimit, Vec::new())
        };
        assert_eq!(
            answer(over, false),
            Ok(Answer::Over(
                Reply::bare(StatusCode::TOO_MANY_REQUESTS).saying("slow down")
            ))
        );
    }

    #[test]
    fn what_says_neither_yes_nor_no_is_no_answer() {
        for code in [0, 3, -1] {
            let answered = answer(
                RateLimitResponse {
                    overall_code: code,
                    ..RateLimitResponse::default()
                },
                false,
            );
            assert_eq!(answered, Err(AnswerFault::Code { code }));
        }
        for (request_headers_to_add, response_headers_to_add) in [
            (vec![line("host", "elsewhere")], vec![]),
            (vec![], vec![line("connection", "close")]),
        ] {
            let forbidden = RateLimitResponse {
                request_headers_to_add,
                response_headers_to_add,
                ..said(Code::Ok, Vec::new())
            };
            assert!(matches!(answer(forbidden, false), Err(AnswerFault::Edit(_))));
        }
    }

    #[test]
    fn one_request_too_many_is_that_however_badly_it_is_said() {
        let many = vec![line("x-a", "1"); 1_000];
        for (lines, expected) in [
            (vec![line("connection", "close"), line("x-a", "1")], "x-a: 1".to_owned()),
            (vec![line("x-a", "1\n")], String::new()),
            (many, ["x-a: 1"; 128].join("\n")),
        ] {
            let over = RateLimitResponse {
                response_headers_to_add: lines,
                ..said(Code::OverLimit, Vec::new())
            };
            let answered = answer(over, false).unwrap();
            assert!(matches!(answered, Answer::Over(_)));
            assert_eq!(response(answered, &[]), expected);
        }
    }
}
