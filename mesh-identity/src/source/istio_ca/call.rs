//! One call of `CreateCertificate`.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Uri, uri::PathAndQuery};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::UnixTime;
use thiserror::Error;
use tonic::{client::Grpc, metadata::MetadataMap};
use tonic_prost::ProstCodec;

use super::{
    address::Security,
    answer::{AnswerError, Expected, Issued},
    config::{CaConfig, Subject},
    connect::{ConnectError, Requests, exchange},
    request::Request,
    token::{self, TokenError},
    wire,
};
use crate::{pem::MAX_PEM_BYTES, spiffe_id::SpiffeId};

/// The most of a status message that is kept, in characters.
const MAX_MESSAGE: usize = 200;

/// Makes calls.
pub(super) struct Caller {
    pub(super) config: CaConfig,
    pub(super) provider: Arc<CryptoProvider>,
}

impl Caller {
    /// Obtains a certificate with a new key, and says at which moment it was judged.
    pub(super) async fn obtain(&self, id: &SpiffeId) -> Result<(Issued, UnixTime), CaError> {
        let deadline = self.config.deadline;
        match tokio::time::timeout(deadline, self.call(id)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CaError::Deadline { deadline }),
        }
    }

    async fn call(&self, id: &SpiffeId) -> Result<(Issued, UnixTime), CaError> {
        let authorization = token::authorization(&self.config.token)?;
        let request = Request::new(id)?;
        let message = self.message(id, &request);
        let response = exchange(&self.config, &self.provider, async |requests| {
            self.ask(requests, authorization, message).await
        })
        .await?;
        let now = self.config.clock.current_time().ok_or(CaError::NoClock)?;
        let expected = Expected {
            id,
            roots: self.config.roots.as_deref(),
            profile: self.config.profile,
            provider: &self.provider,
            now,
        };
        Ok((expected.check(&response.cert_chain, request.into_key())?, now))
    }

    fn message(&self, id: &SpiffeId, request: &Request) -> wire::CertificateRequest {
        let mut metadata = wire::Struct::default();
        let mut add = |name: &str, text: String| {
            let value = wire::Value {
                string_value: Some(text),
            };
            metadata.fields.insert(name.to_owned(), value);
        };
        if let Some(signer) = &self.config.signer {
            add("CertSigner", signer.clone());
        }
        if let Subject::MembersOf(_) = self.config.subject {
            add("ImpersonatedIdentity", id.to_string());
        }
        wire::CertificateRequest {
            csr: request.pem.clone(),
            validity_duration: i64::try_from(self.config.lifetime.as_secs()).unwrap_or(i64::MAX),
            metadata: (!metadata.fields.is_empty()).then_some(metadata),
        }
    }

    async fn ask(
        &self,
        requests: Requests,
        authorization: HeaderValue,
        message: wire::CertificateRequest,
    ) -> Result<wire::CertificateResponse, CaError> {
        let scheme = match self.config.address.security {
            Security::Tls { .. } => http::uri::Scheme::HTTPS,
            Security::Plaintext => http::uri::Scheme::HTTP,
        };
        let mut origin = http::uri::Parts::default();
        origin.scheme = Some(scheme);
        origin.authority = Some(self.config.address.authority.clone());
        origin.path_and_query = Some(PathAndQuery::from_static("/"));
        // All three parts are there.
        let origin = Uri::from_parts(origin).unwrap_or_default();
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::AUTHORIZATION, authorization);
        headers.insert("clusterid", self.config.cluster.clone());
        let request = tonic::Request::from_parts(MetadataMap::from_headers(headers), http::Extensions::new(), message);
        let mut client = Grpc::with_origin(requests, origin).max_decoding_message_size(MAX_PEM_BYTES);
        client.ready().await.map_err(ConnectError::Http)?;
        let response = client
            .unary(
                request,
                PathAndQuery::from_static(wire::PATH),
                ProstCodec::<wire::CertificateRequest, wire::CertificateResponse>::default(),
            )
            .await?;
        Ok(response.into_inner())
    }
}

/// Why a certificate was not obtained.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CaError {
    /// There is no bearer token to show.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No key could be made, or no request of it.
    #[error("no key and certificate request can be made: {0}")]
    Key(#[from] rcgen::Error),
    /// There is no connection to the authority.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The call was not answered in time.
    #[error("the authority did not answer within {deadline:?}")]
    Deadline {
        /// The time that a call may take.
        deadline: Duration,
    },
    /// The authority refused, or the call failed on the way.
    #[error("the authority answered with gRPC status {code}: `{message}`")]
    Status {
        /// The gRPC status code.
        code: i32,
        /// What the authority had to say, cut short, with control characters escaped.
        message: String,
    },
    /// The answer is not what was asked for.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The clock could not be read.
    #[error("the clock could not be read")]
    NoClock,
}

impl From<tonic::Status> for CaError {
    fn from(status: tonic::Status) -> Self {
        let message = status.message().chars().take(MAX_MESSAGE);
        Self::Status {
            code: status.code().into(),
            message: message.flat_map(char::escape_debug).collect(),
        }
    }
}
