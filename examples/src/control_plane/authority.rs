//! The certificate authority: `istio.v1.auth.IstioCertificateService`.

use std::sync::Arc;
use std::time::Duration;

use mesh_identity::source::dev_ca::{CertificateRequest, DevCaError, Issued, Template};
use mesh_identity::{SpiffeId, SpiffeIdError, provider};
use mesh_xds_types::auth::istio_certificate_service_server::IstioCertificateService;
use mesh_xds_types::auth::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_xds_types::workload::Workload;
use prost_types::value::Kind;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateSigningRequestDer, UnixTime};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::compile::{Caller, Settings};
use super::objects::Key;
use super::roots::{LIFETIME, Roots};
use super::state::State;

/// The account that the control plane itself has, in the root namespace.
const OWN_ACCOUNT: &str = "istiod";

/// Signs for workloads.
#[derive(Clone)]
pub(super) struct Authority {
    roots: Arc<Roots>,
    settings: Settings,
    state: watch::Receiver<Arc<State>>,
}

impl Authority {
    pub(super) fn new(settings: Settings, roots: Arc<Roots>, state: watch::Receiver<Arc<State>>) -> Self {
        Self { roots, settings, state }
    }

    /// A certificate for the control plane itself.
    pub(super) fn issue_own(&self, template: impl FnOnce(&SpiffeId) -> Template) -> Result<Issued, OwnError> {
        let account = Key {
            namespace: self.settings.root_namespace.clone(),
            name: OWN_ACCOUNT.to_owned(),
        };
        Ok(self.roots.issue_with(template(&self.identity(&account)?))?)
    }

    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Whom a caller's certificate is for.
    fn subject(&self, caller: &Caller, request: &IstioCertificateRequest) -> Result<SpiffeId, Status> {
        let own = self.identity(&caller.account);
        let own = own.map_err(|error| Status::internal(error.to_string()))?;
        let Some(wanted) = impersonated(request) else {
            return Ok(own);
        };
        let id: SpiffeId = wanted
            .parse()
            .map_err(|_| Status::invalid_argument("the impersonated identity is malformed"))?;
        if id == own {
            return Ok(own);
        }
        let node = caller
            .node
            .as_deref()
            .ok_or_else(|| Status::permission_denied("the caller speaks for no node"))?;
        let state = self.state.borrow();
        let mut residents = state.mesh.workloads.values().filter(|workload| workload.node == node);
        match residents.any(|workload| self.is_of(workload, &id)) {
            true => Ok(id),
            false => Err(Status::permission_denied(format!(
                "`{id}` does not run on node `{node}`"
            ))),
        }
    }

    fn is_of(&self, workload: &Workload, id: &SpiffeId) -> bool {
        let account = Key {
            namespace: workload.namespace.clone(),
            name: workload.service_account.clone(),
        };
        self.identity(&account).is_ok_and(|own| own == *id)
    }

    fn identity(&self, account: &Key) -> Result<SpiffeId, SpiffeIdError> {
        let trust_domain = &self.settings.trust_domain;
        format!("spiffe://{trust_domain}/ns/{}/sa/{}", account.namespace, account.name).parse()
    }

    fn sign(&self, id: &SpiffeId, request: &IstioCertificateRequest) -> Result<Vec<String>, Status> {
        let der = CertificateSigningRequestDer::from_pem_slice(request.csr.as_bytes())
            .map_err(|_| Status::invalid_argument("the certificate request is no PEM text"))?;
        let algorithms = provider::aws_lc_rs().signature_verification_algorithms;
        let csr = CertificateRequest::from_der(&der, algorithms.all)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let now = UnixTime::now();
        let template = Template {
            not_after: UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + lifetime(request)),
            ..Template::leaf(id, now)
        };
        let signed = self.roots.certify(&csr, template);
        signed.map_err(|error| Status::internal(error.to_string()))
    }
}

/// Why the control plane has no certificate of its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnError {
    #[error(transparent)]
    Identity(#[from] SpiffeIdError),
    #[error(transparent)]
    Authority(#[from] DevCaError),
}

#[tonic::async_trait]
impl IstioCertificateService for Authority {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        // Whoever serves has seen the token.
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("nobody knows the caller"))?;
        let request = request.into_inner();
        let (account, node) = (&caller.account, caller.node.as_deref().unwrap_or_default());
        let id = self.subject(&caller, &request);
        let signed = id.and_then(|id| Ok((self.sign(&id, &request)?, id)));
        match signed {
            Ok((cert_chain, id)) => {
                tracing::info!(%id, %account, node, "certificate issued");
                Ok(Response::new(IstioCertificateResponse { cert_chain }))
            }
            Err(refusal) => {
                tracing::warn!(%account, node, reason = refusal.message(), "certificate refused");
                Err(refusal)
            }
        }
    }
}

/// The identity that a node asks for, if it does not ask for its own.
fn impersonated(request: &IstioCertificateRequest) -> Option<&str> {
    match &request.metadata.as_ref()?.fields.get("ImpersonatedIdentity")?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        // What is no text is no identity either.
        _ => Some(""),
    }
}

fn lifetime(request: &IstioCertificateRequest) -> Duration {
    match u64::try_from(request.validity_duration) {
        Ok(0) | Err(_) => LIFETIME,
        Ok(seconds) => Duration::from_secs(seconds).min(LIFETIME),
    }
}
