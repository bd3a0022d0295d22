//! Policies in another format.

mod wire;
mod yaml;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use mesh_policy::Budget;
use mesh_policy::authz::envoy::{self, ExportError, PeerSource};
use mesh_policy::authz::k8s::{self, Manifests};
use mesh_policy::authz::xds::{self, Scope};
use mesh_policy::authz::{AuthorizationPolicy, CompileError, Diagnostic, Dialect, Note, PolicyName, PolicySet};
use serde_json::Value;

use self::wire::WireError;
use super::policies::{self, LoadError};
use super::{Failure, Out, Outcome, args};
use crate::manifest;

pub(super) fn run(args: &args::Convert, out: &mut Out) -> Result<Outcome, Failure> {
    let mut losses = Vec::new();
    let read = policies::select(read(args, &mut losses)?, &args.recipient)?;
    let (value, text) = match args.to {
        args::Format::Kubernetes => manifests(&read)?,
        args::Format::EnvoyHttp => filters(args, Dialect::EnvoyHttp, read, &mut losses)?,
        args::Format::EnvoyTcp => filters(args, Dialect::EnvoyTcp, read, &mut losses)?,
        args::Format::Ztunnel => messages(args, &read, &mut losses)?,
    };
    let mut losses = losses.into_iter();
    if !args.lossy
        && let Some(first) = losses.next()
    {
        let more = losses.count();
        return Err(ConvertError::Lossy { first, more }.into());
    }
    out.print(&value, &text)?;
    let mut has_lost = false;
    for loss in losses {
        has_lost = true;
        writeln!(io::stderr(), "mesh-policy: left out: {loss}")?;
    }
    Ok(Outcome::found(has_lost))
}

/// Policies, and what they need beside them.
fn read(args: &args::Convert, losses: &mut Vec<Loss>) -> Result<Manifests, Failure> {
    let mut all = Manifests::default();
    for path in &args.policies {
        for file in policies::files(path)? {
            let name = file.display().to_string();
            let text = manifest::read(&file).map_err(LoadError::from)?;
            match args.from {
                args::Source::Kubernetes => {
                    let manifests = k8s::read(&name, &text, &Budget::new()).map_err(ConvertError::from)?;
                    losses.extend(left_out(&name, &manifests));
                    all.authorization.extend(manifests.authorization);
                    all.peer_authentication.extend(manifests.peer_authentication);
                }
                args::Source::Envoy => {
                    let policies = envoy::read(&name, &text, &Budget::new()).map_err(ConvertError::from)?;
                    all.authorization.extend(policies);
                }
                args::Source::Ztunnel => {
                    all.authorization
                        .extend(received(&file, &name, &text, &args.recipient.root_namespace, losses)?);
                }
            }
        }
    }
    Ok(all)
}

/// What of a file's objects cannot become policies.
fn left_out<'m>(file: &'m str, manifests: &'m Manifests) -> impl Iterator<Item = Loss> + 'm {
    let others = manifests.others.iter().map(|other| Loss::Object {
        file: file.to_owned(),
        line: other.line,
        kind: other.kind.clone(),
    });
    let tokens = manifests.request_authentication.iter().map(|request| Loss::Tokens {
        file: file.to_owned(),
        name: request.name.clone(),
    });
    others.chain(tokens)
}

fn received(
    path: &Path,
    file: &str,
    text: &str,
    root: &str,
    losses: &mut Vec<Loss>,
) -> Result<Vec<AuthorizationPolicy>, ConvertError> {
    let messages = wire::read(text, &Budget::new()).map_err(|error| ConvertError::Message {
        file: file.to_owned(),
        error,
    })?;
    let mut policies = Vec::with_capacity(messages.len());
    for message in messages {
        let received = xds::read(message).map_err(|error| ConvertError::Received {
            file: file.to_owned(),
            error,
        })?;
        let policy = received.policy.read_from(&path.display().to_string().into(), 1);
        let (place, name) = (Place::of(&policy), policy.name().clone());
        let is_mesh_wide = *name.namespace == *root;
        match received.scope {
            Scope::Workloads => losses.push(Loss::Selector { place, policy: name }),
            scope if (scope == Scope::Mesh) != is_mesh_wide => losses.push(Loss::Scope { place, policy: name }),
            _ => {}
        }
        policies.push(policy);
    }
    Ok(policies)
}

/// What is printed: for programs, and for people.
type Printed = (Value, String);

fn manifests(policies: &[AuthorizationPolicy]) -> Result<Printed, Failure> {
    let invalid: Vec<_> = policies
        .iter()
        .flat_map(|policy| policy.validate(&Budget::new()))
        .collect();
    if !invalid.is_empty() {
        return Err(CompileError::Invalid(invalid).into());
    }
    let items = policies.iter().map(|policy| serde_json::to_value(k8s::write(policy)));
    let items = items.collect::<Result<Vec<_>, _>>().map_err(io::Error::from)?;
    let documents: Vec<_> = items.iter().map(yaml::document).collect();
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items });
    Ok((list, documents.join("---\n")))
}

