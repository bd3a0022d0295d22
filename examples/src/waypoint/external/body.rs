//! A body whose beginning was read ahead.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};

/// The body as it came, beginning with what was read of it.
#[derive(Debug)]
pub(in crate::waypoint) struct Begun<B> {
    read: Option<Frame<Bytes>>,
    /// A frame that was not for reading: trailers.
    held: Option<Frame<Bytes>>,
    rest: B,
}

/// What was read of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) bytes: Bytes,
    /// There is more.
    pub(super) is_partial: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Begun<B> {
    /// A body of which nothing was read.
    pub(super) fn untouched(body: B) -> Self {
        Self {
            read: None,
            held: None,
            rest: body,
        }
    }

    /// Reads until there are `most` bytes or the body has ended, and takes as long as the body does.
    /// Whatever was read more than that is kept, and not told.
    ///
    /// # Errors
    ///
    /// The body failed.
    pub(super) async fn read(mut self, most: usize) -> Result<(Self, Beginning), B::Error> {
        let mut bytes = BytesMut::from(self.take_read().as_deref().unwrap_or_default());
        let mut has_ended = self.held.is_some();
        // One byte more than is told would say that it is not all, and so does a body that goes on.
        while bytes.len() <= most && !has_ended {
            match self.rest.frame().await.transpose()? {
                Some(frame) => match frame.into_data() {
                    Ok(data) => bytes.extend_from_slice(&data),
                    Err(trailers) => {
                        self.held = Some(trailers);
                        has_ended = true;
                    }
                },
                None => has_ended = true,
            }
        }
        let bytes = bytes.freeze();
        let beginning = Beginning {
            is_partial: bytes.len() > most,
            bytes: bytes.slice(..bytes.len().min(most)),
        };
        self.read = (!bytes.is_empty()).then(|| Frame::data(bytes));
        Ok((self, beginning))
    }

    fn take_read(&mut self) -> Option<Bytes> {
        self.read.take()?.into_data().ok()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Begun<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        match this.read.take().or_else(|| this.held.take()) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.held.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            hint.set_upper(upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http::HeaderMap;

    use super::*;

    fn body(chunks: &[&'static str], trailers: bool) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let mut frames: VecDeque<_> = chunks
            .iter()
            .map(|chunk| Frame::data(Bytes::from_static(chunk.as_bytes())))
            .collect();
        if trailers {
            frames.push_back(Frame::trailers(HeaderMap::from_iter([(
                http::HeaderName::from_static("x-end"),
                http::HeaderValue::from_static("1"),
            )])));
        }
        Frames(frames)
    }

    struct Frames(VecDeque<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    #[tokio::test]
    async fn what_was_read_is_told_up_to_a_bound_and_all_is_passed_on() {
        for (chunks, most, told, is_partial) in [
            (&[][..], 4, "", false),
            (&["ab"], 4, "ab", false),
            (&["ab", "cd"], 4, "abcd", false),
            (&["ab", "cde"], 4, "abcd", true),
            (&["ab", "cd", "e", "f"], 4, "abcd", true),
            (&["abcdefgh"], 4, "abcd", true),
        ] {
            for trailers in [false, true] {
                let (begun, beginning) = Begun::untouched(body(chunks, trailers)).read(most).await.unwrap();
                let expected = Beginning {
                    bytes: told.into(),
                    is_partial,
                };
                assert_eq!(beginning, expected, "{chunks:?}");
                // A second provider is told the same.
                let (begun, again) = begun.read(most).await.unwrap();
                assert_eq!(again, expected, "{chunks:?}");
                assert!(begun.size_hint().lower() >= told.len() as u64);
                let collected = begun.collect().await.unwrap();
                assert_eq!(collected.trailers().is_some(), trailers);
                assert_eq!(collected.to_bytes(), chunks.concat());
            }
        }
    }
}
