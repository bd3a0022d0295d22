//! YAML in block style.

use serde_json::Value;

/// A document. What could be anything but a text is a text only in quotes.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text
}

/// The lines of a value, the first of which goes on where the text has got to.
fn write(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                start(text, at, indent);
                text.push_str("- ");
                write(text, item, indent + 2);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (at, (name, value)) in fields.iter().enumerate() {
                start(text, at, indent);
                text.push_str(&scalar(name));
                text.push(':');
                match value {
                    Value::Array(items) if !items.is_empty() => {
                        text.push('\n');
                        text.push_str(&" ".repeat(indent));
                        write(text, value, indent);
                    }
                    Value::Object(fields) if !fields.is_empty() => {
                        text.push('\n');
                        text.push_str(&" ".repeat(indent + 2));
                        write(text, value, indent + 2);
                    }
                    _ => {
                        text.push(' ');
                        write(text, value, indent);
                    }
                }
            }
        }
        Value::String(string) => {
            text.push_str(&scalar(string));
            text.push('\n');
        }
        // Numbers, truth values and what is empty are as in JSON.
        _ => {
            text.push_str(&value.to_string());
            text.push('\n');
        }
    }
}

/// Entries behind the first begin with their own indentation.
fn start(text: &mut String, at: usize, indent: usize) {
    if at > 0 {
        text.push_str(&" ".repeat(indent));
    }
}

/// A text without quotes if nobody can take it for something else, and as in JSON otherwise.
fn scalar(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let begins_as_word = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    if begins_as_word && text.bytes().all(is_plain) && !reserved.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        escape(&Value::from(text).to_string())
    }
}

/// A text in quotes, in which JSON leaves as they are some characters that YAML takes for the end of
/// a line, or does not permit (YAML 1.2 §5.1, §5.4).
fn escape(quoted: &str) -> String {
    let mut escaped = String::with_capacity(quoted.len());
    for character in quoted.chars() {
        match character {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use mesh_policy::Budget;
    use mesh_policy::authz::model::{Operation, OperationField, Rule, Value as Text};
    use mesh_policy::authz::{AuthorizationPolicy, k8s};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_plain_text_has_quotes() {
        let value = json!({
            "a": ["x", "80", "*", "true", "a: b", "", "\u{e9}\n"],
            "@type": "t/x.y",
            "nested": [[1, 2], {"b": {"c": []}, "d": {}}],
        });
        let expected = r#""@type": t/x.y
a:
- x
- "80"
- "*"
- "true"
- "a: b"
- ""
- "é\n"
nested:
- - 1
  - 2
- b:
    c: []
  d: {}
"#;
        assert_eq!(document(&value), expected);
    }

    /// Characters of every kind that YAML knows, those that it has no place for, and what else there is.
    fn texts() -> impl Strategy<Value = String> {
        let special = "\0\x07\t\n\r\u{1b} \"'\\\\#%&*:,-?[]{}|>@!`~\x7f\u{80}\u{85}\u{9f}\u{a0}\u{ad}\u{2028}\u{2029}\u{d7ff}\u{e000}\u{feff}\u{fffd}\u{fffe}\u{ffff}\u{10000}\u{10ffff}";
        let special = proptest::sample::select(special.chars().collect::<Vec<_>>());
        let character = prop_oneof![3 => special, 2 => proptest::char::range('a', 'c'), 1 => any::<char>()];
        proptest::collection::vec(character, 1..12).prop_map(|characters| characters.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn what_is_written_is_read(texts in proptest::collection::vec(texts(), 1..4)) {
            let values = texts.iter().map(|text| Text::from(text.as_str()));
            let rule = Rule::new().to(Operation::new().any_of(OperationField::Paths, values));
            let policy = AuthorizationPolicy::allow("n", "p").rule(rule);
            let written = document(&serde_json::to_value(k8s::write(&policy)).unwrap());
            prop_assert!(written.chars().all(|character| character == '\n' || !character.is_control()));
            let read = k8s::read("f", &written, &Budget::new());
            let read = read.map_err(|error| TestCaseError::fail(format!("{error}\n{written}")))?;
            let values = read.authorization[0].rules()[0].operations()[0].fields()[0].any_of();
            let values: Vec<_> = values.iter().map(Text::text).collect();
            prop_assert_eq!(values, texts, "{}", written);
        }
    }
}
