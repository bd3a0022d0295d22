use std::{sync::Arc, time::Duration};

use super::{duration, metadata::Metadata};
use crate::{
    manifest::{
        Object, Problem, ReadFault,
        object::{text, unfit},
    },
    traffic::{
        balance::{Distribution, Failover, LabelOrder, LocalityPattern},
        destination::{
            BalanceRule, BalancerRule, ConnectionLimits, DestinationPolicy, DestinationRule, HashKey, LocalityRule,
            OutlierRule, PortPolicy, RetryBudgetRule, Subset, WarmupRule,
        },
        fraction::Fraction,
        host::HostPattern,
        retry::Budget,
    },
};

pub(super) fn read(metadata: &Metadata, mut spec: Object, file: &Arc<str>) -> Result<DestinationRule, Problem> {
    let (line, field) = (spec.line_of("host"), spec.path("host"));
    let host = spec.required_text("host")?;
    let host: HostPattern = host.parse().map_err(|_| unfit(line, &field, &host))?;
    let mut rule = DestinationRule::new(&metadata.namespace, &metadata.name, host);
    rule.created.clone_from(&metadata.created);
    rule.place = Some((Arc::clone(file), metadata.line));
    rule.policy = spec
        .object("trafficPolicy")?
        .map(policy)
        .transpose()?
        .unwrap_or_default();
    for mut object in spec.objects("subsets")? {
        let name = object.required_text("name")?;
        let labels = object.object("labels")?.map(Object::into_texts).transpose()?;
        let policy = object.object("trafficPolicy")?.map(policy).transpose()?;
        object.finish()?;
        let labels = labels.unwrap_or_default().into_iter().collect();
        rule.subsets
            .push(Subset::new(&name, labels, policy.unwrap_or_default()));
    }
    rule.export_to = spec
        .texts("exportTo")?
        .into_iter()
        .map(|(_, text)| text.into())
        .collect();
    spec.refuse(&["workloadSelector"])?;
    spec.finish()?;
    Ok(rule)
}

fn policy(mut object: Object) -> Result<DestinationPolicy, Problem> {
    let mut policy = DestinationPolicy::default();
    for mut found in object.objects("portLevelSettings")? {
        let (line, field) = (found.line(), found.path("port.number").into());
        let mut number = None;
        if let Some(mut port) = found.object("port")? {
            number = port.mapped("number", |text| text.parse().ok().filter(|port| *port > 0))?;
            port.finish()?;
        }
        let port = number.ok_or((line, ReadFault::Missing { field }))?;
        policy.ports.push((port, port_policy(&mut found)?));
        found.finish()?;
    }
    policy.retry_budget = object.object("retryBudget")?.map(retry_budget).transpose()?;
    policy.general = port_policy(&mut object)?;
    object.refuse(&["proxyProtocol", "tunnel"])?;
    object.finish()?;
    Ok(policy)
}

fn port_policy(object: &mut Object) -> Result<PortPolicy, Problem> {
    let policy = PortPolicy {
        balancer: object.object("loadBalancer")?.map(balancer).transpose()?,
        limits: object.object("connectionPool")?.map(limits).transpose()?,
        outliers: object.object("outlierDetection")?.map(outliers).transpose()?,
    };
    if let Some(mut tls) = object.object("tls")? {
        // Endpoints are reached by tunnels, which have a TLS of their own.
        tls.word("mode", &[("DISABLE", ()), ("ISTIO_MUTUAL", ())])?;
        tls.finish()?;
    }
    Ok(policy)
}

fn balancer(mut object: Object) -> Result<BalancerRule, Problem> {
    #[derive(Clone, Copy)]
    enum Simple {
        Unspecified,
        LeastRequest,
        RoundRobin,
        Random,
    }
    let words = [
        ("UNSPECIFIED", Simple::Unspecified),
        ("LEAST_REQUEST", Simple::LeastRequest),
        ("ROUND_ROBIN", Simple::RoundRobin),
        ("RANDOM", Simple::Random),
    ];
    let line = object.line_of("consistentHash");
    let simple = object.word("simple", &words)?;
    let hash = object.object("consistentHash")?.map(hash).transpose()?;
    if simple.is_some() && hash.is_some() {
        let (field, other) = (object.path("consistentHash").into(), object.path("simple").into());
        return Err((line, ReadFault::Excluded { field, other }));
    }
    let simple = simple.and_then(|simple| match simple {
        Simple::Unspecified => None,
        Simple::LeastRequest => Some(BalanceRule::LeastRequest),
        Simple::RoundRobin => Some(BalanceRule::RoundRobin),
        Simple::Random => Some(BalanceRule::Random),
    });
    let rule = BalancerRule {
        algorithm: hash.or(simple),
        warmup: object.object("warmup")?.map(warmup).transpose()?,
        locality: object.object("localityLbSetting")?.map(locality).transpose()?,
    };
    object.refuse(&["warmupDurationSecs"])?;
    object.finish()?;
    Ok(rule)
}

