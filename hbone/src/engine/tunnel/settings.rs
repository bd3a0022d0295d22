//! SETTINGS, this side's and the peer's (RFC 9113 §6.5).

use super::fault::Fault;
use super::frame::MIN_MAX_FRAME;
use super::window::INITIAL;
use crate::config::Config;
use crate::observe::Role;

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// What this side announces.
pub(super) fn ours(role: Role, config: &Config) -> Vec<(u16, u32)> {
    let mut settings = match role {
        Role::Client => vec![(ENABLE_PUSH, 0)],
        Role::Server => vec![(MAX_CONCURRENT_STREAMS, config.max_tunnels())],
    };
    settings.extend([
        (INITIAL_WINDOW_SIZE, config.stream_window()),
        (MAX_FRAME_SIZE, config.max_frame_size()),
        (MAX_HEADER_LIST_SIZE, config.max_header_list()),
    ]);
    settings
}

/// What the peer announced, or is taken to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Bytes that the peer keeps of header fields.
    pub(super) header_table: u32,
    /// Streams that this side may have open.
    pub(super) max_streams: usize,
    pub(super) initial_window: u32,
    pub(super) max_frame: usize,
}

impl Settings {
    /// What holds until the peer has spoken: streams that it has not allowed it may refuse.
    pub(super) fn before(max_streams: usize) -> Self {
        Self {
            header_table: 4_096,
            max_streams,
            initial_window: INITIAL,
            max_frame: MIN_MAX_FRAME,
        }
    }

    /// Applies the payload of a frame, whole or not at all. Settings that nobody here acts on are
    /// ignored, as unknown ones are; the list size that a peer would rather not exceed among them,
    /// since heads are far below what any peer takes.
    pub(super) fn apply(self, payload: &[u8], is_server: bool) -> Result<Self, Fault> {
        let mut new = self;
        for setting in payload.chunks_exact(6) {
            let &[n0, n1, v0, v1, v2, v3] = setting else { continue };
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match u16::from_be_bytes([n0, n1]) {
                HEADER_TABLE_SIZE => new.header_table = value,
                // A server may not push unless asked, and so may not say that it would be pushed to.
                ENABLE_PUSH if value > 1 || (value == 1 && !is_server) => return Err(Fault::PROTOCOL),
                MAX_CONCURRENT_STREAMS => new.max_streams = value as usize,
                INITIAL_WINDOW_SIZE if value > i32::MAX as u32 => return Err(Fault::FLOW_CONTROL),
                INITIAL_WINDOW_SIZE => new.initial_window = value,
                MAX_FRAME_SIZE => {
                    new.max_frame = value as usize;
                    if !(MIN_MAX_FRAME..1 << 24).contains(&new.max_frame) {
                        return Err(Fault::PROTOCOL);
                    }
                }
                _ => {}
            }
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(settings: &[(u16, u32)]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        payload
    }

    #[test]
    fn values_have_ranges() {
        let before = Settings::before(7);
        for (setting, fault) in [
            ((ENABLE_PUSH, 2), Fault::PROTOCOL),
            ((INITIAL_WINDOW_SIZE, 1 << 31), Fault::FLOW_CONTROL),
            ((MAX_FRAME_SIZE, 16_383), Fault::PROTOCOL),
            ((MAX_FRAME_SIZE, 1 << 24), Fault::PROTOCOL),
        ] {
            assert_eq!(before.apply(&payload(&[setting]), true), Err(fault), "{setting:?}");
        }
        assert_eq!(before.apply(&payload(&[(ENABLE_PUSH, 1)]), true), Ok(before));
        assert_eq!(before.apply(&payload(&[(ENABLE_PUSH, 1)]), false), Err(Fault::PROTOCOL));
    }

    #[test]
    fn the_last_of_two_values_counts_and_unknown_settings_do_not() {
        let new = Settings::before(7).apply(
            &payload(&[
                (MAX_CONCURRENT_STREAMS, 1),
                (0xbeef, 5),
                (MAX_CONCURRENT_STREAMS, 2),
                (INITIAL_WINDOW_SIZE, 3),
                (HEADER_TABLE_SIZE, 0),
                (MAX_FRAME_SIZE, 20_000),
            ]),
            true,
        );
        let expected = Settings {
            header_table: 0,
            max_streams: 2,
            initial_window: 3,
            max_frame: 20_000,
        };
        assert_eq!(new, Ok(expected));
    }
}
