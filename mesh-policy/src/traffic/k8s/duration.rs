use std::time::Duration;

/// A duration of the Gateway API (GEP-2257): one to four numbers of up to five digits, each with one
/// of `h`, `m`, `s` and `ms`.
pub(super) fn gateway_api(text: &str) -> Option<Duration> {
    let is_plain = |part: &Part<'_>| part.fraction.is_empty() && part.number.len() <= 5 && part.nanos >= 1_000_000;
    let parts = parts(text)?;
    (parts.len() <= 4 && parts.iter().all(is_plain))
        .then(|| total(&parts))
        .flatten()
}

/// A duration of Istio, as Go writes it: decimal numbers, each with one of `h`, `m`, `s`, `ms`, `us`,
/// and `ns`.
pub(super) fn istio(text: &str) -> Option<Duration> {
    total(&parts(text)?)
}

/// A number with its unit.
struct Part<'t> {
    number: &'t str,
    /// What follows the point.
    fraction: &'t str,
    nanos: u64,
}

/// The units, the longer ones before those that they begin with.
const UNITS: [(&str, u64); 7] = [
    ("ms", 1_000_000),
    ("us", 1000),
    ("\u{b5}s", 1000),
    ("ns", 1),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
        let (count, after) = rest.split_at_checked(end)?;
        let (unit, nanos) = UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        let (number, fraction) = count.split_once('.').unwrap_or((count, ""));
        if number.is_empty() || number.len() > 12 || fraction.len() > 9 || fraction.contains('.') {
            return None;
        }
        parts.push(Part {
            number,
            fraction,
            nanos: *nanos,
        });
        rest = after.strip_prefix(unit)?;
    }
    (!parts.is_empty()).then_some(parts)
}

fn total(parts: &[Part<'_>]) -> Option<Duration> {
    let mut nanos: u128 = 0;
    for part in parts {
        let whole: u128 = part.number.parse().ok()?;
        let scale = 10_u128.pow(part.fraction.len() as u32);
        let fraction: u128 = if part.fraction.is_empty() {
            0
        } else {
            part.fraction.parse().ok()?
        };
        nanos += whole * u128::from(part.nanos) + fraction * u128::from(part.nanos) / scale;
    }
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Option<Duration> = |count| Some(Duration::from_millis(count));

    #[test]
    fn reads_both_grammars() {
        for (text, of_gateway_api, of_istio) in [
            ("0s", MS(0), MS(0)),
            ("1h2m3s4ms", MS(3_723_004), MS(3_723_004)),
            ("10m", MS(600_000), MS(600_000)),
            ("99999h", MS(359_996_400_000), MS(359_996_400_000)),
            ("1.5s", None, MS(1500)),
            ("250us", None, Some(Duration::from_micros(250))),
            ("100000s", None, MS(100_000_000)),
            ("1s1s1s1s1s", None, MS(5000)),
            ("", None, None),
            ("1", None, None),
            ("s", None, None),
            ("-1s", None, None),
            ("1.s.", None, None),
            ("1d", None, None),
            ("9999999999h", None, None),
        ] {
            assert_eq!(gateway_api(text), of_gateway_api, "{text}");
            assert_eq!(istio(text), of_istio, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9.hmsun\u{b5}-]{0,24}") {
            gateway_api(&text);
            istio(&text);
        }
    }
}
