//! Services outside that have a say in a request, and what they are asked.
//!
//! A worker has an [`External`], and calls two functions of it on a request's way:
//!
//! 1. [`External::authorize`] with the providers whose CUSTOM policies match (`Decision::providers`),
//!    before anything else decides. What comes back is the request with what they changed about it, and
//!    what is to be changed about its response; or [`Unauthorized`].
//! 2. [`External::limit`] once the request is authorized. What comes back is what is to be changed
//!    about the request and its response; or [`Refused`].
//!
//! Both take as long as the services may: 200 ms for each provider and 20 ms for limits, if the
//! configuration does not say otherwise, plus what the request's body takes that a provider is to be
//! told of, a minute at most for each. Dropping either future ends the call.
//!
//! Spans of requests begin with [`Spans::begin`], which also tells the next one of the trace, and end
//! with what came of the request.
//!
//! Keys for RequestAuthentication are [`Keys`], which a snapshot's policies are told to.

mod about;
mod authorization;
mod body;
mod caller;
mod config;
mod counts;
mod edits;
#[cfg(test)]
mod fake;
mod keys;
mod limits;
mod names;
#[cfg(feature = "otlp")]
mod otlp;
mod refused;
mod spans;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "otlp")]
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Body;
use mesh_policy::Facts;
use mesh_policy::traffic::rate::{Clusters, Descriptors};

pub(super) use self::about::{About, End};
use self::authorization::Provider;
pub(super) use self::authorization::Unauthorized;
pub(super) use self::body::Begun;
#[cfg(feature = "otlp")]
use self::caller::Called;
pub(super) use self::config::Config;
use self::counts::Counts;
pub(super) use self::edits::Edits;
pub(super) use self::keys::Keys;
use self::limits::Limits;
pub(super) use self::limits::Within;
pub(super) use self::refused::{Reason, Refused};
pub(super) use self::spans::{Attribute, Ended, Open, Spans};
use crate::proxy::control_plane::DialSetupError;
use crate::workers::Driver;

/// As long as OpenTelemetry's exporters wait for a collector.
#[cfg(feature = "otlp")]
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The services, as all workers share them.
#[derive(Clone)]
pub(super) struct Services {
    providers: Vec<Provider>,
    limits: Option<Limits>,
    spans: Spans,
    counts: Arc<Counts>,
}

impl Services {
    /// What the configuration names, and the keys, with what keeps them and sends spans.
    ///
    /// # Errors
    ///
    /// A service that cannot be authenticated as the configuration asks, or has the name of another.
    pub(super) fn new(config: &Config) -> Result<(Self, Keys, Driver), ServicesError> {
        let Config {
            authorization,
            limits,
            keys,
            traces,
        } = config;
        let counts = Counts::new();
        let mut providers: Vec<Provider> = Vec::new();
        for provider in authorization.iter().cloned() {
            let name = provider.name.clone();
            if providers.iter().any(|other| other.name() == &*name) {
                return Err(ServicesError::Twice { name });
            }
            let provider = Provider::new(provider, &counts);
            providers.push(provider.map_err(|error| ServicesError::Provider { name, error })?);
        }
        let limits = limits
            .clone()
            .map(|limits| Limits::new(limits, &counts))
            .transpose()
            .map_err(ServicesError::Limits)?;
        let (spans, exporting) = match traces {
            Some(traces) => exported(traces.clone())?,
            None => (Spans::none(), None),
        };
        let (keys, fetching) = Keys::new(keys);
        let driver = Driver::new("external services", async {
            tokio::join!(fetching, async {
                match exporting {
                    Some(exporting) => exporting.await,
                    None => std::future::pending().await,
                }
            });
        });
        let services = Self {
            providers,
            limits,
            spans,
            counts: Arc::new(counts),
        };
        Ok((services, keys, driver))
    }

    /// What came of questions, in the text format of OpenMetrics, without its end.
    pub(super) fn encode(&self, text: &mut String) -> Result<(), fmt::Error> {
        self.counts.encode(text)
    }

    /// What begins spans of requests.
    pub(super) fn spans(&self) -> Spans {
        self.spans.clone()
    }

    /// A worker's connections, which are made when they are first needed. Takes the worker's runtime.
    pub(super) fn connect(&self) -> External {
        let providers = self.providers.iter();
        External {
            providers: providers
                .map(|provider| (provider.name().into(), provider.asked()))
                .collect(),
            limits: self.limits.as_ref().map(Limits::asked),
        }
    }
}

/// What sends spans, for as long as it is polled.
type Exporting = Pin<Box<dyn Future<Output = Infallible> + Send>>;

