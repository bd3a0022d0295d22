//! What becomes of requests to services behind a waypoint.

use hyper::Method;
use hyper::header::RETRY_AFTER;

use crate::quickstart::objects::waypoint as objects;
use crate::quickstart::patience::until;
use crate::quickstart::report::Scene;
use crate::quickstart::stage::Stage;
use crate::quickstart::undeclared::Undeclared;
use crate::quickstart::web::Heard;

pub(super) const ROUTED: (&str, &str) = (
    "A waypoint routes requests by header and by weight",
    "An HTTPRoute sends testers to the second version of reviews, and a quarter of everybody else.",
);

pub(super) const DENIED: (&str, &str) = (
    "A policy says who may ask for what",
    "An AuthorizationPolicy denies requests by DELETE, which only a waypoint can see.",
);

pub(super) const RETRIED: (&str, &str) = (
    "A broken replica is tried around",
    "One of the two replicas of ratings does not listen. Nobody who asks hears of that.",
);

pub(super) const LIMITED: (&str, &str) = (
    "A rate limit turns away what is too much",
    "A RateLimitPolicy lets five requests a minute through to reviews.",
);

pub(super) const BROKEN: (&str, &str) = (
    "A replica that fails is left alone for a while",
    "A DestinationRule ejects a replica after three errors, for a second.",
);

pub(super) const OVERLOADED: (&str, &str) = (
    "A circuit breaker opens when too much is under way",
    "A DestinationRule lets one request at a time through to ratings, and refuses others at once.",
);

/// The file of what is said about requests.
const FILE: &str = "requests.yaml";

/// The services.
const REVIEWS: &str = "reviews";
const RATINGS: &str = "ratings";

/// Requests of each kind.
const ROUNDS: usize = 40;
const TESTS: usize = 10;
const POSTS: usize = 30;

pub(super) async fn route(stage: &Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    stage.cluster.write(FILE, objects::ROUTE)?;
    until("routes", async || {
        let heard = stage.request(REVIEWS, Method::GET, Some(("x-tester", "yes"))).await?;
        Ok((heard.body == "v2").then_some(()))
    })
    .await?;
    for _ in 0..TESTS {
        let heard = stage.request(REVIEWS, Method::GET, Some(("x-tester", "yes"))).await?;
        check("testers reach version 2", heard.body == "v2", &heard.body)?;
    }
    scene.fact(format!(
        "{TESTS} of {TESTS} requests with `x-tester: yes` reached version 2"
    ));
    let mut second = 0;
    for _ in 0..ROUNDS {
        let heard = stage.request(REVIEWS, Method::GET, None).await?;
        check("the others are answered", heard.status() == 200, &heard.body)?;
        second += usize::from(heard.body == "v2");
    }
    check("both have a share", (1..ROUNDS).contains(&second), &second.to_string())?;
    scene.fact(format!(
        "{second} of {ROUNDS} others did, and the rest reached version 1"
    ));
    Ok(())
}

pub(super) async fn deny(stage: &Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    let seen = stage.cluster.waypoint.log.count();
    stage
        .cluster
        .write(FILE, &format!("{}{}", objects::ROUTE, objects::DENY))?;
    let denied = until("the policy", async || {
        let heard = stage.request(REVIEWS, Method::DELETE, None).await?;
        Ok((heard.status() == 403).then_some(heard))
    })
    .await?;
    let reason = until("the access log", async || {
        let is_denial = |line: &serde_json::Value| line.to_string().contains("no-deletes");
        Ok(stage.cluster.waypoint.log.find(seen, is_denial))
    })
    .await?;
    let reason = reason
        .get("error")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    scene.fact(format!("DELETE is answered with {}: {}", denied.status(), denied.body));
    scene.fact(format!("the waypoint's access log says why: {reason}"));
    let heard = stage.request(REVIEWS, Method::GET, None).await?;
    check("GET is allowed", heard.status() == 200, &heard.body)?;
    scene.fact("GET is answered as before");
    Ok(())
}

