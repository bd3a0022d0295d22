/// Resolves `.` and `..` segments in a path that begins with `/` (RFC 3986 §5.2.4). A segment counts
/// without its parameters: servers that strip `;x` before they resolve would otherwise go up where
/// the policy did not.
pub(super) fn remove_dots(path: &mut Vec<u8>) {
    let mut kept = 0;
    let mut at = 0;
    while at < path.len() {
        // `at` is at a slash, and everything before `kept` is done.
        let start = at + 1;
        let end = segment_end(path, start);
        let last = end == path.len();
        match dots(path.get(start..end).unwrap_or_default()) {
            Some(Dots::Here) => {}
            Some(Dots::Up) => {
                let before = path.get(..kept).unwrap_or_default();
                kept = before.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            }
            None => {
                path.copy_within(at..end, kept);
                kept += end - at;
                at = end;
                continue;
            }
        }
        if last {
            // What a dot segment names is a folder, and a folder's name ends with a slash. The
            // segment that is dropped was longer, so there is room.
            if let Some(byte) = path.get_mut(kept) {
                *byte = b'/';
            }
            kept += 1;
        }
        at = end;
    }
    path.truncate(kept);
}

/// Makes one slash of several in a row, but of a path of slashes two, as Envoy does.
pub(super) fn merge_slashes(path: &mut Vec<u8>) {
    if path.len() > 1 && path.iter().all(|byte| *byte == b'/') {
        path.truncate(2);
        return;
    }
    path.dedup_by(|next, before| *next == b'/' && *before == b'/');
}

/// Whether a dot segment of a decoded path has a parameter.
pub(super) fn has_dot_parameters(path: &[u8]) -> bool {
    let mut segments = path.split(|byte| *byte == b'/');
    segments.any(|segment| segment.contains(&b';') && dots(segment).is_some())
}

enum Dots {
    Here,
    Up,
}

fn dots(segment: &[u8]) -> Option<Dots> {
    let name = segment.split(|byte| *byte == b';').next()?;
    match name {
        b"." => Some(Dots::Here),
        b".." => Some(Dots::Up),
        _ => None,
    }
}

fn segment_end(path: &[u8], start: usize) -> usize {
    let rest = path.get(start..).unwrap_or_default();
    start + rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len())
}
