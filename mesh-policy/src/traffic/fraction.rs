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
        assert!(Fraction::ALL.takes(u64::MAX) && !Fraction::new(0, 1).unwrap().takes(0));
        assert!(Fraction::new(1, 0).is_err() && Fraction::new(2, 1).is_err());
    }
}
