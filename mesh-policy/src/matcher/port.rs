/// A port: a decimal number from 0 to 65535, without a sign.
pub(crate) fn parse(value: &str) -> Option<u16> {
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_end_at_65535() {
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("00080"), Some(80));
        assert_eq!(parse("65535"), Some(65535));
        for bad in ["65536", "-1", "+1", "", "8o", " 80", "80*", "*"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
