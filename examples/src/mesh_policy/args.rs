//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use mesh_policy::PathNormalization;
use mesh_policy::authz::{Compiler, Dialect, TrustDomains};

/// Check, explain, lint, compare and convert Istio's authorization policies, without a cluster.
///
/// Policies are Kubernetes manifests in YAML or JSON. A folder stands for all files in and below it
/// that end in .yaml, .yml or .json, but for what begins with two dots. Objects of other kinds, and
/// none at all, are an error, and so are links to folders.
///
/// Exit code 0: all is fine: the request is allowed, there are no findings, the sets are proven to
/// admit the same, everything is converted. 1: the request is denied, there are findings, the sets
/// differ, something was left out. 2: a flag or a file is bad; one line on stderr says which and
/// where. 3: whether the sets differ is not decided.
#[derive(Debug, Parser)]
#[command(name = "mesh-policy", version, subcommand_required = true, max_term_width = 100)]
pub(super) struct Args {
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether one connection or request is allowed, and by which rule.
    ///
    /// What is not said about it counts as unavailable: a rule that turns on it denies, and does not
    /// allow.
    Check(Question),
    /// Show how every rule answers to one connection or request, field by field.
    ///
    /// Each field is true, false or unavailable. For a denial, the rule that came closest to
    /// allowing is named. The exit code is that of `check`.
    Explain(Question),
    /// Find what is likely to be wrong: rules that never match, that others leave without effect,
    /// that admit more than they seem to.
    ///
    /// `error` is a policy that does not count at all, `warning` one that does something else than
    /// it seems to, `advice` what may surprise. Exit code 1 if there is an error or a warning.
    Lint(Lint),
    /// Find a request that two sets of policies decide differently.
    ///
    /// Answers one of three: proven equal, exit code 0; a request that shows the difference, which
    /// both sets have been asked about, exit code 1; or that none was found among so many
    /// candidates, which is no proof, exit code 3. Audit and dry-run policies do not count.
    Diff(Diff),
    /// Convert policies between Kubernetes manifests, filters of Envoy and messages to ztunnel.
    ///
    /// What a format cannot hold is an error that names file, line and field; with --lossy it is
    /// left out, as istiod does, said on stderr, and exit code 1. Requirements of
    /// PeerAuthentications become a policy for the workload that --namespace and --labels name.
    Convert(Convert),
}

#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// Files and folders of policies.
    #[arg(required = true, value_name = "PATH")]
    pub(super) policies: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) reading: Reading,
    #[command(flatten)]
    pub(super) recipient: Recipient,
    #[command(flatten)]
    pub(super) facts: Facts,
}

#[derive(Debug, clap::Args)]
pub(super) struct Lint {
    /// Files and folders of policies.
    #[arg(required = true, value_name = "PATH")]
    pub(super) policies: Vec<PathBuf>,
    /// Advice, too, is exit code 1.
    #[arg(long)]
    pub(super) strict: bool,
    /// Namespace whose policies are the mesh's.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub(super) root_namespace: String,
    #[command(flatten)]
    pub(super) reading: Reading,
}

#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    /// File or folder of the policies as they are.
    #[arg(value_name = "BEFORE")]
    pub(super) before: PathBuf,
    /// File or folder of the policies that are to take their place.
    #[arg(value_name = "AFTER")]
    pub(super) after: PathBuf,
    /// Ask only whether AFTER admits something that BEFORE does not.
    #[arg(long)]
    pub(super) wider: bool,
    /// Plane of AFTER, if it is another one.
    #[arg(long, value_name = "DIALECT")]
    pub(super) dialect_after: Option<Plane>,
    /// How many requests to try.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) candidates: u32,
    #[command(flatten)]
    pub(super) reading: Reading,
    #[command(flatten)]
    pub(super) recipient: Recipient,
}

