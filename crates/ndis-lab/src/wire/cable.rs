//! A cable that delays, reorders, duplicates, loses and damages frames, by a seed.
//!
//! A [`Cable`] is a queue without a clock of its own: it is told the time with every call, real or
//! virtual. The same frames at the same times with the same seed come out in the same way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// What a cable does to frames. Chances are in parts per million of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Impairments {
    /// Every frame takes at least so long.
    pub delay: Duration,
    /// And up to so much longer, by chance; frames still come out in order.
    pub jitter: Duration,
    /// Frames that do not come out.
    pub drop: u32,
    /// Frames that come out twice.
    pub duplicate: u32,
    /// Frames that those behind them overtake.
    pub reorder: u32,
    /// How much longer a frame takes that is overtaken; without it, until the next one came out.
    pub hold: Duration,
    /// Frames of which one bit is flipped.
    pub corrupt: u32,
}

/// Which end of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// The one.
    A,
    /// The other.
    B,
}

impl End {
    /// The opposite end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What happened to frames so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Put in.
    pub frames: u64,
    /// Not delivered.
    pub dropped: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
    /// Damaged.
    pub corrupted: u64,
}

/// A frame on its way: (when it comes out, the order in which it was put in, to which end, bytes).
type OnItsWay = Reverse<(Duration, u64, End, Vec<u8>)>;

/// A cable between two ends.
#[derive(Debug)]
pub struct Cable {
    impairments: Impairments,
    random: fastrand::Rng,
    queue: BinaryHeap<OnItsWay>,
    /// When the last frame that was not held back comes out, towards A and towards B.
    last: [Duration; 2],
    number: u64,
    tally: Tally,
}

impl Cable {
    /// A cable; without impairments frames come out at once and as they went in.
    pub fn new(impairments: Impairments, seed: u64) -> Self {
        Self {
            impairments,
            random: fastrand::Rng::with_seed(seed),
            queue: BinaryHeap::new(),
            last: [Duration::ZERO; 2],
            number: 0,
            tally: Tally::default(),
        }
    }

    fn chance(&mut self, parts: u32) -> bool {
        // Drawn also when it cannot happen, so that one impairment does not change the others.
        self.random.u32(..1_000_000) < parts
    }

