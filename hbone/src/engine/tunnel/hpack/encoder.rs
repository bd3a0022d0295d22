//! Header blocks, written.

use super::table::{STATIC, static_index};

/// Fields that are never to be kept in a table, here or on the way (RFC 7541 §7.1.3).
const SECRETS: [&[u8]; 3] = [b"authorization", b"cookie", b"proxy-authorization"];

/// Writes blocks that refer to the static table alone. A tunnel has one head for all its bytes, so
/// a table of earlier fields would spare little, and it would let one tunnel's head be guessed at
/// from the length of another's (RFC 7541 §7.1).
#[derive(Debug, Default)]
pub(in crate::engine::tunnel) struct Encoder {
    /// The peer keeps a smaller table than it may assume, and awaits to be told that it will do
    /// (RFC 7541 §4.2).
    is_resized: bool,
}

impl Encoder {
    /// The peer's table is limited to `bytes`.
    pub(in crate::engine::tunnel) fn limit_table(&mut self, bytes: u32) {
        self.is_resized |= bytes < 4_096;
    }

    /// Writes a block.
    pub(in crate::engine::tunnel) fn encode<'a>(
        &mut self,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8], bool)>,
    ) -> Vec<u8> {
        let mut block = Vec::new();
        if std::mem::take(&mut self.is_resized) {
            put_integer(&mut block, 0x20, 5, 0);
        }
        for (name, value, is_secret) in fields {
            put_field(&mut block, name, value, is_secret || SECRETS.contains(&name));
        }
        block
    }
}

fn put_field(block: &mut Vec<u8>, name: &[u8], value: &[u8], is_secret: bool) {
    let whole = |(known, content): &(&str, &str)| known.as_bytes() == name && content.as_bytes() == value;
    if let Some(at) = STATIC.iter().position(whole).filter(|_| !is_secret) {
        return put_integer(block, 0x80, 7, at + 1);
    }
    let pattern = if is_secret { 0x10 } else { 0x00 };
    match static_index(name) {
        Some(index) => put_integer(block, pattern, 4, index),
        None => {
            block.push(pattern);
            put_string(block, name);
        }
    }
    put_string(block, value);
}

fn put_string(block: &mut Vec<u8>, string: &[u8]) {
    put_integer(block, 0x00, 7, string.len());
    block.extend_from_slice(string);
}

/// An integer (RFC 7541 §5.1).
fn put_integer(block: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let max = (1_usize << prefix) - 1;
    let low = |value: usize| value.to_le_bytes()[0];
    let Some(mut rest) = value.checked_sub(max) else {
        return block.push(pattern | low(value));
    };
    block.push(pattern | low(max));
    while rest >= 0x80 {
        block.push(low(rest) | 0x80);
        rest >>= 7;
    }
    block.push(low(rest));
}

#[cfg(test)]
mod tests {
    use mesh_testkit::hpack::Decoder as Oracle;
    use proptest::prelude::*;

    use super::super::Decoder;
    use super::*;

    fn name() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (0..STATIC.len()).prop_map(|at| STATIC[at].0.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..300),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            fields in prop::collection::vec((name(), prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..8),
            table: u32,
        ) {
            let mut encoder = Encoder::default();
            encoder.limit_table(table);
            let mut decoder = Decoder::new();
            let mut oracle = Oracle::new();
            for _ in 0..2 {
                let block = encoder.encode(fields.iter().map(|(name, value, secret)| (&name[..], &value[..], *secret)));
                let mut read = Vec::new();
                let decoded = decoder.decode(&block, |name, value, _| {
                    read.push((name.to_vec(), value.to_vec()));
                    true
                });
                prop_assert_eq!(decoded, Ok(()));
                let expected: Vec<_> = fields.iter().map(|(name, value, _)| (name.clone(), value.clone())).collect();
                prop_assert_eq!(&read, &expected);
                let judged = oracle.decode(&block).unwrap();
                let judged: Vec<_> = judged.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
                prop_assert_eq!(judged, expected);
            }
        }
    }

    #[test]
    fn a_secret_is_never_indexed() {
        let plain = Encoder::default().encode([(&b"x"[..], &b"y"[..], false)]);
        assert_eq!(plain, b"\x00\x01x\x01y");
        let marked = Encoder::default().encode([(&b"x"[..], &b"y"[..], true)]);
        assert_eq!(marked, b"\x10\x01x\x01y");
        let known = Encoder::default().encode([(&b"authorization"[..], &b"y"[..], false)]);
        assert_eq!(known, b"\x1f\x08\x01y");
    }

    #[test]
    fn a_smaller_table_is_acknowledged_once() {
        let mut encoder = Encoder::default();
        encoder.limit_table(8_192);
        assert_eq!(encoder.encode([]), b"");
        encoder.limit_table(100);
        assert_eq!(encoder.encode([]), b"\x20");
        assert_eq!(encoder.encode([]), b"");
    }
}
