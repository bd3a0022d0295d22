use std::{marker::PhantomData, sync::Arc};

use prost::{Message, bytes::Buf, decode_length_delimiter};
use thiserror::Error;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

/// The most fields of a message, repetitions counted. Two bytes make an empty SVID or bundle, and
/// take a hundred when decoded; so the limits on their numbers would come too late.
pub(super) const MAX_FIELDS: usize = 1024;

/// Protocol Buffers whose fields are counted before they are decoded.
pub(super) struct CountingCodec<Q, A>(PhantomData<(Q, A)>);

impl<Q, A> CountingCodec<Q, A> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<Q: Message + 'static, A: Message + Default + 'static> Codec for CountingCodec<Q, A> {
    type Encode = Q;
    type Decode = A;
    type Encoder = ProstEncoder<Q>;
    type Decoder = CountingDecoder<A>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        CountingDecoder(PhantomData)
    }
}

pub(super) struct CountingDecoder<A>(PhantomData<A>);

impl<A: Message + Default> Decoder for CountingDecoder<A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        let message = source.copy_to_bytes(source.remaining());
        match fields(&message) {
            Some(..=MAX_FIELDS) => {}
            Some(_) => return Err(Unreadable::TooManyFields.into()),
            None => return Err(Unreadable::Malformed.into()),
        }
        let message = A::decode(message).map_err(|_| Unreadable::Malformed)?;
        Ok(Some(message))
    }
}

/// Why a message that came was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unreadable {
    #[error("the message is malformed")]
    Malformed,
    #[error("the message has more than {MAX_FIELDS} fields")]
    TooManyFields,
}

impl From<Unreadable> for Status {
    /// A status that its cause tells from one that the server sent.
    fn from(fault: Unreadable) -> Self {
        let mut status = Self::internal(fault.to_string());
        status.set_source(Arc::new(fault));
        status
    }
}

/// How many fields a message has; none if it is malformed, or has a group, which no message of a
/// Workload API has.
fn fields(mut message: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !message.is_empty() {
        let key = decode_length_delimiter(&mut message).ok()?;
        let length = match key & 7 {
            0 => {
                decode_length_delimiter(&mut message).ok()?;
                0
            }
            1 => 8,
            2 => decode_length_delimiter(&mut message).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(length..)?;
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn fields_of_every_type_are_counted() {
        let message = [
            &[0x08, 0x96, 0x01][..],
            &[0x11, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x1a, 2, 0xff, 0xff],
            &[0x25, 1, 2, 3, 4],
            &[0x1a, 0],
        ];
        assert_eq!(fields(&message.concat()), Some(5));
        assert_eq!(fields(&[]), Some(0));
        for malformed in [&[0x08][..], &[0x11, 1], &[0x1a, 2, 0], &[0x1a], &[0x0b, 0x0c], &[0x80]] {
            assert_eq!(fields(malformed), None, "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_counted_or_refused(message in vec(any::<u8>(), 0..100)) {
            prop_assert!(fields(&message).is_none_or(|count| count <= message.len()));
        }
    }
}
