//! Authorization policies from files, as they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io, thread};

use mesh_identity::TrustDomain;
use mesh_policy::Budget;
use mesh_policy::authz::k8s::{self, ReadError};
use mesh_policy::authz::{AuthorizationPolicy, CompileError, Compiler, Dialect, PolicySet, Target, TrustDomains};
use tokio::sync::watch;

use crate::following::{Following, INTERVAL};

/// Reads policies, and has a thread follow their files until nobody asks any more.
pub(super) fn follow(
    files: &[PathBuf],
    trust_domain: &TrustDomain,
) -> Result<watch::Receiver<Arc<PolicySet>>, PolicyError> {
    let files = Files {
        paths: files.to_vec(),
        trust_domains: TrustDomains::new(trust_domain.as_str()),
    };
    let texts = files.read()?;
    let (publish, policies) = watch::channel(Arc::new(files.compile(&texts, 1)?));
    thread::Builder::new()
        .name("policies".to_owned())
        .spawn(move || files.keep_up(texts, &publish))?;
    Ok(policies)
}

struct Files {
    paths: Vec<PathBuf>,
    trust_domains: TrustDomains,
}

impl Files {
    fn read(&self) -> Result<Vec<String>, PolicyError> {
        self.paths.iter().map(|path| read(path)).collect()
    }

    fn compile(&self, texts: &[String], version: u64) -> Result<PolicySet, PolicyError> {
        let mut policies = Vec::new();
        for (path, text) in self.paths.iter().zip(texts) {
            let manifests = k8s::read(&path.display().to_string(), text, &Budget::new())?;
            if !manifests.request_authentication.is_empty() {
                return Err(PolicyError::Tokens { path: path.clone() });
            }
            policies.extend(manifests.authorization);
        }
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
        let mut following = Following::new(texts);
        while !publish.is_closed() {
            thread::sleep(INTERVAL);
            let Some(texts) = following.look(self.read().map_err(|error| error.to_string())) else {
                continue;
            };
            let version = publish.borrow().version() + 1;
            let compiled = texts.and_then(|texts| self.compile(&texts, version).map_err(|error| error.to_string()));
            match compiled {
                Ok(set) => {
                    tracing::info!("policies changed: {} in force", set.policies().count());
                    publish.send_replace(Arc::new(set));
                    following.accepted();
                }
                Err(reason) => {
                    if following.refused(&reason) {
                        tracing::warn!(%reason, "policies kept as they were");
                    }
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<String, PolicyError> {
    fs::read_to_string(path).map_err(|error| PolicyError::File {
        path: path.to_owned(),
        error,
    })
}

/// Why policies are not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PolicyError {
    #[error("{}: {error}", path.display())]
    File {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("{file}:{line}: policy `{policy}`: a selector or target selects nothing here: every policy applies")]
    Targeted { file: String, line: u32, policy: String },
    #[error("{}: tokens are not verified here, so RequestAuthentication has no effect", path.display())]
    Tokens { path: PathBuf },
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
