//! The streams of a connection: which are open, which were, and whose turn it is.

use std::collections::{BTreeMap, VecDeque};

use slab::Slab;

use super::stream::{Failure, Place, Stream};

/// Streams, by slot while somebody holds them and by id while they are open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Slab<Stream>,
    open: BTreeMap<u32, usize>,
    /// The open stream that was looked up last, most often the next one too.
    last: Option<(u32, usize)>,
    resets: BTreeMap<u32, Aftermath>,
    /// Their ids, the one that was reset first in front: the oldest stream may be the last to be reset.
    reset_order: VecDeque<u32>,
    /// Streams whose users are to be told.
    news: Line,
    /// Streams that wait for their turn to send.
    waiting: Line,
}

/// Streams in the order in which they came, by slot and id. One that leaves before its turn is
/// passed over when that comes, so that leaving costs nothing however long the line is.
#[derive(Debug, Default)]
struct Line {
    places: VecDeque<(usize, u32)>,
    /// Places whose streams have not left.
    taken: usize,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.taken == 0
    }

    fn push(&mut self, slot: usize, id: u32) {
        self.places.push_back((slot, id));
        self.taken += 1;
    }

    /// One stream leaves; `stays` tells of those that have not.
    fn leave(&mut self, stays: impl Fn(usize, u32) -> bool) {
        self.taken -= 1;
        if self.places.len() > 2 * self.taken + EMPTY_PLACES {
            self.places.retain(|(slot, id)| stays(*slot, *id));
        }
    }

    fn next(&mut self, stays: impl Fn(usize, u32) -> bool) -> Option<usize> {
        while let Some((slot, id)) = self.places.pop_front() {
            if stays(slot, id) {
                self.taken -= 1;
                return Some(slot);
            }
        }
        None
    }
}

/// Places of streams that have left a line, which are not looked for yet.
const EMPTY_PLACES: usize = 64;

/// Whether a place in a line is still that of its stream: slots are used again.
fn stays(slots: &Slab<Stream>, is_there: fn(&Place) -> bool) -> impl Fn(usize, u32) -> bool {
    move |slot, id| {
        let stream = slots.get(slot);
        stream.is_some_and(|stream| stream.id == id && is_there(&stream.place))
    }
}

fn has_news(place: &Place) -> bool {
    place.has_news
}

fn is_waiting(place: &Place) -> bool {
    place.is_waiting
}

/// What may still come on a stream that this side has reset: what the peer sent before it knew
/// (RFC 9113 §5.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Aftermath {
    pub(super) window: u32,
    pub(super) heads: u8,
}

/// Heads that may come on a stream that was reset: interim, final, trailers.
const LATE_HEADS: u8 = 8;

impl Streams {
    /// Adds an open stream; answers its slot.
    pub(super) fn insert(&mut self, stream: Stream) -> usize {
        let id = stream.id;
        let slot = self.slots.insert(stream);
        self.open.insert(id, slot);
        slot
    }

