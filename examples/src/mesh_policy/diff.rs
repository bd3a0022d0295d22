//! Whether two sets of policies decide alike.

use mesh_policy::authz::compare::{Answer as Compared, Comparison, Witness};
use mesh_policy::authz::{AuthorizationPolicy, PolicySet};
use serde::Serialize;

use super::check::Answer;
use super::facts::{Written, describe};
use super::{Failure, Out, Outcome, args, policies};

pub(super) fn run(args: &args::Diff, out: &mut Out) -> Result<Outcome, Failure> {
    let load = |path: &std::path::PathBuf| -> Result<Vec<AuthorizationPolicy>, Failure> {
        Ok(policies::load(std::slice::from_ref(path), &args.recipient)?)
    };
    let before = args.reading.compiler().compile(load(&args.before)?)?;
    let plane = args.dialect_after.unwrap_or(args.reading.dialect);
    let after = args.reading.compiler_for(plane).compile(load(&args.after)?)?;
    let comparison = Comparison::new(&before, &after).candidates(args.candidates as usize);
    let answer = if args.wider {
        comparison.is_no_wider()
    } else {
        comparison.is_same()
    };
    let difference = Difference::new(&answer, &before, &after);
    out.print(&difference, &difference.text(args.wider, &answer)?)?;
    Ok(match answer {
        Compared::Proven => Outcome::Fine,
        Compared::Refuted(_) => Outcome::Found,
        Compared::Open { .. } => Outcome::Open,
    })
}

#[derive(Debug, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
enum Difference {
    /// For whatever request.
    Proven,
    /// None was found, which is no proof.
    Open { candidates: usize },
    /// One was found.
    Different {
        before: Box<Answer>,
        after: Box<Answer>,
        facts: Box<Written>,
    },
}

impl Difference {
    fn new(answer: &Compared, before: &PolicySet, after: &PolicySet) -> Self {
        match answer {
            Compared::Proven => Self::Proven,
            Compared::Open { candidates } => Self::Open {
                candidates: *candidates,
            },
            Compared::Refuted(witness) => Self::Different {
                before: Box::new(Answer::new(&witness.before(), before)),
                after: Box::new(Answer::new(&witness.after(), after)),
                facts: Box::new(witness.sample().into()),
            },
        }
    }

    fn text(&self, wider: bool, answer: &Compared) -> Result<String, std::io::Error> {
        Ok(match (self, answer) {
            (Self::Different { before, after, facts }, Compared::Refuted(witness)) => {
                let witness: &Witness = witness;
                format!(
                    "different, for example:\n{}\nbefore: {before}\nafter:  {after}\nas a file for --facts: {}",
                    describe(witness.sample()),
                    serde_json::to_string(facts)?
                )
            }
            (Self::Open { candidates }, _) => {
                format!("no difference found within {candidates} requests, which is no proof that there is none")
            }
            _ if wider => "proven: AFTER admits nothing that BEFORE does not".to_owned(),
            _ => "proven: both admit the same".to_owned(),
        })
    }
}
