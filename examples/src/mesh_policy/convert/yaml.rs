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
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
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
}
