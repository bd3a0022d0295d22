use thiserror::Error;

/// A share of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    numerator: u32,
    denominator: u32,
}

impl Fraction {
    /// All requests.
    pub const ALL: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// No requests.
    pub const NONE: Self = Self {
        numerator: 0,
        denominator: 1,
    };

    /// So many of so many.
    ///
    /// # Errors
    ///
    /// It is more than all, or of none.
    pub fn new(numerator: u32, denominator: u32) -> Result<Self, FractionError> {
        if denominator == 0 || numerator > denominator {
            return Err(FractionError { numerator, denominator });
        }
        Ok(Self { numerator, denominator })
    }

    /// So much of a hundred, to four digits behind the point.
    ///
    /// # Errors
    ///
    /// It is more than all, or below zero.
    pub fn percent(percent: f64) -> Result<Self, FractionError> {
        let numerator = (percent * 10_000.0).round();
        let is_share = (0.0..=1_000_000.0).contains(&numerator);
        Self::new(if is_share { numerator as u32 } else { u32::MAX }, 1_000_000)
    }

    /// So many of a hundred, and no more than all.
    pub(super) const fn of_hundred(percent: u32) -> Self {
        Self {
            numerator: if percent < 100 { percent } else { 100 },
            denominator: 100,
        }
    }

    /// How many whole ones of a hundred.
    pub(super) fn in_hundred(self) -> u32 {
        let part = u64::from(self.numerator) * 100 / u64::from(self.denominator);
        u32::try_from(part).unwrap_or(100)
    }

    /// Whether a request belongs to it, by a number that is drawn evenly from all 64-bit ones for
    /// this question alone.
    pub fn takes(self, draw: u64) -> bool {
        share(draw, self.denominator.into()) < u64::from(self.numerator)
    }
}

/// Scales a number drawn from all 64-bit ones to one below `count`, evenly but for a bias of at most
/// `count` in 2^64.
pub(super) fn share(draw: u64, count: u64) -> u64 {
    ((u128::from(draw) * u128::from(count)) >> 64) as u64
}

/// A fraction is more than all, or of none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{numerator}/{denominator} is no share of requests")]
#[non_exhaustive]
pub struct FractionError {
    /// So many.
    pub numerator: u32,
    /// Of so many.
    pub denominator: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_its_share_of_the_draws() {
        let quarter = Fraction::new(1, 4).unwrap();
        assert!(quarter.takes(0) && quarter.takes(u64::MAX / 4) && !quarter.takes(u64::MAX / 4 + 1));
        assert!(Fraction::ALL.takes(u64::MAX) && !Fraction::NONE.takes(0));
        assert_eq!(Fraction::percent(0.0001), Fraction::new(1, 1_000_000));
        for percent in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            assert!(Fraction::percent(percent).is_err(), "{percent}");
        }
        assert!(Fraction::new(1, 0).is_err() && Fraction::new(2, 1).is_err());
    }
}