#[cfg(feature = "otlp")]
fn exported(traces: config::Traces) -> Result<(Spans, Option<Exporting>), ServicesError> {
    let config::Traces {
        server,
        service_name,
        sample_percent,
    } = traces;
    let called = Called::new("traces", server, EXPORT_TIMEOUT, 1).map_err(ServicesError::Traces)?;
    let (spans, collected) = Spans::collected(sample_percent);
    Ok((spans, Some(Box::pin(otlp::export(called, service_name, collected)))))
}

#[cfg(not(feature = "otlp"))]
fn exported(_: config::Traces) -> Result<(Spans, Option<Exporting>), ServicesError> {
    Err(ServicesError::NoTraces)
}

/// A worker's way to the services.
pub(super) struct External {
    providers: HashMap<Box<str>, authorization::Asked>,
    limits: Option<limits::Asked>,
}

/// A request that every provider lets pass.
#[derive(Debug)]
pub(super) struct Authorized<B> {
    /// As they changed it.
    pub(super) request: Request<Begun<B>>,
    /// What is to be changed about its response.
    pub(super) response: Edits,
}

impl External {
    /// Asks each of `providers` whether a request may pass, one after another.
    ///
    /// # Errors
    ///
    /// One of them says no, or does not answer, or is not known: the request must not pass. Or its
    /// body failed while it was read for them.
    ///
    /// # Cancel safety
    ///
    /// The request is lost; no provider's answer has any effect elsewhere.
    pub(super) async fn authorize<B: Body<Data = Bytes> + Unpin>(
        &self,
        providers: impl IntoIterator<Item = &str>,
        request: Request<B>,
        about: &About<'_>,
    ) -> Result<Authorized<B>, Unauthorized<B::Error>> {
        let mut request = request.map(Begun::untouched);
        let mut response = Edits::default();
        for name in providers {
            let provider = self.providers.get(name).ok_or_else(authorization::unknown)?;
            request = provider.ask(request, about, &mut response).await?;
        }
        Ok(Authorized { request, response })
    }

    /// Whether the configuration has requests to `service` counted, which is its `namespace/hostname`.
    pub(super) fn limits_requests(&self, service: &str) -> bool {
        self.limits.as_ref().is_some_and(|limits| limits.is_about(service))
    }

    /// Asks whether a request to `service`, which is its `namespace/hostname`, is one too many, also by
    /// what policies have `more` to ask.
    ///
    /// # Errors
    ///
    /// It is, or nobody answers and that is to refuse it.
    ///
    /// # Cancel safety
    ///
    /// The request may have been counted.
    pub(super) fn limit<'s>(
        &'s self,
        service: &str,
        more: &[&Descriptors],
        facts: Facts<'_>,
        clusters: Clusters<'_>,
    ) -> impl Future<Output = Result<Within, Refused>> + Send + use<'s> {
        let limits = self.limits.as_ref();
        // Before anybody waits: facts are for one thread.
        let asking = limits.map(|limits| (limits, limits.descriptors(service, more, facts, clusters)));
        async move {
            match asking {
                Some((limits, descriptors)) => limits.ask(descriptors).await,
                None => Ok(Within::default()),
            }
        }
    }
}

/// What is wrong with what the configuration says about services.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServicesError {
    #[error("external.authorization: `{}` is there twice", name.escape_debug())]
    Twice { name: Box<str> },
    #[error("external.authorization `{}`: server.{error}", name.escape_debug())]
    Provider {
        name: Box<str>,
        #[source]
        error: DialSetupError,
    },
    #[error("external.limits: server.{0}")]
    Limits(#[source] DialSetupError),
    #[cfg(feature = "otlp")]
    #[error("external.traces: server.{0}")]
    Traces(#[source] DialSetupError),
    #[cfg(not(feature = "otlp"))]
    #[error("external.traces: this program was built without the feature `otlp`")]
    NoTraces,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_with_service_and_field() {
        let provider =
            |more: &str| format!("[[authorization]]\nname = 'opa'\nserver = {{ address = 'opa:1'{more} }}\n");
        let limits =
            "[limits]\ndomain = 'mesh'\nrules = []\nserver = { address = 'a:1', roots = '/nowhere' }".to_owned();
        for (config, expected) in [
            (
                provider("") + &provider(""),
                "external.authorization: `opa` is there twice",
            ),
            (
                provider(", roots = '/nowhere'"),
                "external.authorization `opa`: server.roots: /nowhere: ",
            ),
            (
                provider(", roots = '/nowhere', server_name = 'a b'"),
                "external.authorization `opa`: server.server_name: ",
            ),
            (limits, "external.limits: server.roots: /nowhere: "),
        ] {
            let config: Config = toml::from_str(&config).unwrap();
            let Err(error) = Services::new(&config) else {
                panic!("{expected}")
            };
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
