use std::time::Duration;

use super::fraction::Fraction;

/// What goes wrong with a share of requests on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// Which requests wait before they go on, and how long.
    pub delay: Option<(Fraction, Duration)>,
    /// Which requests are answered at once, and how.
    pub abort: Option<(Fraction, Abort)>,
}

/// An answer to a request that goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Abort {
    /// A status of HTTP, from 200 to 599.
    Http(u16),
    /// A status of gRPC: with HTTP's 200, in the header `grpc-status`.
    Grpc(u8),
}

impl Fault {
    /// What happens to a request, by two numbers that are drawn evenly from all 64-bit ones: whether
    /// it waits and whether it is aborted are questions apart. It waits first.
    pub fn draw(&self, delay: u64, abort: u64) -> (Option<Duration>, Option<Abort>) {
        (
            self.delay.and_then(|(share, time)| share.takes(delay).then_some(time)),
            self.abort
                .and_then(|(share, answer)| share.takes(abort).then_some(answer)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_aborting_are_drawn_apart() {
        let half = Fraction::new(1, 2).unwrap();
        let (time, answer) = (Duration::from_secs(1), Abort::Http(418));
        let fault = Fault {
            delay: Some((half, time)),
            abort: Some((half, answer)),
        };
        assert_eq!(fault.draw(0, 0), (Some(time), Some(answer)));
        assert_eq!(fault.draw(u64::MAX, 0), (None, Some(answer)));
        assert_eq!(fault.draw(0, u64::MAX), (Some(time), None));
        assert_eq!(Fault::default().draw(0, 0), (None, None));
    }
}