    /// Puts a frame in at one end, at this time; it comes out at the other.
    pub fn push(&mut self, now: Duration, from: End, mut frame: Vec<u8>) {
        let to = from.other();
        let Impairments { delay, jitter, drop, duplicate, reorder, hold, corrupt } = self.impairments;
        let (drop, duplicate) = (self.chance(drop), self.chance(duplicate));
        let (reorder, corrupt) = (self.chance(reorder), self.chance(corrupt));
        let bit = self.random.usize(..frame.len().max(1) * 8);
        let nanoseconds = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX);
        let wait = delay + Duration::from_nanos(self.random.u64(..=nanoseconds));
        self.tally.frames += 1;
        if drop {
            self.tally.dropped += 1;
            return;
        }
        if corrupt && let Some(byte) = frame.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
            self.tally.corrupted += 1;
        }
        let mut due = now + wait;
        if reorder {
            self.tally.reordered += 1;
            due += hold;
        } else {
            let last = &mut self.last[usize::from(to == End::B)];
            due = due.max(*last);
            *last = due;
        }
        let copy = duplicate.then(|| frame.clone());
        self.put(due, to, frame);
        if let Some(copy) = copy {
            self.tally.duplicated += 1;
            self.put(due, to, copy);
        }
    }

    fn put(&mut self, due: Duration, to: End, frame: Vec<u8>) {
        self.queue.push(Reverse((due, self.number, to, frame)));
        self.number += 1;
    }

    /// The next frame that has come out by now, and at which end.
    pub fn pop(&mut self, now: Duration) -> Option<(End, Vec<u8>)> {
        if self.next_due()? > now {
            return None;
        }
        self.queue.pop().map(|Reverse((_, _, to, frame))| (to, frame))
    }

    /// When the next frame comes out.
    pub fn next_due(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse((due, ..))| *due)
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// 1,000 frames, one a millisecond, and what comes out when.
    fn run(impairments: Impairments, seed: u64) -> (Vec<(Duration, End, Vec<u8>)>, Tally) {
        let mut cable = Cable::new(impairments, seed);
        let mut out = Vec::new();
        for number in 0..2000_u32 {
            let now = MS * number;
            if number < 1000 {
                let end = if number % 3 == 0 { End::A } else { End::B };
                cable.push(now, end, [[0x55; 60].as_slice(), &number.to_le_bytes()].concat());
            }
            while let Some((to, frame)) = cable.pop(now) {
                out.push((now, to, frame));
            }
        }
        assert_eq!(cable.next_due(), None);
        (out, cable.tally())
    }

    fn number(frame: &[u8]) -> u32 {
        frame.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    #[test]
    fn a_good_cable_changes_nothing() {
        let (out, tally) = run(Impairments::default(), 1);
        assert_eq!(tally, Tally { frames: 1000, ..Tally::default() });
        for (at, (now, to, frame)) in (0..).zip(&out) {
            let from = if at % 3 == 0 { End::A } else { End::B };
            assert_eq!((*now, *to, number(frame)), (MS * at, from.other(), at));
        }
        assert_eq!(out.len(), 1000);
    }

    #[test]
    fn a_seed_repeats_everything_and_another_one_does_not() {
        let all = Impairments {
            delay: MS * 3,
            jitter: MS * 5,
            drop: 50_000,
            duplicate: 50_000,
            reorder: 50_000,
            hold: MS * 20,
            corrupt: 50_000,
        };
        let first = run(all, 7);
        assert_eq!(first, run(all, 7));
        assert_ne!(first.0, run(all, 8).0);
        let tally = first.1;
        for count in [tally.dropped, tally.duplicated, tally.reordered, tally.corrupted] {
            // 50 are expected; 5 standard deviations are 34.
            assert!((16..=84).contains(&count), "{tally:?}");
        }
        assert_eq!(first.0.len() as u64, 1000 - tally.dropped + tally.duplicated);
    }

    #[test]
    fn each_impairment_does_only_what_it_says() {
        let (out, tally) = run(Impairments { drop: 500_000, ..Impairments::default() }, 2);
        assert_eq!(out.len() as u64, 1000 - tally.dropped);
        assert!(out.windows(2).all(|pair| number(&pair[0].2) < number(&pair[1].2)));

        let (out, tally) = run(Impairments { duplicate: 100_000, ..Impairments::default() }, 2);
        let twice = out.windows(2).filter(|pair| pair[0].2 == pair[1].2).count() as u64;
        assert_eq!((twice, out.len() as u64), (tally.duplicated, 1000 + tally.duplicated));

        let (out, tally) = run(Impairments { corrupt: 1_000_000, ..Impairments::default() }, 2);
        assert_eq!(tally.corrupted, 1000);
        for (at, (_, _, frame)) in (0_u32..).zip(&out) {
            let good = [[0x55; 60].as_slice(), &at.to_le_bytes()].concat();
            let flipped: u32 = frame.iter().zip(&good).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(flipped, 1);
        }

        let late = Impairments { reorder: 100_000, hold: MS * 10, ..Impairments::default() };
        let (out, tally) = run(late, 2);
        let overtaken = out.iter().filter(|(now, _, frame)| *now == MS * (number(frame) + 10)).count() as u64;
        assert_eq!((out.len(), overtaken), (1000, tally.reordered));
        assert!(tally.reordered > 50);

        let (out, _) = run(Impairments { delay: MS * 2, jitter: MS * 9, ..Impairments::default() }, 2);
        let towards =
            |end| out.iter().filter(move |(_, to, _)| *to == end).map(|(_, _, frame)| number(frame));
        assert!(towards(End::A).is_sorted() && towards(End::B).is_sorted());
        assert!(
            out.iter()
                .all(|(now, _, frame)| (2..=12).contains(&(now.as_millis() - u128::from(number(frame)))))
        );
    }
}