    /// Streams that are open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// The slot of an open stream.
    pub(super) fn find(&mut self, id: u32) -> Option<usize> {
        match self.last {
            Some((last, slot)) if last == id => Some(slot),
            _ => {
                let slot = *self.open.get(&id)?;
                self.last = Some((id, slot));
                Some(slot)
            }
        }
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Stream> {
        self.slots.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Stream> {
        self.slots.get_mut(slot)
    }

    /// Every open stream.
    pub(super) fn each_open(&mut self, mut act: impl FnMut(&mut Stream)) {
        for slot in self.open.values() {
            if let Some(stream) = self.slots.get_mut(*slot) {
                act(stream);
            }
        }
    }

    /// Slots of the open streams whose ids are above `id`.
    pub(super) fn above(&self, id: u32) -> Vec<usize> {
        self.open.range(id.saturating_add(1)..).map(|(_, slot)| *slot).collect()
    }

    /// Slots of all open streams.
    pub(super) fn all(&self) -> Vec<usize> {
        self.open.values().copied().collect()
    }

    /// Takes a stream that is no longer open from among those that are.
    pub(super) fn settle(&mut self, slot: usize) {
        if let Some(stream) = self.slots.get(slot)
            && stream.is_closed()
        {
            self.open.remove(&stream.id);
            self.last = None;
        }
    }

    /// Fails a stream and tells its user.
    pub(super) fn fail(&mut self, slot: usize, failure: Failure) {
        if let Some(stream) = self.slots.get_mut(slot) {
            stream.failure.get_or_insert(failure);
            self.settle(slot);
            self.tell(slot);
        }
    }

    /// Nobody holds the stream any more; answers it.
    pub(super) fn remove(&mut self, slot: usize) -> Option<Stream> {
        let stream = self.slots.try_remove(slot)?;
        if stream.place.has_news {
            self.news.leave(stays(&self.slots, has_news));
        }
        if stream.place.is_waiting {
            self.waiting.leave(stays(&self.slots, is_waiting));
        }
        Some(stream)
    }

    /// Remembers a stream that this side has reset, and no more than `limit` of them.
    pub(super) fn remember(&mut self, id: u32, window: u32, limit: usize) {
        let heads = LATE_HEADS;
        if self.resets.insert(id, Aftermath { window, heads }).is_none() {
            self.reset_order.push_back(id);
        }
        while self.reset_order.len() > limit
            && let Some(first) = self.reset_order.pop_front()
        {
            self.resets.remove(&first);
        }
    }

    /// The peer learned of more window before it learned of the resets.
    pub(super) fn widen_resets(&mut self, by: u32) {
        for aftermath in self.resets.values_mut() {
            aftermath.window = aftermath.window.saturating_add(by);
        }
    }

    /// What may still come on a stream that is not open.
    pub(super) fn aftermath(&mut self, id: u32) -> Option<&mut Aftermath> {
        self.resets.get_mut(&id)
    }

    /// The stream's user is to be told that there is something for it.
    pub(super) fn tell(&mut self, slot: usize) {
        if let Some(stream) = self.slots.get_mut(slot)
            && !stream.place.has_news
            && !stream.place.is_unseen
        {
            stream.place.has_news = true;
            self.news.push(slot, stream.id);
        }
    }

    /// The key of the next stream whose user is to be told.
    pub(super) fn next_news(&mut self) -> Option<usize> {
        let slot = self.news.next(stays(&self.slots, has_news))?;
        let stream = self.slots.get_mut(slot)?;
        stream.place.has_news = false;
        Some(stream.key)
    }

    /// Whether a user is to be told.
    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Whether streams wait for their turn to send.
    pub(super) fn is_crowded(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Has a stream wait for its turn, behind those that do.
    pub(super) fn wait(&mut self, slot: usize) {
        if let Some(stream) = self.slots.get_mut(slot)
            && !stream.place.is_waiting
        {
            stream.place.is_waiting = true;
            self.waiting.push(slot, stream.id);
        }
    }

    /// Gives the next stream its turn; answers its key.
    pub(super) fn next_turn(&mut self) -> Option<usize> {
        let slot = self.waiting.next(stays(&self.slots, is_waiting))?;
        let stream = self.slots.get_mut(slot)?;
        stream.place.is_waiting = false;
        stream.place.has_turn = true;
        Some(stream.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_a_line_is_passed_over_and_takes_no_room() {
        let (mut line, mut left) = (Line::default(), [false; 1_000]);
        for id in 0..1_000 {
            line.push(id as usize, id);
        }
        for slot in (0..1_000).filter(|slot| slot % 10 != 3) {
            left[slot] = true;
            line.leave(|slot, _| !left[slot]);
            assert!(line.places.len() <= 2 * line.taken + EMPTY_PLACES);
        }
        let rest = std::iter::from_fn(|| line.next(|slot, _| !left[slot]));
        assert!(rest.eq((0..1_000).filter(|slot| slot % 10 == 3)));
        assert!(line.is_empty());
    }

    #[test]
    fn a_stream_in_a_used_slot_does_not_take_the_place_of_the_one_before() {
        let mut streams = Streams::default();
        let wait = |streams: &mut Streams, id| {
            let mut stream = Stream::new(id, 1, 1);
            stream.key = id as usize;
            let slot = streams.insert(stream);
            streams.wait(slot);
            slot
        };
        let first = wait(&mut streams, 1);
        wait(&mut streams, 3);
        streams.remove(first);
        assert_eq!(wait(&mut streams, 5), first);
        let turns = [(); 3].map(|()| streams.next_turn());
        assert_eq!(turns, [Some(3), Some(5), None]);
        assert!(!streams.is_crowded());
    }
}