pub(super) async fn retry(stage: &Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    let (before, seen) = (stage.ratings.requests(), stage.cluster.waypoint.log.count());
    let mut sent = 0;
    let again = until("a request that is tried again", async || {
        for _ in 0..POSTS {
            let heard = stage.request(RATINGS, Method::POST, None).await?;
            check("every request is answered", heard.status() == 200, &heard.body)?;
        }
        sent += POSTS;
        let attempts = until("the access log", async || {
            let attempts = attempts(stage, seen);
            Ok((attempts.len() == sent).then_some(attempts))
        })
        .await?;
        let again = attempts.into_iter().filter(|attempts| *attempts > 1).count();
        Ok((again > 0).then_some(again))
    })
    .await?;
    let executed = stage.ratings.requests() - before;
    check("no request is executed twice", executed == sent, &executed.to_string())?;
    scene.fact(format!(
        "{sent} of {sent} POST requests succeeded, and the replica that works executed {executed}: none twice"
    ));
    scene.fact(format!(
        "the waypoint's access log shows the retries: {again} of {sent} took more than one attempt"
    ));
    Ok(())
}

/// How often each POST was tried that the waypoint's access log tells of after so many lines.
fn attempts(stage: &Stage, seen: usize) -> Vec<u64> {
    let is_post = |line: &serde_json::Value| line.get("http.method").is_some_and(|method| method == "POST");
    let lines = stage.cluster.waypoint.log.all(seen, is_post);
    let attempts = lines.iter().filter_map(|line| line.get("attempts")?.as_u64());
    attempts.collect()
}

pub(super) async fn limit(stage: &Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    stage
        .cluster
        .write(FILE, &format!("{}{}", objects::ROUTE, objects::LIMIT))?;
    let limited = until("the limit", async || {
        let heard = stage.request(REVIEWS, Method::GET, None).await?;
        Ok((heard.status() == 429).then_some(heard))
    })
    .await?;
    let after = limited
        .head
        .headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    scene.fact(format!(
        "the next request is answered with 429, and may be made again after {} s",
        after.unwrap_or("?")
    ));
    stage.cluster.write(FILE, objects::ROUTE)?;
    until("the end of the limit", async || {
        let heard = stage.request(REVIEWS, Method::GET, None).await?;
        Ok((heard.status() == 200).then_some(()))
    })
    .await?;
    scene.fact("without the policy all are let through again");
    Ok(())
}

pub(super) async fn eject(stage: &Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    stage
        .cluster
        .write(FILE, &format!("{}{}", objects::ROUTE, objects::EJECT))?;
    stage.ratings.answers(500);
    let opened = until("the ejection", async || {
        let before = stage.ratings.requests();
        let heard = stage.request(RATINGS, Method::POST, None).await?;
        let is_asked = stage.ratings.requests() > before;
        Ok((!is_asked && heard.status() == 503).then_some(heard))
    })
    .await?;
    scene.fact(format!(
        "after errors of the only replica that works, requests are answered with {} without asking it",
        opened.status()
    ));
    stage.ratings.answers(200);
    until("recovery", async || {
        let heard = stage.request(RATINGS, Method::POST, None).await?;
        Ok((heard.status() == 200).then_some(()))
    })
    .await?;
    scene.fact("once it works again, and its time is over, it is asked again");
    Ok(())
}

pub(super) async fn overload(stage: &Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    stage
        .cluster
        .write(FILE, &format!("{}{}", objects::ROUTE, objects::BREAKER))?;
    stage.ratings.slow_down(true);
    let ask = || stage.request(RATINGS, Method::POST, None);
    let (heard, asked) = until("the breaker", async || {
        let before = stage.ratings.requests();
        let heard = tokio::try_join!(ask(), ask(), ask(), ask())?;
        let heard: [Heard; 4] = heard.into();
        let is_open = heard.iter().any(|heard| heard.status() == 503);
        Ok(is_open.then(|| (heard, stage.ratings.requests() - before)))
    })
    .await?;
    let answered = heard.iter().filter(|heard| heard.status() == 200).count();
    check(
        "refused requests are not executed",
        answered == asked,
        &asked.to_string(),
    )?;
    let refused = heard.iter().find(|heard| heard.status() == 503);
    scene.fact(format!(
        "of 4 requests at once {answered} got through, and {} were answered with 503: {}",
        heard.len() - answered,
        refused.map_or("", |refused| &refused.body)
    ));
    scene.fact("no replica heard of those");
    stage.ratings.slow_down(false);
    for _ in 0..heard.len() {
        let heard = ask().await?;
        check("the breaker is closed", heard.status() == 200, &heard.body)?;
    }
    scene.fact("with one at a time, 4 of 4 get through again");
    stage.cluster.write(FILE, objects::ROUTE)
}

fn check(wanted: &'static str, is_so: bool, seen: &str) -> Result<(), Undeclared> {
    let seen = seen.to_owned();
    is_so.then_some(()).ok_or(Undeclared::Other { wanted, seen })
}
