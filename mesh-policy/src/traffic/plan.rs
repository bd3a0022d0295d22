use std::{fmt, time::Duration};

use super::{
    backend::{Backend, Invalid, Unresolved},
    cors::CorsAnswer,
    edit::{EditHeaders, HeaderEdits},
    fault::Abort,
    filter::{DirectResponse, Filters, Mirror},
    grpc,
    model::{RouteKind, Rule},
    redirect::Redirect,
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
    /// It cannot be done as the rule says.
    Fail(Failed<'t>),
}

/// How a request goes to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forward<'t> {
    /// Where it goes.
    pub backend: &'t Backend,
    /// Its authority, if that changes.
    pub host: Option<&'t str>,
    /// Its target, path and query, if that changes: the only part of it that is allocated.
    pub target: Option<Vec<u8>>,
    /// What becomes of its headers.
    pub request_headers: [&'t HeaderEdits; 2],
    /// Who gets copies of it.
    pub mirrors: Mirrors<'t>,
    /// What becomes of the headers of the answer.
    pub answer: AnswerEdits<'t>,
}

/// Those of a rule's mirrors that get a copy of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirrors<'t> {
    all: &'t [Mirror],
    /// A bit for each of them.
    taken: u64,
}

impl<'t> Mirrors<'t> {
    fn drawn(all: &'t [Mirror], mut draw: impl FnMut() -> u64) -> Self {
        // A rule has at most 64.
        let bits = all.iter().zip(0..u64::BITS);
        let taken = bits.filter(|(mirror, _)| mirror.share.takes(draw()));
        Self {
            all,
            taken: taken.fold(0, |taken, (_, bit)| taken | 1 << bit),
        }
    }

    /// They, in the order of the rule.
    pub fn iter(&self) -> impl Iterator<Item = &'t Mirror> + use<'t> {
        let taken = self.taken;
        let bits = self.all.iter().zip(0..u64::BITS);
        bits.filter(move |(_, bit)| taken & 1 << bit != 0)
            .map(|(mirror, _)| mirror)
    }

    /// Whether nobody gets one.
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }
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

/// A request that its rule has nothing for but an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failed<'t> {
    /// Why.
    pub cause: FailureCause<'t>,
    /// Whether the rule is one for gRPC, whose answers are of its own.
    pub is_grpc: bool,
}

/// Why a request fails without being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureCause<'t> {
    /// The rule, or its part about the backend, cannot be carried out.
    Invalid(&'t Invalid),
    /// It is in the share of a backend that leads nowhere.
    Unresolved(Unresolved),
    /// There is no backend with a weight.
    NoBackend,
}

impl Failed<'_> {
    /// The answer's status, and for gRPC the value of `grpc-status`: 500, or for lack of a backend 200
    /// with 14 (`UNAVAILABLE`).
    pub fn status(self) -> (u16, Option<u8>) {
        match self.cause {
            FailureCause::Unresolved(_) | FailureCause::NoBackend if self.is_grpc => (200, Some(grpc::UNAVAILABLE)),
            _ => (500, None),
        }
    }
}

impl fmt::Display for FailureCause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::Unresolved(reason) => reason.fmt(f),
            Self::NoBackend => f.write_str("no backend has a weight"),
        }
    }
}

impl<'t> Choice<'t> {
    /// What a proxy has to do about the request. `draw` yields numbers that are drawn evenly from
    /// all 64-bit ones, each for a question of its own: a backend, a share of requests.
    pub fn plan(&self, request: &RouteRequest<'_>, mut draw: impl FnMut() -> u64) -> Plan<'t> {
        let rule: &'t Rule = self.rule();
        if let Some(invalid) = &rule.invalid {
            let step = self.fail(FailureCause::Invalid(invalid));
            return Plan { delay: None, step };
        }
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
        let mut answer = AnswerEdits {
            edits: [None, Some(&filters.response_headers)],
            cors,
        };
        if let Some(redirect) = &filters.redirect {
            return self.redirect(redirect, request, answer);
        }
        if let Some(response) = &filters.respond {
            return Step::Respond { response, answer };
        }
        let backend = match self.backend(draw()) {
            Ok(backend) => backend,
            Err(cause) => return self.fail(cause),
        };
        answer.edits = [Some(&backend.response_headers), Some(&filters.response_headers)];
        if let Some(redirect) = &backend.redirect {
            return self.redirect(redirect, request, answer);
        }
        let rewrite = backend.rewrite.as_ref().or(filters.rewrite.as_ref());
        let change = rewrite.and_then(|rewrite| rewrite.path.as_ref());
        Step::Forward(Forward {
            backend,
            host: rewrite.and_then(|rewrite| rewrite.host.as_deref()),
            target: change.map(|change| self.target(change, request)),
            request_headers: [&filters.request_headers, &backend.request_headers],
            mirrors: Mirrors::drawn(&filters.mirrors, draw),
            answer,
        })
    }

    fn redirect(&self, redirect: &Redirect, request: &RouteRequest<'_>, answer: AnswerEdits<'t>) -> Step<'t> {
        Step::Redirect {
            status: redirect.status,
            location: redirect.location(request, self.matched().path.as_ref()),
            answer,
        }
    }

    fn backend(&self, draw: u64) -> Result<&'t Backend, FailureCause<'t>> {
        let backend = self.rule().backends.pick(draw).ok_or(FailureCause::NoBackend)?;
        match (&backend.invalid, backend.unresolved) {
            (Some(invalid), _) => Err(FailureCause::Invalid(invalid)),
            (None, Some(reason)) => Err(FailureCause::Unresolved(reason)),
            (None, None) => Ok(backend),
        }
    }

    fn fail(&self, cause: FailureCause<'t>) -> Step<'t> {
        let is_grpc = self.route().id.kind == RouteKind::Grpc;
        Step::Fail(Failed { cause, is_grpc })
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
