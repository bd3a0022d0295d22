//! Flow-control windows (RFC 9113 §5.2 and §6.9).

/// Largest window (RFC 9113 §6.9.1).
const MAX: i64 = (1 << 31) - 1;

/// Window of a connection, and of streams before SETTINGS say otherwise (RFC 9113 §6.9.2).
pub(super) const INITIAL: u32 = 65_535;

/// A window grew beyond what HTTP/2 can express, or was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow;

/// Bytes that may be sent. A change of SETTINGS can leave it negative.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendWindow(i64);

impl SendWindow {
    pub(super) fn new(bytes: u32) -> Self {
        Self(i64::from(bytes))
    }

    /// Bytes that may be sent now.
    pub(super) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Bytes were sent.
    pub(super) fn sent(&mut self, n: usize) {
        self.0 -= n as i64;
    }

    /// A WINDOW_UPDATE, or a change of the initial window.
    pub(super) fn shift(&mut self, by: i64) -> Result<(), Overflow> {
        self.0 += by;
        if self.0 > MAX { Err(Overflow) } else { Ok(()) }
    }
}

/// Bytes that the peer may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecvWindow {
    /// As the peer knows it.
    window: i64,
    /// What it is to be told of besides.
    released: i64,
}

impl RecvWindow {
    pub(super) fn new(bytes: u32) -> Self {
        Self {
            window: i64::from(bytes),
            released: 0,
        }
    }

    /// Bytes that the peer may still send.
    pub(super) fn left(self) -> u32 {
        u32::try_from(self.window).unwrap_or(0)
    }

    /// Bytes were received.
    pub(super) fn received(&mut self, n: u32) -> Result<(), Overflow> {
        if i64::from(n) > self.window.max(0) {
            return Err(Overflow);
        }
        self.window -= i64::from(n);
        Ok(())
    }

    /// Bytes are done with, or the window is to be larger.
    pub(super) fn release(&mut self, n: u32) {
        self.released += i64::from(n);
    }

    /// The initial window is another than the peer knew of.
    pub(super) fn shift(&mut self, by: i64) {
        self.window += by;
    }

    /// The increment to tell the peer of: once it is worth a frame, half of what the peer still has.
    pub(super) fn due(&mut self) -> Option<u32> {
        if self.released == 0 || self.released < self.window / 2 {
            return None;
        }
        let increment = self.released.min(MAX - self.window.max(0));
        self.released -= increment;
        self.window += increment;
        u32::try_from(increment).ok().filter(|increment| *increment > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Both ends keep books of one window, and agree.
        #[test]
        fn what_is_announced_is_what_was_released(
            initial in 0_u32..1 << 20,
            steps in prop::collection::vec((0_u32..1 << 16, any::<bool>()), 0..100),
        ) {
            let (mut recv, mut send) = (RecvWindow::new(initial), SendWindow::new(initial));
            let mut held = 0;
            for (n, sends) in steps {
                if sends {
                    let n = n.min(send.available() as u32);
                    prop_assert_eq!(recv.received(n), Ok(()));
                    send.sent(n as usize);
                    held += n;
                } else {
                    let n = n.min(held);
                    recv.release(n);
                    held -= n;
                    if let Some(increment) = recv.due() {
                        prop_assert_eq!(send.shift(i64::from(increment)), Ok(()));
                    }
                }
                prop_assert_eq!(recv.left() as usize, send.available());
            }
            // With nothing held, at least half of the window is the peer's.
            recv.release(held);
            recv.due();
            prop_assert!(recv.left() >= initial / 2);
        }
    }

    #[test]
    fn no_window_exceeds_its_maximum() {
        let mut window = SendWindow::new(1);
        assert_eq!(window.shift(MAX - 1), Ok(()));
        assert_eq!(window.shift(1), Err(Overflow));
        let mut window = RecvWindow::new(10);
        assert_eq!(window.received(11), Err(Overflow));
        assert_eq!(window.received(10), Ok(()));
        assert_eq!(window.received(1), Err(Overflow));
    }

    #[test]
    fn a_negative_window_takes_nothing_until_it_is_made_good() {
        let mut window = SendWindow::new(10);
        window.sent(10);
        assert_eq!(window.shift(-5), Ok(()));
        assert_eq!(window.available(), 0);
        assert_eq!(window.shift(6), Ok(()));
        assert_eq!(window.available(), 1);
    }
}