#[derive(Debug, clap::Args)]
pub(super) struct Convert {
    /// Files and folders of policies, or files of what --from says.
    #[arg(required = true, value_name = "PATH")]
    pub(super) policies: Vec<PathBuf>,
    /// What the files are.
    #[arg(long, value_name = "FORMAT", default_value = "kubernetes")]
    pub(super) from: Source,
    /// What to make of them.
    #[arg(long, value_name = "FORMAT")]
    pub(super) to: Format,
    /// Leave out what the format cannot hold, and say so.
    #[arg(long)]
    pub(super) lossy: bool,
    #[command(flatten)]
    pub(super) mesh: Mesh,
    #[command(flatten)]
    pub(super) recipient: Recipient,
}

/// What policies are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Source {
    /// Manifests.
    Kubernetes,
    /// RBAC filters, as istiod writes them: one, or a list, in YAML or JSON.
    Envoy,
    /// Messages `istio.security.Authorization` in protobuf's JSON: one, or a list.
    Ztunnel,
}

/// What policies are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Manifests.
    Kubernetes,
    /// RBAC filters for HTTP; of a waypoint with --waypoint, and otherwise of a sidecar or gateway.
    EnvoyHttp,
    /// RBAC filters for TCP.
    EnvoyTcp,
    /// Messages `istio.security.Authorization` in protobuf's JSON.
    Ztunnel,
}

/// How policies are read.
#[derive(Debug, clap::Args)]
pub(super) struct Reading {
    /// Whose understanding of the policies counts.
    #[arg(long, value_name = "DIALECT", default_value = "strict")]
    pub(super) dialect: Plane,
    #[command(flatten)]
    mesh: Mesh,
}

impl Reading {
    pub(super) fn compiler(&self) -> Compiler {
        self.compiler_for(self.dialect)
    }

    pub(super) fn compiler_for(&self, plane: Plane) -> Compiler {
        self.mesh.compiler(plane.dialect())
    }
}

/// The trust domains of the mesh.
#[derive(Debug, clap::Args)]
pub(super) struct Mesh {
    /// The mesh's trust domain.
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: String,
    /// Another name of the trust domain (repeatable).
    #[arg(long, value_name = "NAME")]
    trust_domain_alias: Vec<String>,
}

impl Mesh {
    pub(super) fn compiler(&self, dialect: Dialect) -> Compiler {
        let own = TrustDomains::new(&self.trust_domain);
        let domains = self
            .trust_domain_alias
            .iter()
            .fold(own, |domains, name| domains.alias(name));
        Compiler::new(dialect).trust_domains(domains)
    }
}

/// Whose understanding of policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Plane {
    /// The cautious side of every difference between the others.
    Strict,
    /// ztunnel: connections only.
    Ztunnel,
    /// Envoy for TCP.
    EnvoyTcp,
    /// Envoy for HTTP: sidecars, gateways, waypoints.
    EnvoyHttp,
}

impl Plane {
    fn dialect(self) -> Dialect {
        match self {
            Self::Strict => Dialect::Strict,
            Self::Ztunnel => Dialect::Ztunnel,
            Self::EnvoyTcp => Dialect::EnvoyTcp,
            Self::EnvoyHttp => Dialect::EnvoyHttp,
        }
    }
}

/// For whom the policies are asked. Without any of these flags, all of them apply, and there must
/// be no PeerAuthentication: what it demands depends on the workload.
#[derive(Debug, clap::Args)]
pub(super) struct Recipient {
    /// Leave out policies that do not apply to a workload of this namespace. Needed where there is
    /// a PeerAuthentication.
    #[arg(long, value_name = "NAMESPACE")]
    pub(super) namespace: Option<String>,
    /// Labels of the workload, or of the gateway's.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', requires = "namespace")]
    pub(super) labels: Vec<Label>,
    /// The workload is a gateway of the Gateway API, of this name.
    #[arg(long, value_name = "NAME", requires = "namespace", conflicts_with = "waypoint")]
    pub(super) gateway: Option<String>,
    /// The workload is a waypoint of this name.
    #[arg(long, value_name = "NAME", requires = "namespace")]
    pub(super) waypoint: Option<String>,
    /// Service that is asked for at the waypoint, in the same namespace or as NAMESPACE/NAME.
    #[arg(long, value_name = "NAME", requires = "waypoint")]
    pub(super) service: Option<String>,
    /// Namespace whose policies are the mesh's.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub(super) root_namespace: String,
}