fn filters(
    args: &args::Convert,
    dialect: Dialect,
    policies: Vec<AuthorizationPolicy>,
    losses: &mut Vec<Loss>,
) -> Result<Printed, Failure> {
    let set = args.mesh.compiler(dialect).compile(policies)?;
    losses.extend(of_plane(&set));
    let peer = match args.recipient.waypoint {
        Some(_) => PeerSource::FilterState,
        None => PeerSource::Certificate,
    };
    let filters = envoy::export(&set, peer).map_err(ConvertError::from)?;
    let value = serde_json::to_value(filters).map_err(io::Error::from)?;
    let text = yaml::document(&value);
    Ok((value, text))
}

fn messages(
    args: &args::Convert,
    policies: &[AuthorizationPolicy],
    losses: &mut Vec<Loss>,
) -> Result<Printed, Failure> {
    let set = args.mesh.compiler(Dialect::Ztunnel).compile(policies.to_vec())?;
    losses.extend(of_plane(&set));
    let root = &args.recipient.root_namespace;
    let tried = policies.iter().filter(|policy| policy.is_dry_run());
    losses.extend(tried.map(|policy| Loss::DryRun {
        place: Place::of(policy),
        policy: policy.name().clone(),
    }));
    let messages = policies.iter().filter_map(|policy| xds::write(policy, root));
    let value = wire::write(messages).map_err(io::Error::from)?;
    let text = serde_json::to_string_pretty(&value).map_err(io::Error::from)?;
    Ok((value, text))
}

/// What a plane is not sent, or cannot take.
fn of_plane(set: &PolicySet) -> Vec<Loss> {
    let is_loss = |diagnostic: &&Diagnostic| {
        matches!(
            diagnostic.note,
            Note::ActionIgnored
                | Note::TargetIgnored
                | Note::RuleOmitted { .. }
                | Note::FieldIgnored { .. }
                | Note::EntryWithoutEffect
                | Note::Tolerated(_)
                | Note::RuleInvalid(_)
        )
    };
    set.diagnostics()
        .filter(is_loss)
        .cloned()
        .map(|diagnostic| Loss::Of(Box::new(diagnostic)))
        .collect()
}

/// Something that a format cannot hold.
#[derive(Debug)]
pub(super) enum Loss {
    Of(Box<Diagnostic>),
    /// ztunnel is told which policies a workload has, and not why.
    Selector {
        place: Place,
        policy: PolicyName,
    },
    /// Elsewhere a policy is the whole mesh's if it is in the root namespace, and only then.
    Scope {
        place: Place,
        policy: PolicyName,
    },
    /// A ztunnel before 1.29 would enforce it.
    DryRun {
        place: Place,
        policy: PolicyName,
    },
    /// An object that is no policy.
    Object {
        file: String,
        line: u32,
        kind: String,
    },
    /// Which tokens are believed, which only Kubernetes has beside policies.
    Tokens {
        file: String,
        name: PolicyName,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(diagnostic) => diagnostic.fmt(f),
            Self::Selector { place, policy } => write!(
                f,
                "{place}policy `{policy}`: scope: the message does not say which workloads are selected"
            ),
            Self::Scope { place, policy } => write!(
                f,
                "{place}policy `{policy}`: scope: it is not what the policy's namespace says, by --root-namespace"
            ),
            Self::DryRun { place, policy } => {
                write!(
                    f,
                    "{place}policy `{policy}`: dry-run: what is only tried out is not sent"
                )
            }
            Self::Object { file, line, kind } => write!(f, "{file}:{line}: kind: a `{kind}` is no policy"),
            Self::Tokens { file, name } => {
                write!(
                    f,
                    "{file}: RequestAuthentication `{name}`: jwtRules: policies do not say which tokens are believed"
                )
            }
        }
    }
}

/// Where a policy begins, to be put before a message.
#[derive(Debug)]
pub(super) struct Place(Option<(String, u32)>);

impl Place {
    fn of(policy: &AuthorizationPolicy) -> Self {
        Self(policy.file().map(|file| (file.to_string(), policy.line())))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((file, line)) => write!(f, "{file}:{line}: "),
            None => Ok(()),
        }
    }
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConvertError {
    #[error(transparent)]
    Manifest(#[from] k8s::ReadError),
    #[error(transparent)]
    Filter(#[from] envoy::ReadError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("{file}:{}: {error}", .error.line())]
    Message {
        file: String,
        #[source]
        error: WireError,
    },
    #[error("{file}: {error}")]
    Received {
        file: String,
        #[source]
        error: xds::ReadError,
    },
    #[error("{first}{} (--lossy leaves it out)", and_more(*.more))]
    Lossy { first: Loss, more: usize },
}

fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    }
}
