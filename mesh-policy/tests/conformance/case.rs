use std::collections::BTreeMap;

use mesh_policy::manifest::{Object, Problem};

/// A request and what becomes of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    /// `METHOD [SCHEME://]HOST[:PORT]/TARGET`
    pub(crate) ask: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Headers of the backend's answer.
    pub(crate) answer: Vec<(String, String)>,
    /// The headers that backend or client get, of which the case says something.
    pub(crate) sees: Vec<String>,
    pub(crate) gets: Vec<String>,
    /// Whether it is asked often, to find shares.
    pub(crate) is_often: bool,
    expected: BTreeMap<String, String>,
}

impl Case {
    pub(crate) fn read(mut object: Object) -> Result<Self, Problem> {
        let mut case = Self {
            ask: object.required_text("ask")?,
            headers: texts(&mut object, "headers")?,
            answer: texts(&mut object, "answer")?,
            ..Self::default()
        };
        for (name, value) in texts(&mut object, "sees")? {
            case.expect(format!("sees {name}"), value);
            case.sees.push(name);
        }
        for (name, value) in texts(&mut object, "gets")? {
            case.expect(format!("gets {name}"), value);
            case.gets.push(name);
        }
        let shares = texts(&mut object, "shares")?;
        case.is_often = !shares.is_empty();
        for (name, value) in shares {
            case.expect(format!("share of {name}"), value);
        }
        for name in [
            "backend", "host", "target", "status", "grpc", "location", "body", "timeouts", "rule",
        ] {
            if let Some(value) = object.text(name)? {
                case.expect(name.to_owned(), value);
            }
        }
        for (_, name) in object.texts("mirrors")? {
            case.expect(format!("mirror {name}"), String::new());
        }
        object.finish()?;
        Ok(case)
    }

    fn expect(&mut self, what: String, value: String) {
        self.expected.insert(what, value);
    }

    pub(crate) fn request(&self) -> String {
        format!("{} {:?}", self.ask, self.headers)
    }

    /// Whether the case says something about a part of the outcome that need not be told.
    pub(crate) fn says(&self, what: &str) -> bool {
        self.expected.contains_key(what)
    }

    pub(crate) fn expected(&self) -> String {
        shown(&self.expected)
    }
}

pub(crate) fn shown(outcome: &BTreeMap<String, String>) -> String {
    let parts = outcome.iter().map(|(what, value)| format!("{what}: {value}"));
    parts.collect::<Vec<_>>().join(", ")
}

fn texts(object: &mut Object, name: &str) -> Result<Vec<(String, String)>, Problem> {
    object.object(name)?.map_or(Ok(Vec::new()), Object::into_texts)
}
