use std::sync::Arc;

use crate::{
    manifest::{self, Object, Problem},
    traffic::model::{Route, RouteKind},
};

/// What routes and gateways need of what all objects have.
pub(super) struct Metadata {
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    pub(super) created: Option<Box<str>>,
    pub(super) line: u32,
}

impl Metadata {
    pub(super) fn read(object: &mut Object, line: u32) -> Result<Self, Problem> {
        let mut found = manifest::metadata::Metadata::read(object)?;
        let created = found
            .rest
            .mapped("creationTimestamp", |text| is_time(text).then(|| text.into()))?;
        Ok(Self {
            namespace: found.namespace,
            name: found.name,
            created,
            line,
        })
    }

    pub(super) fn route(self, kind: RouteKind, file: &Arc<str>) -> Route {
        let mut route = Route::new(kind, &self.namespace, &self.name);
        route.created = self.created;
        route.place = Some((Arc::clone(file), self.line));
        route
    }
}

/// As an API server writes a time, so that times are ordered as texts are.
fn is_time(text: &str) -> bool {
    let form = b"0000-00-00T00:00:00Z";
    let fits = |(byte, form): (u8, &u8)| byte == *form || (*form == b'0' && byte.is_ascii_digit());
    text.len() == form.len() && text.bytes().zip(form).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_form() {
        assert!(is_time("2026-01-02T03:04:05Z"));
        for text in [
            "",
            "2026-01-02",
            "2026-01-02T03:04:05+00:00",
            "2026-01-02T03:04:0xZ",
            "2026-01-02 03:04:05Z",
        ] {
            assert!(!is_time(text), "{text}");
        }
    }
}
