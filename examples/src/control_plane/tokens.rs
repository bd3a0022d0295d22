//! Who is let in: whoever brings a token of a service account.

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::Status;

use super::compile::Caller;
use super::objects::Bearer;
use super::state::State;

/// Between two looks at the clock, which may be set.
const LOOK: Duration = Duration::from_secs(60);

/// Tells callers by their tokens.
#[derive(Clone)]
pub(super) struct Tokens(watch::Receiver<Arc<State>>);

/// Somebody who was let in.
#[derive(Clone)]
pub(super) struct Admission {
    pub(super) caller: Caller,
    token: Bearer,
    state: watch::Receiver<Arc<State>>,
}

impl Tokens {
    pub(super) fn new(state: watch::Receiver<Arc<State>>) -> Self {
        Self(state)
    }

    /// Who brings a request.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Admission, Status> {
        let refused = || Status::unauthenticated("no valid bearer token");
        let header = headers.get(AUTHORIZATION).ok_or_else(refused)?;
        let token = header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
        let token = Bearer(token.ok_or_else(refused)?.to_owned());
        let state = self.0.clone();
        let caller = state.borrow().mesh.callers.get(&token).cloned();
        let caller = caller.ok_or_else(refused)?;
        if has_passed(caller.expires) {
            return Err(Status::unauthenticated("the bearer token has expired"));
        }
        Ok(Admission { caller, token, state })
    }
}

impl Admission {
    /// Waits until the token is good no longer, or stands for somebody else.
    pub(super) async fn withdrawn(mut self) {
        let Caller { expires, .. } = self.caller;
        let is_another = |state: &Arc<State>| state.mesh.callers.get(&self.token) != Some(&self.caller);
        tokio::select! {
            // Also if nobody is left who would withdraw it.
            _ = self.state.wait_for(is_another) => {}
            () = passed(expires) => {}
        }
    }
}

async fn passed(moment: Option<UnixTime>) {
    while !has_passed(moment) {
        let left = moment.map(|moment| moment.as_secs().saturating_sub(UnixTime::now().as_secs()));
        sleep(left.map_or(LOOK, |left| Duration::from_secs(left).min(LOOK))).await;
    }
}

fn has_passed(moment: Option<UnixTime>) -> bool {
    moment.is_some_and(|moment| moment <= UnixTime::now())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::super::compile::Mesh;
    use super::super::objects::Key;
    use super::*;

    const TOKEN: &str = "a-token-of-somebody";

    /// The state in which the token is good for so many seconds from now on.
    fn state(lifetime: Option<i64>) -> Arc<State> {
        let mut mesh = Mesh::default();
        let account = Key {
            namespace: "shop".into(),
            name: "cart".into(),
        };
        let expires = lifetime.map(|seconds| {
            let seconds = UnixTime::now().as_secs().saturating_add_signed(seconds);
            UnixTime::since_unix_epoch(Duration::from_secs(seconds))
        });
        let caller = Caller {
            account,
            node: None,
            waypoint: None,
            expires,
        };
        mesh.callers.insert(Bearer(TOKEN.to_owned()), caller);
        let (mesh, problem) = (mesh.into(), None);
        Arc::new(State { mesh, problem })
    }

    fn admit(state: &watch::Receiver<Arc<State>>) -> Result<Admission, Status> {
        let header = format!("Bearer {TOKEN}").parse().unwrap();
        Tokens::new(state.clone()).admit(&[(AUTHORIZATION, header)].into_iter().collect())
    }

    #[test]
    fn a_token_that_has_expired_lets_nobody_in() {
        let (_keep, follower) = watch::channel(state(Some(-1)));
        let refusal = admit(&follower).map(|_| ()).unwrap_err();
        assert_eq!(refusal.message(), "the bearer token has expired");
        let (_keep, follower) = watch::channel(state(Some(60)));
        assert_eq!(admit(&follower).unwrap().caller.account.to_string(), "shop/cart");
    }

    #[tokio::test]
    async fn an_admission_ends_when_its_token_expires() {
        let (_keep, follower) = watch::channel(state(Some(1)));
        let withdrawn = admit(&follower).unwrap().withdrawn();
        timeout(Duration::from_secs(20), withdrawn).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_admission_ends_with_its_token_and_not_with_another_change() {
        let (change, follower) = watch::channel(state(None));
        let mut withdrawn = Box::pin(admit(&follower).unwrap().withdrawn());
        change.send_replace(state(None));
        let day = Duration::from_secs(86_400);
        assert!(timeout(day, withdrawn.as_mut()).await.is_err());
        let (mesh, problem) = (Mesh::default().into(), None);
        change.send_replace(Arc::new(State { mesh, problem }));
        timeout(day, withdrawn).await.unwrap();
    }
}
