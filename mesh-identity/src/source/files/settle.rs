use std::time::{Duration, Instant};

use super::contents::Contents;

/// How long files have to stay as they are before they are taken: tools write them one by one, and
/// a swapped folder may be read half before and half after.
pub(super) const DEBOUNCE: Duration = Duration::from_millis(100);
/// How long files may go on changing before they are judged anyway. What does not belong together
/// is refused then.
const MAX_SETTLING: Duration = Duration::from_secs(2);

/// Decides when files that were read are to be judged.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// What was judged last.
    judged: Option<Contents>,
    changing: Option<Changing>,
}

#[derive(Debug)]
struct Changing {
    contents: Contents,
    /// Since when the files have been like this.
    since: Instant,
    began: Instant,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing has changed.
    Rest,
    /// Something has changed: read again after this time.
    ReadAgain(Duration),
    /// The files have settled: judge [`Settling::judged`].
    Judge,
}

impl Settling {
    /// Takes what the files hold at `now`.
    pub(super) fn take(&mut self, contents: Contents, now: Instant) -> Step {
        match &self.judged {
            // There is nothing yet to be kept in the meantime.
            None => {
                self.judged = Some(contents);
                return Step::Judge;
            }
            Some(judged) if *judged == contents => {
                self.changing = None;
                return Step::Rest;
            }
            Some(_) => {}
        }
        let (since, began) = match &self.changing {
            Some(before) if before.contents == contents => (before.since, before.began),
            Some(before) => (now, before.began),
            None => (now, now),
        };
        let left = DEBOUNCE.saturating_sub(now - since);
        if left.is_zero() || now - began >= MAX_SETTLING {
            self.changing = None;
            self.judged = Some(contents);
            return Step::Judge;
        }
        self.changing = Some(Changing { contents, since, began });
        Step::ReadAgain(left)
    }

    /// What was judged last.
    pub(super) fn judged(&self) -> Option<&Contents> {
        self.judged.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> Contents {
        Contents::new([("file".into(), Ok(text.into()))].into_iter())
    }

    /// What is done about a sequence of readings, each at a millisecond.
    fn steps(readings: &[(u64, &str)]) -> Vec<Step> {
        let (mut settling, start) = (Settling::default(), tokio::time::Instant::now().into_std());
        readings
            .iter()
            .map(|(millisecond, text)| settling.take(contents(text), start + Duration::from_millis(*millisecond)))
            .collect()
    }

    fn again(milliseconds: u64) -> Step {
        Step::ReadAgain(Duration::from_millis(milliseconds))
    }

    #[test]
    fn the_first_reading_is_judged_at_once() {
        assert_eq!(steps(&[(0, "a"), (5000, "a")]), [Step::Judge, Step::Rest]);
    }

    #[test]
    fn a_change_is_judged_when_it_has_stayed_for_100_ms() {
        assert_eq!(
            steps(&[(0, "a"), (5000, "b"), (5060, "b"), (5100, "b"), (9000, "b")]),
            [Step::Judge, again(100), again(40), Step::Judge, Step::Rest]
        );
    }

    #[test]
    fn another_change_starts_the_time_anew() {
        assert_eq!(
            steps(&[(0, "a"), (5000, "b"), (5099, "c"), (5198, "c"), (5199, "c")]),
            [Step::Judge, again(100), again(100), again(1), Step::Judge]
        );
    }

    #[test]
    fn a_change_that_was_taken_back_is_none() {
        assert_eq!(
            steps(&[(0, "a"), (5000, "b"), (5100, "a"), (5200, "b"), (5300, "b")]),
            [Step::Judge, again(100), Step::Rest, again(100), Step::Judge]
        );
    }

    #[test]
    fn files_that_never_settle_are_judged_every_two_seconds() {
        let texts: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let readings: Vec<_> = (0..100).map(|n| (n * 100, texts[n as usize].as_str())).collect();
        let judged = steps(&readings).iter().filter(|step| **step == Step::Judge).count();
        assert_eq!(judged, 1 + 4);
    }

    #[test]
    fn contents_are_not_printed() {
        assert_eq!(format!("{:?}", contents("secret")), "{\"file\"}");
    }
}
