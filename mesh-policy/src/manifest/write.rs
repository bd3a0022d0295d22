use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::{
    Item,
    node::{Kind, Node},
};

/// An object as it was read, for any of serde's formats: what is read from JSON again is the object,
/// but for its lines. Numbers that are not whole, and all that has another way to be written, become
/// texts, as which the reader takes them anyhow.
impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("apiVersion", &self.api_version)?;
        map.serialize_entry("kind", &self.kind)?;
        for (name, node) in self.object.fields() {
            map.serialize_entry(name, node)?;
        }
        map.end()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.kind {
            Kind::Null => serializer.serialize_unit(),
            Kind::Text(text) => match (self.plain, text.as_str()) {
                (true, "true") => serializer.serialize_bool(true),
                (true, "false") => serializer.serialize_bool(false),
                (true, number) => match number.parse::<i64>() {
                    Ok(value) if value.to_string() == number => serializer.serialize_i64(value),
                    _ => serializer.serialize_str(number),
                },
                (false, text) => serializer.serialize_str(text),
            },
            Kind::List(nodes) => {
                let mut list = serializer.serialize_seq(Some(nodes.len()))?;
                nodes.iter().try_for_each(|node| list.serialize_element(node))?;
                list.end()
            }
            Kind::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, node) in fields {
                    map.serialize_entry(name, node)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Budget, manifest};

    fn read(text: &str) -> Vec<Item> {
        manifest::read("a.yaml", text, &Budget::new(), |_, _| false).unwrap()
    }

    #[test]
    fn an_object_is_written_as_it_was_read() {
        let text = "
# a comment
apiVersion: v1
kind: Thing
metadata: {name: a, labels: {on: \"true\", version: \"1\"}}
spec:
  port: 80
  ratio: 0.5
  open: true
  nothing: ~
  list: [a, {b: -1}, [], '007', 007]
";
        let [item] = read(text).try_into().unwrap();
        assert_eq!(
            serde_json::to_string(&item).unwrap(),
            "{\"apiVersion\":\"v1\",\"kind\":\"Thing\",\
             \"metadata\":{\"name\":\"a\",\"labels\":{\"on\":\"true\",\"version\":\"1\"}},\
             \"spec\":{\"port\":80,\"ratio\":\"0.5\",\"open\":true,\"nothing\":null,\
             \"list\":[\"a\",{\"b\":-1},[],\"007\",\"007\"]}}"
        );
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,40}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::btree_map(".{0,20}", inner, 0..5)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_written_alike(spec in value()) {
            let text = serde_json::json!({"apiVersion": "v1", "kind": "Thing", "spec": spec}).to_string();
            let written = serde_json::to_string(&read(&text)).unwrap();
            // A list of one.
            let one = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap();
            prop_assert_eq!(&serde_json::to_string(&read(one)).unwrap(), &written);
            prop_assert_eq!(one, text);
        }
    }
}
