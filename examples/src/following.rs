//! Files as they change: what is read from time to time is taken when it has stayed the same twice.

use std::time::Duration;

/// Time between two looks at files, and for which a change has to stay.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// What files said when they were last taken, and what they may be about to say.
pub(crate) struct Following<T> {
    taken: Result<T, String>,
    settling: Option<Result<T, String>>,
    refused: String,
}

impl<T: Clone + PartialEq> Following<T> {
    pub(crate) fn new(taken: T) -> Self {
        Self {
            taken: Ok(taken),
            settling: None,
            refused: String::new(),
        }
    }

    /// What is now to be taken: what was read, if it is new and was read the last time, too.
    pub(crate) fn look(&mut self, read: Result<T, String>) -> Option<Result<T, String>> {
        if read == self.taken {
            self.settling = None;
            return None;
        }
        if self.settling.as_ref() != Some(&read) {
            self.settling = Some(read);
            return None;
        }
        self.settling = None;
        self.taken = read.clone();
        Some(read)
    }

    /// What was to be taken is in force.
    pub(crate) fn accepted(&mut self) {
        self.refused.clear();
    }

    /// What was to be taken is not; whether the reason is another one than the last time.
    pub(crate) fn refused(&mut self, reason: &str) -> bool {
        let is_new = self.refused != reason;
        reason.clone_into(&mut self.refused);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_once_it_stays() {
        let mut following = Following::new(1);
        let looks = [1, 2, 3, 3, 3, 1, 3, 1, 1].map(|read| following.look(Ok(read)).is_some());
        assert_eq!(looks, [false, false, false, true, false, false, false, false, true]);
    }

    #[test]
    fn a_reason_is_news_until_something_is_accepted() {
        let mut following = Following::new(1);
        assert!(following.refused("a") && !following.refused("a") && following.refused("b"));
        following.accepted();
        assert!(following.refused("b"));
    }
}