/// What is known about the connection or request. `none` says that there is no such thing.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The connection or request")]
pub(super) struct Facts {
    /// File with facts, in YAML or JSON, such as `diff` prints; flags count before it.
    #[arg(long, value_name = "FILE")]
    pub(super) facts: Option<PathBuf>,
    /// The peer's SPIFFE ID, or `none` for one without a certificate.
    #[arg(long, value_name = "SPIFFE_ID")]
    pub(super) peer: Option<String>,
    /// Address that the connection comes from.
    #[arg(long, value_name = "IP")]
    pub(super) source_ip: Option<IpAddr>,
    /// Address of the original client, as trusted headers give it.
    #[arg(long, value_name = "IP")]
    pub(super) remote_ip: Option<IpAddr>,
    /// Address that the connection is for.
    #[arg(long, value_name = "IP")]
    pub(super) destination_ip: Option<IpAddr>,
    /// Port that the workload listens on.
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// Server name of the TLS handshake.
    #[arg(long, value_name = "NAME")]
    pub(super) sni: Option<String>,
    /// Method; it makes the connection a request.
    #[arg(long, value_name = "METHOD")]
    pub(super) method: Option<String>,
    /// Authority: host, and port if the client writes one.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(super) host: Option<String>,
    /// Path, which is normalized.
    #[arg(long, value_name = "PATH")]
    pub(super) path: Option<String>,
    /// Header line (repeatable). Those that are given are all that there are.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(super) header: Vec<Line>,
    /// There are no headers.
    #[arg(long, conflicts_with = "header")]
    pub(super) no_headers: bool,
    /// Claim of the verified token (repeatable): the value is JSON, or else text.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) claim: Vec<ClaimArg>,
    /// There is no token.
    #[arg(long, conflicts_with = "claim")]
    pub(super) no_token: bool,
    /// How the mesh normalizes paths.
    #[arg(long, value_name = "MODE", default_value = "base")]
    pub(super) path_normalization: Normalization,
}

/// How the mesh normalizes paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Normalization {
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
    Strict,
}

impl From<Normalization> for PathNormalization {
    fn from(mode: Normalization) -> Self {
        match mode {
            Normalization::None => Self::None,
            Normalization::Base => Self::Base,
            Normalization::MergeSlashes => Self::MergeSlashes,
            Normalization::DecodeAndMergeSlashes => Self::DecodeAndMergeSlashes,
            Normalization::Strict => Self::Strict,
        }
    }
}

/// A label of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label(pub(super) String, pub(super) String);

/// A header line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line(pub(super) String, pub(super) String);

/// A claim of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClaimArg(pub(super) String, pub(super) String);

/// A flag's value is not of two parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no `{0}` in it")]
pub(super) struct NoSeparator(char);

impl FromStr for Label {
    type Err = NoSeparator;

    fn from_str(text: &str) -> Result<Self, NoSeparator> {
        parts(text, '=').map(|(name, value)| Self(name, value))
    }
}

impl FromStr for Line {
    type Err = NoSeparator;

    fn from_str(text: &str) -> Result<Self, NoSeparator> {
        parts(text, ':').map(|(name, value)| Self(name, value.trim().to_owned()))
    }
}

impl FromStr for ClaimArg {
    type Err = NoSeparator;

    fn from_str(text: &str) -> Result<Self, NoSeparator> {
        parts(text, '=').map(|(name, value)| Self(name, value))
    }
}

fn parts(text: &str, separator: char) -> Result<(String, String), NoSeparator> {
    let (name, value) = text.split_once(separator).ok_or(NoSeparator(separator))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn commands_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_of_two_parts_have_their_separator() {
        assert_eq!("x-a: b".parse(), Ok(Line("x-a".into(), "b".into())));
        assert_eq!("sub=a=b".parse(), Ok(ClaimArg("sub".into(), "a=b".into())));
        assert_eq!("app".parse::<Label>(), Err(NoSeparator('=')));
    }
}
