//! The flow-control credit that the other side gave (RFC 9113 section 5.2).

use std::collections::HashMap;

use crate::frames::{DEFAULT_WINDOW, Frame, Kind};

pub(super) struct Credit {
    connection: i64,
    initial: i64,
    /// What was spent and given on each stream, beside the initial window.
    streams: HashMap<u32, i64>,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            connection: DEFAULT_WINDOW.into(),
            initial: DEFAULT_WINDOW.into(),
            streams: HashMap::new(),
        }
    }
}

impl Credit {
    /// How many bytes of data may be sent on a stream now.
    pub(super) fn available(&self, stream: u32) -> usize {
        let own = self.initial + self.streams.get(&stream).unwrap_or(&0);
        usize::try_from(own.min(self.connection)).unwrap_or(0)
    }

    /// A script may overspend; then nothing is available for long.
    pub(super) fn spend(&mut self, frame: &Frame) {
        if frame.kind == Kind::DATA {
            let len = i64::try_from(frame.payload.len()).unwrap();
            self.connection -= len;
            *self.streams.entry(frame.stream).or_default() -= len;
        }
    }

    pub(super) fn give(&mut self, stream: u32, increment: u32) {
        match stream {
            0 => self.connection += i64::from(increment),
            _ => *self.streams.entry(stream).or_default() += i64::from(increment),
        }
    }

    pub(super) fn set_initial(&mut self, window: u32) {
        self.initial = window.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_window_binds() {
        let mut credit = Credit::default();
        credit.spend(&Frame::data(1, vec![0; 60_000]));
        assert_eq!(credit.available(1), 5_535);
        assert_eq!(credit.available(3), 5_535);
        credit.give(0, 100_000);
        assert_eq!(credit.available(1), 5_535);
        assert_eq!(credit.available(3), 65_535);
        credit.give(1, 10);
        assert_eq!(credit.available(1), 5_545);
    }

    #[test]
    fn a_smaller_initial_window_may_leave_less_than_nothing() {
        let mut credit = Credit::default();
        credit.spend(&Frame::data(1, vec![0; 1000]));
        credit.set_initial(400);
        assert_eq!(credit.available(1), 0);
        assert_eq!(credit.available(3), 400);
        credit.give(1, 601);
        assert_eq!(credit.available(1), 1);
    }
}