fn locality(mut object: Object) -> Result<LocalityRule, Problem> {
    let (line, path) = (object.line(), object.path("distribute"));
    let (mut distribution, mut divides) = (Distribution::new(), false);
    for found in object.objects("distribute")? {
        let (from, to) = shares(found)?;
        (distribution, divides) = (distribution.rule(from, to), true);
    }
    let (mut failover, mut fails_over) = (Failover::new(), false);
    for mut found in object.objects("failover")? {
        let (from, to) = (found.required_text("from")?, found.required_text("to")?);
        found.finish()?;
        (failover, fails_over) = (failover.region(from, to), true);
    }
    let labels = object.texts("failoverPriority")?;
    let is_enabled = object.word("enabled", &[("true", true), ("false", false)])?;
    object.finish()?;
    if divides && (fails_over || !labels.is_empty()) {
        let (field, other) = (path.into(), "failover".into());
        return Err((line, ReadFault::Excluded { field, other }));
    }
    Ok(if is_enabled == Some(false) {
        LocalityRule::Ignored
    } else if divides {
        LocalityRule::Divided(distribution)
    } else if labels.is_empty() {
        LocalityRule::Near(failover)
    } else {
        LocalityRule::Labels(LabelOrder::new(labels.iter().map(|(_, label)| &**label)))
    })
}

/// A place, and the places that get shares of its requests: 100 together.
fn shares(mut object: Object) -> Result<(LocalityPattern, Vec<(LocalityPattern, u32)>), Problem> {
    let (line, path) = (object.line_of("from"), object.path("from"));
    let from = object.required_text("from")?;
    let from = from.parse().map_err(|_| unfit(line, &path, &from))?;
    let (line, path) = (object.line_of("to"), object.path("to"));
    let mut to = Vec::new();
    for (field, place, node) in object.object("to")?.into_iter().flat_map(Object::into_fields) {
        let (line, share) = text(&field, node)?;
        let share = share.parse().map_err(|_| unfit(line, &field, &share))?;
        let place = place.parse().map_err(|_| unfit(line, &path, &place))?;
        to.push((place, share));
    }
    object.finish()?;
    let sum: u64 = to
        .iter()
        .map(|(_, share): &(LocalityPattern, u32)| u64::from(*share))
        .sum();
    if sum != 100 {
        return Err(unfit(line, &path, &sum.to_string()));
    }
    Ok((from, to))
}

fn hash(mut object: Object) -> Result<BalanceRule, Problem> {
    let line = object.line();
    let mut keys = Vec::new();
    let texts = [
        ("httpHeaderName", HashKey::Header as fn(Box<str>) -> HashKey),
        ("httpQueryParameterName", HashKey::QueryParameter),
    ];
    for (name, make) in texts {
        keys.extend(object.text(name)?.map(|text| (name, make(text.into()))));
    }
    if object.flag("useSourceIp")? {
        keys.push(("useSourceIp", HashKey::SourceIp));
    }
    if let Some(mut found) = object.object("httpCookie")? {
        let name = found.required_text("name")?.into();
        let path = found.text("path")?.map(Into::into);
        let ttl = found.mapped("ttl", duration::istio)?;
        found.refuse(&["attributes"])?;
        found.finish()?;
        keys.push(("httpCookie", HashKey::Cookie { name, path, ttl }));
    }
    let mut table_size = object.parsed("minimumRingSize")?;
    for (table, size, default) in [
        ("ringHash", "minimumRingSize", None),
        ("maglev", "tableSize", Some(65_537)),
    ] {
        if let Some(mut found) = object.object(table)? {
            table_size = found.parsed(size)?.or(default).or(table_size);
            found.finish()?;
        }
    }
    let mut keys = keys.into_iter();
    match (keys.next(), keys.next()) {
        (Some((_, key)), None) => {
            object.finish()?;
            Ok(BalanceRule::Hash { key, table_size })
        }
        (None, _) => {
            let field = object.path("httpHeaderName").into();
            Err((line, ReadFault::Missing { field }))
        }
        (Some((one, _)), Some((other, _))) => {
            let (field, other) = (object.path(one).into(), object.path(other).into());
            Err((line, ReadFault::Excluded { field, other }))
        }
    }
}

