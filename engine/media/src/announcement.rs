//! `Announcements`: prompts that are heard once each, one after the other, in place of what a leg plays otherwise.
//! A tick comes in, the frame that is due comes out.

use std::collections::VecDeque;

use crate::{leg::Music, ring::Reader, time::Tick};

/// Names an announcement for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnnouncementId(pub u64);

/// A prompt that one leg plays once.
#[derive(Debug)]
pub struct Announcement {
    /// Its name.
    pub id: AnnouncementId,
    /// What is heard.
    pub music: Music,
    /// How much of it, in frames; at least one.
    pub frames: u64,
}

/// The announcements that wait for their turn on one leg, and the one that is heard.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    queue: VecDeque<Announcement>,
    /// The tick of the first frame of the one that is heard; `None` until its first packet was made.
    origin: Option<Tick>,
}

impl Announcements {
    /// One more, behind the others.
    pub(crate) fn push(&mut self, announcement: Announcement) {
        self.queue.push_back(announcement);
    }

    /// Whether nothing is left to be heard.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Where the frame of `tick` is. Ticks that were left out are not heard, except that of the last frame: without it
    /// the announcement would not end.
    pub(crate) fn due(&self, tick: Tick) -> Option<(&Reader, u64)> {
        let announcement = self.queue.front()?;
        Some((&announcement.music.reader, self.position(tick).min(announcement.last())))
    }

    /// The packet of `tick` has left, or was refused. What has been heard to its end comes out, to be dropped elsewhere.
    /// A frame that was not there yet is waited for.
    pub(crate) fn pass(&mut self, tick: Tick, starved: bool) -> Option<Announcement> {
        let last = self.queue.front()?.last();
        let position = self.position(tick);
        if starved {
            self.origin = self.origin.map(|origin| origin.next());
            return None;
        }
        self.origin.get_or_insert(tick);
        if position < last {
            return None;
        }
        self.origin = None;
        self.queue.pop_front()
    }

    fn position(&self, tick: Tick) -> u64 {
        self.origin.map_or(0, |origin| tick.0.saturating_sub(origin.0))
    }
}

impl Announcement {
    fn last(&self) -> u64 {
        self.frames.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SourceId, frame::Frame, ring};

    fn announcement(id: u64, frames: u64) -> Announcement {
        let (mut writer, reader) = ring::closed(8);
        writer.push(Frame::new(&[1])).unwrap();
        writer.close(0);
        let music = Music { source: SourceId(id), reader, is_default: false };
        Announcement { id: AnnouncementId(id), music, frames }
    }

    fn play(
        announcements: &mut Announcements,
        ticks: impl IntoIterator<Item = u64>,
    ) -> Vec<(u64, Option<u64>)> {
        ticks
            .into_iter()
            .map(|tick| {
                let (_, position) = announcements.due(Tick(tick)).unwrap();
                let ended = announcements.pass(Tick(tick), false);
                (position, ended.map(|announcement| announcement.id.0))
            })
            .collect()
    }

    #[test]
    fn each_is_heard_once_and_the_next_follows_at_once() {
        let mut announcements = Announcements::default();
        announcements.push(announcement(1, 2));
        announcements.push(announcement(2, 1));
        let heard = play(&mut announcements, 10..13);
        assert_eq!(heard, [(0, None), (1, Some(1)), (0, Some(2))]);
        assert!(announcements.is_empty());
        assert!(announcements.due(Tick(13)).is_none());
    }

    #[test]
    fn ticks_that_are_left_out_are_not_heard_but_the_end_always_is() {
        let mut announcements = Announcements::default();
        announcements.push(announcement(1, 4));
        assert_eq!(play(&mut announcements, [10, 12, 20]), [(0, None), (2, None), (3, Some(1))]);
    }

    #[test]
    fn what_is_not_there_yet_is_waited_for() {
        let mut announcements = Announcements::default();
        announcements.push(announcement(1, 2));
        assert!(announcements.pass(Tick(9), true).is_none());
        assert_eq!(play(&mut announcements, [10]), [(0, None)]);
        assert!(announcements.pass(Tick(11), true).is_none());
        assert_eq!(play(&mut announcements, [12]), [(1, Some(1))]);
    }
}
