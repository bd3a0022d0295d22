use std::cmp::Reverse;

use super::rules::Entry;
use crate::traffic::{
    matching::{PathMatch, RouteMatch},
    model::{Route, RouteKind},
    pattern::Pattern,
};

/// The place of a rule's kind of requests among those of the same hosts: the least is asked first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    kind: RouteKind,
    specificity: Specificity,
    /// Route, whose numbers are in the order of precedence, rule, and kind of requests in it.
    written: (usize, usize, usize),
}

/// How much is asked, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    Http {
        path: PathRank,
        has_method: Reverse<bool>,
        headers: Reverse<usize>,
        parameters: Reverse<usize>,
    },
    Grpc {
        service: Reverse<usize>,
        method: Reverse<usize>,
        headers: Reverse<usize>,
    },
    /// The order is the author's.
    AsWritten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact,
    Prefix(Reverse<usize>),
    Regex(Reverse<usize>),
}

/// All kinds of requests that a route takes, with their ranks.
pub(super) fn ranked(number: usize, route: &Route) -> impl Iterator<Item = (Rank, Entry)> {
    let all = [RouteMatch::default()];
    route.rules.iter().enumerate().flat_map(move |(at, rule)| {
        let asked = if rule.matches.is_empty() {
            all.to_vec()
        } else {
            rule.matches.clone()
        };
        asked.into_iter().enumerate().map(move |(which, asked)| {
            let rank = Rank {
                kind: route.id.kind,
                specificity: specificity(route.id.kind, &asked),
                written: (number, at, which),
            };
            let (kind, route, rule) = (route.id.kind, number as u32, at as u32);
            (
                rank,
                Entry {
                    kind,
                    route,
                    rule,
                    asked,
                },
            )
        })
    })
}

fn specificity(kind: RouteKind, asked: &RouteMatch) -> Specificity {
    let headers = Reverse(asked.headers.len());
    match kind {
        RouteKind::Http => Specificity::Http {
            path: path_rank(asked.path.as_ref()),
            has_method: Reverse(asked.method.is_some()),
            headers,
            parameters: Reverse(asked.query.len()),
        },
        RouteKind::Grpc => {
            let length = |pattern: Option<&Pattern>| Reverse(pattern.map_or(0, Pattern::length));
            let call = match &asked.path {
                Some(PathMatch::Grpc(call)) => Some(call),
                _ => None,
            };
            Specificity::Grpc {
                service: length(call.and_then(|call| call.service.as_ref())),
                method: length(call.and_then(|call| call.method.as_ref())),
                headers,
            }
        }
        RouteKind::VirtualService => Specificity::AsWritten,
    }
}

fn path_rank(path: Option<&PathMatch>) -> PathRank {
    match path {
        Some(PathMatch::Exact(_) | PathMatch::ExactInAnyCase(_)) => PathRank::Exact,
        Some(PathMatch::Segments(prefix)) => PathRank::Prefix(Reverse(prefix.as_str().len())),
        Some(PathMatch::Prefix(prefix) | PathMatch::PrefixInAnyCase(prefix)) => PathRank::Prefix(Reverse(prefix.len())),
        Some(PathMatch::Regex(regex)) => PathRank::Regex(Reverse(regex.as_str().chars().count())),
        Some(PathMatch::Grpc(_)) | None => PathRank::Prefix(Reverse(0)),
    }
}