fn warmup(mut object: Object) -> Result<WarmupRule, Problem> {
    let (line, field) = (object.line(), object.path("duration").into());
    let duration = object.mapped("duration", duration::istio)?;
    let duration = duration.ok_or((line, ReadFault::Missing { field }))?;
    let minimum = percent(&mut object, "minimumPercent")?;
    let aggression = object.mapped("aggression", |text| {
        let thousandths = text.parse::<f64>().ok()? * 1000.0;
        (1000.0..=1e6).contains(&thousandths).then_some(thousandths as u32)
    })?;
    object.finish()?;
    Ok(WarmupRule::new(duration, minimum, aggression))
}

fn limits(mut object: Object) -> Result<ConnectionLimits, Problem> {
    let mut limits = ConnectionLimits::default();
    if let Some(mut tcp) = object.object("tcp")? {
        limits.connections = count(&mut tcp, "maxConnections")?;
        limits.connect_timeout = tcp.mapped("connectTimeout", duration::istio)?;
        limits.connection_age = tcp.mapped("maxConnectionDuration", duration::istio)?;
        limits.idle_timeout = tcp.mapped("idleTimeout", duration::istio)?;
        tcp.refuse(&["tcpKeepalive"])?;
        tcp.finish()?;
    }
    if let Some(mut http) = object.object("http")? {
        limits.pending_requests = count(&mut http, "http1MaxPendingRequests")?;
        limits.requests = count(&mut http, "http2MaxRequests")?;
        limits.requests_per_connection = count(&mut http, "maxRequestsPerConnection")?;
        limits.retries = count(&mut http, "maxRetries")?;
        limits.streams = count(&mut http, "maxConcurrentStreams")?;
        limits.http_idle_timeout = http.mapped("idleTimeout", duration::istio)?;
        http.refuse(&["h2UpgradePolicy", "useClientProtocol"])?;
        http.finish()?;
    }
    object.finish()?;
    Ok(limits)
}

/// A limit, where 0 is protobuf's way to say nothing.
fn count(object: &mut Object, name: &str) -> Result<Option<u32>, Problem> {
    Ok(object.parsed(name)?.filter(|count| *count > 0))
}

fn outliers(mut object: Object) -> Result<OutlierRule, Problem> {
    let mut rule = OutlierRule::default();
    object.refuse(&["consecutiveErrors"])?;
    let splits = object.flag("splitExternalLocalOriginErrors")?;
    let local = object.parsed("consecutiveLocalOriginFailures")?;
    rule.consecutive_local = splits.then(|| local.unwrap_or(5));
    rule.consecutive_5xx = object.parsed("consecutive5xxErrors")?.unwrap_or(rule.consecutive_5xx);
    rule.consecutive_gateway = object
        .parsed("consecutiveGatewayErrors")?
        .unwrap_or(rule.consecutive_gateway);
    rule.interval = object.mapped("interval", positive)?.unwrap_or(rule.interval);
    rule.base_ejection = object
        .mapped("baseEjectionTime", positive)?
        .unwrap_or(rule.base_ejection);
    let percent = |text: &str| text.parse().ok().filter(|percent| *percent <= 100);
    rule.max_ejection_percent = object
        .mapped("maxEjectionPercent", percent)?
        .unwrap_or(rule.max_ejection_percent);
    rule.min_health_percent = object
        .mapped("minHealthPercent", percent)?
        .unwrap_or(rule.min_health_percent);
    object.finish()?;
    Ok(rule)
}

fn positive(text: &str) -> Option<Duration> {
    duration::istio(text).filter(|time| *time >= Duration::from_millis(1))
}

fn retry_budget(mut object: Object) -> Result<RetryBudgetRule, Problem> {
    let share = percent(&mut object, "percent")?;
    let minimum = object.parsed("minRetryConcurrency")?;
    let interval = object.mapped("budgetInterval", budget_interval)?;
    object.finish()?;
    Ok(RetryBudgetRule::new(share, minimum, interval))
}

fn budget_interval(text: &str) -> Option<Duration> {
    duration::istio(text).filter(|interval| Budget::INTERVALS.contains(interval))
}

/// A number of a hundred.
fn percent(object: &mut Object, name: &str) -> Result<Option<Fraction>, Problem> {
    let of = |text: &str| Fraction::percent(text.parse().ok()?).ok();
    object.mapped(name, of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_retries_are_those_that_a_budget_counts() {
        for text in ["10ms", "5s", "1h"] {
            assert!(budget_interval(text).is_some(), "{text}");
        }
        for text in ["0s", "1ms", "24h", "3601s", "-1s", ""] {
            assert_eq!(budget_interval(text), None, "{text}");
        }
    }
}
