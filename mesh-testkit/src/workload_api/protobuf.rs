//! As much of Protocol Buffers as the messages of a Workload API take: every field of theirs is a run of bytes.

const LENGTH_DELIMITED: u8 = 2;

/// A message that is being written. Fields are written as they are given: also twice, in any order, or empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn field(mut self, number: u8, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.0.push(number << 3 | LENGTH_DELIMITED);
        let mut length = value.len();
        while length >= 0x80 {
            self.0.push((length % 0x80) as u8 | 0x80);
            length /= 0x80;
        }
        self.0.push(length as u8);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// The fields of a message with their numbers, in order.
///
/// # Panics
///
/// When the bytes are no such message.
pub(super) fn fields(mut message: &[u8]) -> Vec<(u8, String)> {
    let mut fields = Vec::new();
    while let Some((&key, rest)) = message.split_first() {
        assert_eq!(key & 7, LENGTH_DELIMITED, "a field of another type");
        let mut rest = rest.iter();
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = *rest.next().expect("a length");
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let (value, after) = rest.as_slice().split_at(length);
        fields.push((key >> 3, String::from_utf8(value.to_vec()).expect("text")));
        message = after;
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let long = "x".repeat(300);
        let message = Writer::default().field(1, "a").field(2, &long).field(1, "").finish();
        assert_eq!(&message[..3], &[0x0a, 1, b'a']);
        assert_eq!(fields(&message), [(1, "a".to_owned()), (2, long), (1, String::new())]);
    }
}
