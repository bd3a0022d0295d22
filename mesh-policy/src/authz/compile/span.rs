use std::ops::Range;

/// A range in one of a segment's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub(super) const EMPTY: Self = Self { start: 0, len: 0 };

    /// What exceeds 32 bits is cut off, and lies beyond any budget.
    pub(super) fn between(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            len: end.saturating_sub(start) as u32,
        }
    }

    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }

    pub(crate) fn of<T>(self, array: &[T]) -> &[T] {
        array.get(self.range()).unwrap_or_default()
    }
}
