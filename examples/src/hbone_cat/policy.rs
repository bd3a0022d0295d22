//! Authorization policies from files, as they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::{io, thread};

use mesh_identity::TrustDomain;
use mesh_policy::authz::{AuthorizationPolicy, CompileError, Compiler, Dialect, PolicySet, Target, TrustDomains};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::manifest::{self, ParseError, Twice, Unreadable};
use crate::settle::{INTERVAL, Settling};
use crate::workers::Keepers;

/// Reads policies, and has a keeper follow their files until nobody asks any more.
pub(super) fn follow(
    files: &[PathBuf],
    trust_domain: &TrustDomain,
    keepers: &Keepers,
) -> Result<watch::Receiver<Arc<PolicySet>>, PolicyError> {
    let files = Files {
        paths: files.to_vec(),
        trust_domains: TrustDomains::new(trust_domain.as_str()),
    };
    let texts = files.read()?;
    let (publish, policies) = watch::channel(Arc::new(files.compile(&texts, 1)?));
    keepers.start("policies", move || files.keep_up(texts, &publish))?;
    Ok(policies)
}

struct Files {
    paths: Vec<PathBuf>,
    trust_domains: TrustDomains,
}

impl Files {
    fn read(&self) -> Result<Vec<String>, PolicyError> {
        let texts = self.paths.iter().map(|path| manifest::read(path));
        Ok(texts.collect::<Result<_, Unreadable>>()?)
    }

    fn compile(&self, texts: &[String], version: u64) -> Result<PolicySet, PolicyError> {
        let mut policies = Vec::new();
        for (path, text) in self.paths.iter().zip(texts) {
            let manifests = manifest::parse(path, text)?;
            if !manifests.request_authentication.is_empty() {
                return Err(PolicyError::Tokens { path: path.clone() });
            }
            if !manifests.peer_authentication.is_empty() {
                return Err(PolicyError::Certificates { path: path.clone() });
            }
            // Without any policy all would be admitted, and a copy that broke off looks like that.
            if manifests.authorization.is_empty() {
                return Err(PolicyError::Empty { path: path.clone() });
            }
            policies.extend(manifests.authorization);
        }
        manifest::check_names(&policies)?;
        if let Some(policy) = policies.iter().find(|policy| *policy.target() != Target::Namespace) {
            return Err(PolicyError::targeted(policy));
        }
        let compiler = Compiler::new(Dialect::Strict).trust_domains(self.trust_domains.clone());
        let set = compiler.version(version).compile(policies)?;
        for diagnostic in set.diagnostics() {
            tracing::warn!("{diagnostic}");
        }
        Ok(set)
    }

    /// Publishes what the files come to say, and keeps the last good set otherwise.
    fn keep_up(&self, texts: Vec<String>, publish: &watch::Sender<Arc<PolicySet>>) {
        let mut settling = Settling::new(Ok(texts));
        let mut reported = String::new();
        while !publish.is_closed() {
            thread::sleep(INTERVAL);
            let read = self.read().map_err(|error| error.to_string());
            let Some(taken) = settling.take(read, Instant::now()) else {
                continue;
            };
            let version = publish.borrow().version() + 1;
            let compile = |texts: &Vec<String>| self.compile(texts, version).map_err(|error| error.to_string());
            match taken.as_ref().map_err(String::clone).and_then(compile) {
                Ok(set) => {
                    let count = set.policies().count();
                    publish.send_replace(Arc::new(set));
                    tracing::info!("policies changed: {count} in force");
                    reported.clear();
                }
                Err(reason) if reason != reported => {
                    tracing::warn!(%reason, "policies kept as they were");
                    reported = reason;
                }
                Err(_) => {}
            }
        }
    }
}

/// Why policies are not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PolicyError {
    #[error(transparent)]
    File(#[from] Unreadable),
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("{}: there is no policy in it; one that allows all has `rules: [{{}}]`", path.display())]
    Empty { path: PathBuf },
    #[error(transparent)]
    Twice(#[from] Twice),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("{file}:{line}: policy `{policy}`: a selector or target selects nothing here: every policy applies")]
    Targeted { file: String, line: u32, policy: String },
    #[error("{}: tokens are not verified here, so RequestAuthentication has no effect", path.display())]
    Tokens { path: PathBuf },
    #[error("{}: every peer shows a certificate here, so PeerAuthentication has no effect", path.display())]
    Certificates { path: PathBuf },
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}

impl PolicyError {
    fn targeted(policy: &AuthorizationPolicy) -> Self {
        Self::Targeted {
            file: policy.file().map(ToString::to_string).unwrap_or_default(),
            line: policy.line(),
            policy: policy.name().to_string(),
        }
    }
}
