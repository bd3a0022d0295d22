//! Which rule of which route takes a request.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use self::{
    hosts::Hosts,
    order::{Rank, ranked},
    rules::{Entry, Rules},
};
use super::{
    cors::Cors,
    host::HostPattern,
    matching::RouteMatch,
    model::{Route, Rule},
    regex::Regex,
    request::RouteRequest,
};
use crate::budget::{Budget, OverBudget, Resource};

mod hosts;
mod order;
mod rules;

/// The rules of all routes of one listener or service, found by host and path.
///
/// A request belongs to the most specific hosts that its own is among. There the rules of the
/// Gateway API come in the order of its specification: an exact path, the longest prefix, a regular
/// expression, then those that ask for a method, for more headers and for more parameters; for gRPC
/// the longest service, the longest method and more headers. What is alike comes by the age of the
/// routes, then by namespace and name, then as it was written. If no rule takes the request, those
/// of less specific hosts are asked. The rules of VirtualServices come as they were written, and no
/// others are asked after them.
///
/// Looking up takes hash tables and no list that grows with the number of paths: only rules that
/// share a path are looked at one by one, as are regular expressions, methods of any service of gRPC,
/// and paths in any case. Nothing is allocated.
///
/// ```
/// use std::sync::Arc;
/// use mesh_policy::{
///     Budget, ConnectionFacts, Known, PathNormalization, RequestFacts,
///     traffic::{PathMatch, Route, RouteKind, RouteMatch, RouteRequest, RouteTable, Rule, SegmentPrefix},
/// };
///
/// let rule = |path: &str| -> Result<Rule, Box<dyn std::error::Error>> {
///     let mut asked = RouteMatch::default();
///     asked.path = Some(PathMatch::Segments(SegmentPrefix::new(path)?));
///     let mut rule = Rule::default();
///     rule.matches = vec![asked];
///     Ok(rule)
/// };
/// let mut route = Route::new(RouteKind::Http, "shop", "cart");
/// route.rules = vec![rule("/")?, rule("/cart")?];
/// let table = RouteTable::new([Arc::new(route)], &Budget::new());
///
/// let mut buffer = Vec::new();
/// let path = PathNormalization::Base.normalize(b"/cart/7", &mut buffer)?;
/// let facts = RequestFacts::without_headers(ConnectionFacts::new(), b"GET").path(Known::Present(path));
/// let choice = table.decide(&RouteRequest::new(&facts)).ok_or("no rule takes it")?;
/// assert_eq!(choice.rule_index(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    refused: Vec<Refused>,
    hosts: Hosts,
    rules: Vec<Rules>,
}

impl RouteTable {
    /// The table of some routes.
    ///
    /// All of them together may have as many kinds of requests for hosts as the budget has
    /// [`SetItems`](Resource::SetItems), and their expressions, each counted once, may be as large as
    /// its [`ExpressionBytes`](Resource::ExpressionBytes). A route that does not fit beside older ones
    /// is [refused](Self::refused), and the others are taken: whoever wants its requests to fail, and
    /// not to fall to those, has to see to it.
    pub fn new(routes: impl IntoIterator<Item = Arc<Route>>, budget: &Budget) -> Self {
        let (routes, refused) = admitted(routes.into_iter().collect(), budget);
        let mut found: Vec<(&HostPattern, Rank, Entry)> = Vec::new();
        for (number, route) in routes.iter().enumerate() {
            let hosts = if route.hosts.is_empty() {
                &[HostPattern::ANY][..]
            } else {
                &route.hosts
            };
            for host in hosts {
                found.extend(ranked(number, route).map(|(rank, entry)| (host, rank, entry)));
            }
        }
        found.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        let groups = || found.chunk_by(|one, other| one.0 == other.0);
        let (mut hosts, mut rules) = (Hosts::default(), Vec::with_capacity(groups().count()));
        for group in groups() {
            if let Some((host, _, _)) = group.first() {
                hosts.insert(host, rules.len());
                rules.push(Rules::new(group.iter().map(|(_, _, entry)| entry.clone()).collect()));
            }
        }
        Self {
            routes,
            refused,
            hosts,
            rules,
        }
    }

    /// The rule that takes a request. None: the request is to be answered with status 404.
    pub fn decide(&self, request: &RouteRequest<'_>) -> Option<Choice<'_>> {
        let mut choice = None;
        self.hosts.visit(request.host(), |place| {
            let Some(rules) = self.rules.get(place) else {
                return true;
            };
            choice = rules.find(request).and_then(|entry| self.choice(entry));
            choice.is_some() || rules.is_last()
        });
        choice
    }

    /// The routes.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The routes that the budget has no room for, and why.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    fn choice<'t>(&'t self, entry: &'t Entry) -> Option<Choice<'t>> {
        let route = self.routes.get(entry.route as usize)?;
        let rule = route.rules.get(entry.rule as usize)?;
        Some(Choice { route, rule, entry })
    }
}

/// A route that a table has no room for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The route.
    pub route: Arc<Route>,
    /// What it has too much of, beside the others.
    pub over: OverBudget,
}

/// The routes that fit into the budget, in the order of their precedence, and the others.
fn admitted(mut routes: Vec<Arc<Route>>, budget: &Budget) -> (Vec<Arc<Route>>, Vec<Refused>) {
    routes.sort_by_cached_key(|route| route.precedence());
    let (mut use_of, mut refused) = (Use::default(), Vec::new());
    routes.retain(|route| match use_of.admit(route, budget) {
        Ok(()) => true,
        Err(over) => {
            let route = Arc::clone(route);
            refused.push(Refused { route, over });
            false
        }
    });
    routes.shrink_to_fit();
    (routes, refused)
}

/// What routes take of a budget.
#[derive(Default)]
struct Use {
    items: usize,
    bytes: usize,
    /// The expressions that have been counted.
    expressions: HashSet<usize>,
}

impl Use {
    fn admit(&mut self, route: &Route, budget: &Budget) -> Result<(), OverBudget> {
        let matches = || route.rules.iter().flat_map(|rule| &rule.matches);
        let items = self.items + (matches().count() + route.rules.len()) * route.hosts.len().max(1);
        budget.check(Resource::SetItems, items)?;
        let of_origins = route.rules.iter().filter_map(|rule| rule.filters.cors.as_deref());
        let all = matches()
            .flat_map(RouteMatch::expressions)
            .chain(of_origins.flat_map(Cors::expressions));
        let new: HashMap<usize, &Regex> = all
            .map(|regex| (regex.address(), regex))
            .filter(|(address, _)| !self.expressions.contains(address))
            .collect();
        let bytes = self.bytes + new.values().map(|regex| regex.memory()).sum::<usize>();
        budget.check(Resource::ExpressionBytes, bytes)?;
        (self.items, self.bytes) = (items, bytes);
        self.expressions.extend(new.into_keys());
        Ok(())
    }
}

/// The rule that takes a request, and why.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'t> {
    route: &'t Arc<Route>,
    rule: &'t Rule,
    entry: &'t Entry,
}

impl<'t> Choice<'t> {
    /// The route.
    pub fn route(&self) -> &'t Arc<Route> {
        self.route
    }

    /// The rule.
    pub fn rule(&self) -> &'t Rule {
        self.rule
    }

    /// Which of the route's rules it is, from 0.
    pub fn rule_index(&self) -> usize {
        self.entry.rule as usize
    }

    /// Which of the rule's kinds of requests this is one of.
    pub fn matched(&self) -> &'t RouteMatch {
        &self.entry.asked
    }
}
