//! What crossed lately, for the message of a test that fails.

use std::collections::VecDeque;
use std::fmt;

use crate::frames::Frame;

const KEPT: usize = 32;

#[derive(Default)]
pub(super) struct History {
    latest: VecDeque<(Way, Frame)>,
    forgotten: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Way {
    Sent,
    Received,
}

impl History {
    pub(super) fn note(&mut self, way: Way, frame: &Frame) {
        if self.latest.len() == KEPT {
            self.latest.pop_front();
            self.forgotten += 1;
        }
        self.latest.push_back((way, frame.clone()));
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forgotten > 0 {
            write!(f, "\n  ({} earlier frames)", self.forgotten)?;
        }
        for (way, frame) in &self.latest {
            let arrow = match way {
                Way::Sent => "->",
                Way::Received => "<-",
            };
            write!(f, "\n  {arrow} {frame:?}")?;
        }
        Ok(())
    }
}
