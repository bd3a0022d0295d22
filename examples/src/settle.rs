//! When a change of files is taken.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two looks at the files of policies, or of a mesh. A change is taken at the second
/// look that sees it, so that tunnels which it does not admit end well within a second.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);

/// Time between two looks at the files of an identity: connections of a peer that is not trusted
/// any more end within a second.
pub(crate) const IDENTITY_INTERVAL: Duration = Duration::from_millis(400);

/// How long files may go on changing before they are taken as they are. What makes no sense then
/// is a mistake.
const MAX_SETTLING: Duration = Duration::from_secs(2);

/// Contents that were taken, and those that are yet to settle: tools write files piece by piece.
pub(crate) struct Settling<T> {
    taken: Option<T>,
    changing: Option<Changing<T>>,
}

struct Changing<T> {
    contents: T,
    began: Instant,
}

impl<T: PartialEq> Settling<T> {
    pub(crate) fn new(taken: T) -> Self {
        Self {
            taken: Some(taken),
            changing: None,
        }
    }

    /// Takes what was read at `now`, and answers with it if it is new and was the same the last
    /// time, or if it has been another each time for too long.
    pub(crate) fn take(&mut self, contents: T, now: Instant) -> Option<&T> {
        let changing = self.changing.take();
        if self.taken.as_ref() == Some(&contents) {
            return None;
        }
        let began = changing.as_ref().map_or(now, |changing| changing.began);
        let has_settled = changing.is_some_and(|changing| changing.contents == contents);
        if has_settled || now - began >= MAX_SETTLING {
            return Some(self.taken.insert(contents));
        }
        self.changing = Some(Changing { contents, began });
        None
    }

    /// What was taken last was of no use: it is taken again, also if it is the same.
    pub(crate) fn take_again(&mut self) {
        self.taken = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of contents that are read at each interval.
    fn taken(readings: &[&str]) -> Vec<String> {
        let (mut settling, start) = (Settling::new("a".to_owned()), Instant::now());
        let readings = (0_u32..).zip(readings);
        readings
            .filter_map(|(at, text)| {
                let now = start + at * INTERVAL;
                settling.take((*text).to_owned(), now).cloned()
            })
            .collect()
    }

    #[test]
    fn a_change_is_taken_when_it_is_seen_twice() {
        assert_eq!(taken(&["a", "b", "b", "b", "c", "c"]), ["b", "c"]);
        assert_eq!(taken(&["b", "c", "c"]), ["c"]);
    }

    #[test]
    fn a_change_that_was_taken_back_is_none() {
        assert!(taken(&["b", "a", "b", "a", "a"]).is_empty());
    }

    #[test]
    fn what_was_of_no_use_is_taken_again() {
        let mut settling = Settling::new("a");
        let mut take = |is_of_use: bool| {
            let now = Instant::now();
            let taken = [settling.take("b", now).is_some(), settling.take("b", now).is_some()];
            if !is_of_use {
                settling.take_again();
            }
            taken
        };
        assert_eq!(take(false), [false, true]);
        assert_eq!(take(true), [false, true]);
        assert_eq!(take(true), [false, false]);
    }

    #[test]
    fn what_never_settles_is_taken_after_two_seconds() {
        let texts: Vec<_> = (0..25).map(|n| n.to_string()).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        assert_eq!(taken(&texts), ["10", "21"]);
    }
}
