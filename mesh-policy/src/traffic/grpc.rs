//! The statuses of gRPC, by number.

/// All of them, by name.
#[cfg(feature = "k8s")]
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) const CANCELLED: u8 = 1;
pub(super) const UNKNOWN: u8 = 2;
pub(super) const DEADLINE_EXCEEDED: u8 = 4;
pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
pub(super) const UNIMPLEMENTED: u8 = 12;
pub(super) const INTERNAL: u8 = 13;
pub(super) const UNAVAILABLE: u8 = 14;
pub(super) const DATA_LOSS: u8 = 15;

/// A status as a peer sent it. What is not in the list counts as UNKNOWN, as gRPC has it.
pub(super) fn known(status: u32) -> u8 {
    match u8::try_from(status) {
        Ok(known @ 0..=16) => known,
        _ => UNKNOWN,
    }
}

/// A status by its name or number.
#[cfg(feature = "k8s")]
pub(super) fn parse(text: &str) -> Option<u8> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &u8| usize::from(*number) < NAMES.len());
    number.or_else(|| NAMES.iter().position(|name| *name == text).map(|number| number as u8))
}

#[cfg(all(test, feature = "k8s"))]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_their_numbers() {
        for (name, number) in [
            ("CANCELLED", CANCELLED),
            ("UNKNOWN", UNKNOWN),
            ("DEADLINE_EXCEEDED", DEADLINE_EXCEEDED),
            ("RESOURCE_EXHAUSTED", RESOURCE_EXHAUSTED),
            ("UNIMPLEMENTED", UNIMPLEMENTED),
            ("INTERNAL", INTERNAL),
            ("UNAVAILABLE", UNAVAILABLE),
            ("DATA_LOSS", DATA_LOSS),
        ] {
            assert_eq!(parse(name), Some(number), "{name}");
            assert_eq!(parse(&number.to_string()), Some(number));
            assert_eq!(known(number.into()), number);
        }
        assert_eq!(
            (parse("17"), parse("ok"), known(17), known(1 << 20)),
            (None, None, UNKNOWN, UNKNOWN)
        );
    }
}
