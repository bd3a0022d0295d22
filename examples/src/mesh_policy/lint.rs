//! What is likely to be wrong with policies.

use mesh_policy::authz::Diagnostic;
use mesh_policy::authz::analyze::{Analysis, Finding, Severity};
use serde::Serialize;

use super::{Failure, Out, Outcome, args, policies};

pub(super) fn run(args: &args::Lint, out: &mut Out) -> Result<Outcome, Failure> {
    let policies = policies::load_all(&args.policies)?.authorization;
    let count = policies.len();
    let analysis = Analysis::new(args.reading.compiler()).root_namespace(&args.root_namespace);
    let report = analysis.run(policies)?;
    let mut findings: Vec<_> = report.findings().iter().map(Line::from).collect();
    // As somebody reads the files.
    findings.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    let found = Found {
        policies: count,
        is_complete: report.is_complete(),
        findings,
    };
    out.print(&found, &found.to_string())?;
    let least = if args.strict {
        Severity::Advice
    } else {
        Severity::Warning
    };
    Ok(Outcome::found(
        report.findings().iter().any(|finding| finding.note.severity() >= least),
    ))
}

#[derive(Debug, Serialize)]
struct Found {
    policies: usize,
    /// Whether all rules, fields and values were held against each other; a finding says if they were
    /// not.
    is_complete: bool,
    findings: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    severity: &'static str,
    policy: String,
    file: Option<String>,
    line: u32,
    field: String,
    message: String,
}

impl From<&Diagnostic<Finding>> for Line {
    fn from(found: &Diagnostic<Finding>) -> Self {
        Self {
            severity: match found.note.severity() {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Advice => "advice",
            },
            policy: found.policy.to_string(),
            file: found.file.as_ref().map(ToString::to_string),
            line: found.line,
            field: found.field.to_string(),
            message: found.note.to_string(),
        }
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.findings {
            writeln!(f, "{line}")?;
        }
        let count = |severity| self.findings.iter().filter(|line| line.severity == severity).count();
        write!(
            f,
            "policies: {}, errors: {}, warnings: {}, advice: {}",
            self.policies,
            count("error"),
            count("warning"),
            count("advice")
        )
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:{}: ", self.line)?;
        }
        write!(
            f,
            "{}: {}: {}: {}",
            self.severity, self.policy, self.field, self.message
        )
    }
}
