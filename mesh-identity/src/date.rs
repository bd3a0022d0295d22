//! Calendar dates of certificates, to and from seconds since 1970.

use std::{fmt, time::Duration};

use rustls_pki_types::UnixTime;

use crate::der::{GENERALIZED_TIME, Malformed, Reader, UTC_TIME};

/// Prints a moment as RFC 3339 does: `2026-03-01T12:00:00Z`.
pub(crate) struct Rfc3339(pub(crate) UnixTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// A `Time` (RFC 5280 §4.1.2.5). Moments before 1970 come out as the start of 1970, which orders
/// them correctly against any moment at which a certificate can be checked.
pub(crate) fn time(reader: &mut Reader<'_>) -> Result<UnixTime, Malformed> {
    let (tag, text) = reader.any()?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits(text, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => digits(text, 4)?,
        _ => return Err(Malformed),
    };
    let (month, rest) = digits(rest, 2)?;
    let (day, rest) = digits(rest, 2)?;
    let (hour, rest) = digits(rest, 2)?;
    let (minute, rest) = digits(rest, 2)?;
    let (second, rest) = digits(rest, 2)?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if rest != b"Z" || !in_range {
        return Err(Malformed);
    }
    let seconds = days(year, month, day).map_or(0, |days| ((days * 24 + hour) * 60 + minute) * 60 + second);
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

fn digits(text: &[u8], count: usize) -> Result<(u64, &[u8]), Malformed> {
    let (number, rest) = text.split_at_checked(count).ok_or(Malformed)?;
    let value = number.iter().try_fold(0, |value, digit| match digit {
        b'0'..=b'9' => Ok(value * 10 + u64::from(digit - b'0')),
        _ => Err(Malformed),
    })?;
    Ok((value, rest))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 0000-03-01 to 1970-01-01. Years that begin in March have their leap day at the end.
const EPOCH: u64 = 719_468;

/// Days since 1970 of a date, unless it lies before.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let march_year = if month > 2 { year } else { year.checked_sub(1)? };
    let month_index = (month + 9) % 12;
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    let leap_days = march_year / 4 - march_year / 100 + march_year / 400;
    (march_year * 365 + leap_days + day_of_year).checked_sub(EPOCH)
}

/// Year, month and day of a day since 1970.
fn civil(day: u64) -> (u64, u64, u64) {
    let day = day.saturating_add(EPOCH);
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day_of_year - (153 * month_index + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(tag: u8, text: &str) -> Result<UnixTime, Malformed> {
        let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
        der.extend_from_slice(text.as_bytes());
        time(&mut Reader::new(&der))
    }

    fn show(seconds: u64) -> String {
        Rfc3339(UnixTime::since_unix_epoch(Duration::from_secs(seconds))).to_string()
    }

    #[test]
    fn knows_the_landmarks() {
        assert_eq!(read(UTC_TIME, "700101000000Z").unwrap().as_secs(), 0);
        assert_eq!(read(UTC_TIME, "000229235959Z").unwrap().as_secs(), 951_868_799);
        assert_eq!(read(UTC_TIME, "491231235959Z").unwrap().as_secs(), 2_524_607_999);
        assert_eq!(
            read(GENERALIZED_TIME, "99991231235959Z").unwrap().as_secs(),
            253_402_300_799
        );
        assert_eq!(read(UTC_TIME, "500101000000Z").unwrap().as_secs(), 0);
        assert_eq!(read(GENERALIZED_TIME, "00000101000000Z").unwrap().as_secs(), 0);
        assert_eq!(show(951_868_799), "2000-02-29T23:59:59Z");
        assert_eq!(show(253_402_300_799), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn rejects_what_is_no_date() {
        for text in [
            "",
            "0001010000Z",
            "000101000000",
            "000101000000+0000",
            "001301000000Z",
            "000001000000Z",
            "000100000000Z",
            "010229000000Z",
            "000101240000Z",
            "000101006000Z",
            "000101000060Z",
            "0001010000 0Z",
        ] {
            assert_eq!(read(UTC_TIME, text), Err(Malformed), "{text}");
        }
        assert_eq!(read(GENERALIZED_TIME, "20000101000000.5Z"), Err(Malformed));
    }

    proptest! {
        #[test]
        fn printing_then_reading_is_identity(seconds in 0..253_402_300_800u64) {
            let text = show(seconds).replace(['-', ':', 'T'], "");
            prop_assert_eq!(read(GENERALIZED_TIME, &text).unwrap().as_secs(), seconds);
        }
    }
}
