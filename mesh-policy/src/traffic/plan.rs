use std::time::Duration;

use super::{
    backend::{Backend, Unresolved},
    cors::CorsAnswer,
    edit::{EditHeaders, HeaderEdits},
    fault::Abort,
    filter::{DirectResponse, Filters, Mirror},
    model::{RouteKind, Rule},
    request::RouteRequest,
    rewrite::PathChange,
    route::Choice,
};

/// What a proxy has to do about one request, all draws made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan<'t> {
    /// How long the request waits first.
    pub delay: Option<Duration>,
    /// What then becomes of it.
    pub step: Step<'t>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step<'t> {
    /// It goes wrong on purpose.
    Abort(Abort),
    /// It asks for permission, and is answered by [`CorsAnswer::apply`].
    Preflight(CorsAnswer),
    /// It is sent elsewhere.
    Redirect {
        /// The status.
        status: u16,
        /// The value of `location`.
        location: Vec<u8>,
        /// What becomes of the headers of the answer.
        answer: AnswerEdits<'t>,
    },
    /// It is answered.
    Respond {
        /// With what.
        response: &'t DirectResponse,
        /// What becomes of the headers of the answer.
        answer: AnswerEdits<'t>,
    },
    /// It goes to a backend.
    Forward(Forward<'t>),
    /// There is no backend for it.
    Fail(NoBackend),
}

/// How a request goes to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forward<'t> {
    /// Where it goes.
    pub backend: &'t Backend,
    /// Its authority, if that changes.
    pub host: Option<&'t str>,
    /// Its target, path and query, if that changes.
    pub target: Option<Vec<u8>>,
    /// What becomes of its headers.
    pub request_headers: [&'t HeaderEdits; 2],
    /// Who gets copies of it.
    pub mirrors: Vec<&'t Mirror>,
    /// What becomes of the headers of the answer.
    pub answer: AnswerEdits<'t>,
}

/// What becomes of the headers of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerEdits<'t> {
    edits: [Option<&'t HeaderEdits>; 2],
    cors: Option<CorsAnswer>,
}

impl AnswerEdits<'_> {
    /// Changes the headers: first as the backend's part of the rule has it, then as the rule has it.
    pub fn apply(&self, headers: &mut impl EditHeaders) {
        for edits in self.edits.into_iter().flatten() {
            edits.apply(headers);
        }
        if let Some(cors) = &self.cors {
            cors.apply(headers);
        }
    }
}

/// Nothing can be sent anywhere: the share of a backend that leads nowhere, or there is no backend
/// with a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoBackend {
    /// Why the backend leads nowhere; none if there is none.
    pub reason: Option<Unresolved>,
    /// Whether the rule is one for gRPC, whose answers are of its own.
    pub is_grpc: bool,
}

impl NoBackend {
    /// The answer's status, and for gRPC the value of `grpc-status`: 500, or 200 with 14
    /// (`UNAVAILABLE`).
    pub fn status(self) -> (u16, Option<u8>) {
        if self.is_grpc { (200, Some(14)) } else { (500, None) }
    }
}

impl<'t> Choice<'t> {
    /// What a proxy has to do about the request. `draw` yields numbers that are drawn evenly from
    /// all 64-bit ones, each for a question of its own: a backend, a share of requests.
    pub fn plan(&self, request: &RouteRequest<'_>, mut draw: impl FnMut() -> u64) -> Plan<'t> {
        let rule: &'t Rule = self.rule();
        let filters = &rule.filters;
        let (delay, abort) = match &filters.fault {
            Some(fault) => fault.draw(draw(), draw()),
            None => (None, None),
        };
        if let Some(abort) = abort {
            let step = Step::Abort(abort);
            return Plan { delay, step };
        }
        let cors = filters.cors.as_ref().map(|cors| cors.decide(request));
        let step = match cors {
            Some(preflight @ CorsAnswer::Preflight(_)) => Step::Preflight(preflight),
            passes => self.step(filters, passes, request, draw),
        };
        Plan { delay, step }
    }

    fn step(
        &self,
        filters: &'t Filters,
        cors: Option<CorsAnswer>,
        request: &RouteRequest<'_>,
        mut draw: impl FnMut() -> u64,
    ) -> Step<'t> {
        let matched = self.matched().path.as_ref();
        let mut answer = AnswerEdits {
            edits: [None, Some(&filters.response_headers)],
            cors,
        };
        if let Some(redirect) = &filters.redirect {
            let (status, location) = (redirect.status, redirect.location(request, matched));
            return Step::Redirect {
                status,
                location,
                answer,
            };
        }
        if let Some(response) = &filters.respond {
            return Step::Respond { response, answer };
        }
        let picked = self.rule().backends.pick(draw());
        let is_grpc = self.route().id.kind == RouteKind::Grpc;
        let backend = match picked {
            Some(backend) if backend.unresolved.is_none() => backend,
            found => {
                let reason = found.and_then(|backend| backend.unresolved);
                return Step::Fail(NoBackend { reason, is_grpc });
            }
        };
        answer.edits = [Some(&backend.response_headers), Some(&filters.response_headers)];
        let rewrite = filters.rewrite.as_ref();
        let change = rewrite.and_then(|rewrite| rewrite.path.as_ref());
        Step::Forward(Forward {
            backend,
            host: rewrite.and_then(|rewrite| rewrite.host.as_deref()),
            target: change.map(|change| self.target(change, request)),
            request_headers: [&filters.request_headers, &backend.request_headers],
            mirrors: filters
                .mirrors
                .iter()
                .filter(|mirror| mirror.share.takes(draw()))
                .collect(),
            answer,
        })
    }

    fn target(&self, change: &PathChange, request: &RouteRequest<'_>) -> Vec<u8> {
        let path = request.path().unwrap_or(b"/");
        let mut target = change.apply(self.matched().path.as_ref(), path);
        if let Some(query) = request.query() {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        target
    }
}
