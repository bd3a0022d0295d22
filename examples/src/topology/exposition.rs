//! The text format of OpenMetrics, as far as counters need it: names, labels and values.

/// Samples of one text. A proxy stops at some ten thousand series of each of its counters.
const MAX_SAMPLES: usize = 200_000;

/// Labels of one sample, and bytes of each one's value.
const MAX_LABELS: usize = 64;
const MAX_VALUE: usize = 4096;

/// Names with their values.
type Labels = Vec<(String, String)>;

/// One line of a text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    labels: Labels,
    pub(super) value: f64,
}

impl Sample {
    /// The value of a label; empty where there is none.
    pub(super) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Reads a whole text. Comments, timestamps and exemplars are passed over.
pub(super) fn read(text: &str) -> Result<Vec<Sample>, ExpositionError> {
    let mut samples = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |fault| ExpositionError { line: number, fault };
        if samples.len() == MAX_SAMPLES {
            return Err(at(Fault::Samples));
        }
        samples.push(sample(line).map_err(at)?);
    }
    Ok(samples)
}

fn sample(line: &str) -> Result<Sample, Fault> {
    let end = line.find(['{', ' ']).ok_or(Fault::NoValue)?;
    let (name, rest) = line.split_at_checked(end).ok_or(Fault::NoValue)?;
    if name.is_empty() {
        return Err(Fault::NoName);
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next().ok_or(Fault::NoValue)?;
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().map_err(|_| Fault::NoNumber)?,
    })
}

/// The labels behind an opening brace, and what follows the closing one.
fn labels(mut rest: &str) -> Result<(Labels, &str), Fault> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        if labels.len() == MAX_LABELS {
            return Err(Fault::Labels);
        }
        let (name, quoted) = rest.split_once("=\"").ok_or(Fault::NoLabel)?;
        let (value, after) = unquoted(quoted)?;
        labels.push((name.to_owned(), value));
        rest = after;
    }
}

/// The text up to a closing quote, and what follows that.
fn unquoted(quoted: &str) -> Result<(String, &str), Fault> {
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => return Ok((value, chars.as_str())),
            '\\' => value.push(match chars.next().ok_or(Fault::NoEnd)? {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return Err(Fault::NoEscape),
            }),
            char => value.push(char),
        }
        if value.len() > MAX_VALUE {
            return Err(Fault::LongValue);
        }
    }
    Err(Fault::NoEnd)
}

/// Why a text is not in the format.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub(crate) struct ExpositionError {
    line: usize,
    fault: Fault,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("more than {MAX_SAMPLES} samples")]
    Samples,
    #[error("no name")]
    NoName,
    #[error("no value")]
    NoValue,
    #[error("the value is no number")]
    NoNumber,
    #[error("more than {MAX_LABELS} labels")]
    Labels,
    #[error("not a label and its value in quotes")]
    NoLabel,
    #[error("a label's value has no end")]
    NoEnd,
    #[error("a label's value has an unknown escape")]
    NoEscape,
    #[error("a label's value is longer than {MAX_VALUE} bytes")]
    LongValue,
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::registry::Registry;
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &str) -> Fault {
        read(text).unwrap_err().fault
    }

    #[test]
    fn a_sample_may_have_no_labels_a_timestamp_and_an_exemplar() {
        let samples = read("# HELP a b\n\na 1 1700000000.5\nb_total{x=\"y\",} 2 # {id=\"z\"} 1\n").unwrap();
        let read: Vec<_> = samples
            .iter()
            .map(|sample| (&*sample.name, sample.label("x"), sample.value))
            .collect();
        assert_eq!(read, [("a", "", 1.0), ("b_total", "y", 2.0)]);
    }

    #[test]
    fn what_is_no_sample_is_an_error_with_its_line() {
        assert_eq!(read("a 1\n{a=\"b\"} 1").unwrap_err().to_string(), "line 2: no name");
        assert_eq!(fault("a{b=\"c\"}"), Fault::NoValue);
        assert_eq!(fault("a"), Fault::NoValue);
        assert_eq!(fault("a b"), Fault::NoNumber);
        assert_eq!(fault("a{b} 1"), Fault::NoLabel);
        assert_eq!(fault("a{b=\"c"), Fault::NoEnd);
        assert_eq!(fault("a{b=\"\\x\"} 1"), Fault::NoEscape);
        assert_eq!(
            fault(&format!("a{{b=\"{}\"}} 1", "c".repeat(MAX_VALUE + 1))),
            Fault::LongValue
        );
        assert_eq!(
            fault(&format!("a{{{}}} 1", "b=\"c\",".repeat(MAX_LABELS + 1))),
            Fault::Labels
        );
    }

    proptest! {
        #[test]
        fn what_a_registry_prints_is_read_back(values in prop::collection::vec(any::<String>(), 1..4), count in 0..1_000_000u32) {
            let mut registry = Registry::default();
            let family = Family::<Vec<(String, String)>, Counter>::default();
            registry.register("seen", "Seen", family.clone());
            let labels: Vec<_> = (0..).zip(&values).map(|(at, value)| (format!("l{at}"), value.clone())).collect();
            family.get_or_create(&labels).inc_by(count.into());
            let mut printed = String::new();
            text::encode(&mut printed, &registry).unwrap();
            let samples = read(&printed).unwrap();
            prop_assert_eq!(samples, [Sample { name: "seen_total".to_owned(), labels, value: count.into() }]);
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            drop(read(&text));
        }

        #[test]
        fn any_line_like_a_sample_is_read_or_refused(text in "[a-z]{0,2}[{]?[a-z\"=\\\\,}é ]{0,12}[ 0-9]{0,3}") {
            drop(read(&text));
        }
    }
}
