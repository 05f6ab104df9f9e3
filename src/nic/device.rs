//! The device behind the registers: whether it works, and which of its lives it is in.
//!
//! A real NIC can wedge, and a reset empties its SA slots. This one is software and does neither by itself, so both are
//! modelled: [`Device::wedge_after`] breaks it on order, and each reset begins a new **incarnation**, in which no slot holds
//! an SA until the driver has loaded it again. Touches its own two words.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// No wedge is ordered.
const SOUND: u64 = u64::MAX;

/// The state of the device.
#[derive(Debug)]
pub struct Device {
    /// Counts from 1; 0 is no incarnation's number.
    incarnation: AtomicU32,
    /// Frames until it wedges; 0: it has.
    frames_left: AtomicU64,
    resets: AtomicU32,
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}

// Relaxed throughout: the words stand for themselves. What a reset does to the slots is ordered by the gate of the data path,
// which is shut meanwhile.
impl Device {
    /// A device that works.
    pub const fn new() -> Self {
        Self { incarnation: AtomicU32::new(1), frames_left: AtomicU64::new(SOUND), resets: AtomicU32::new(0) }
    }

    /// Hands it a frame to transmit. `false`: it is wedged, and never says that it is done with the frame.
    pub fn take(&self) -> bool {
        if self.frames_left.load(Relaxed) == SOUND {
            return true;
        }
        let took = self.frames_left.fetch_update(Relaxed, Relaxed, |left| match left {
            SOUND | 0 => None,
            left => Some(left - 1),
        });
        took.is_ok_and(|left| left > 0) || took == Err(SOUND)
    }

    /// Wedges it once it has transmitted so many more frames, at once for 0; `None` calls that off. A device that is
    /// wedged already stays so.
    pub fn wedge_after(&self, frames: Option<u32>) {
        let _ = self
            .frames_left
            .fetch_update(Relaxed, Relaxed, |left| (left != 0).then(|| frames.map_or(SOUND, u64::from)));
    }

    /// Whether it has stopped.
    pub fn is_wedged(&self) -> bool {
        self.frames_left.load(Relaxed) == 0
    }

    /// Which life it is in.
    pub fn incarnation(&self) -> u32 {
        self.incarnation.load(Relaxed)
    }

    /// How often it was reset.
    pub fn resets(&self) -> u32 {
        self.resets.load(Relaxed)
    }

    /// Begins a new incarnation: it works, its slots are empty. Only while nothing uses it.
    pub(super) fn reset(&self) -> u32 {
        let next = self.incarnation().checked_add(1).unwrap_or(1);
        self.incarnation.store(next, Relaxed);
        self.frames_left.store(SOUND, Relaxed);
        self.resets.fetch_add(1, Relaxed);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_as_many_frames_as_ordered_and_no_more() {
        let device = Device::new();
        assert!(device.take() && !device.is_wedged());
        device.wedge_after(Some(2));
        assert!(device.take() && !device.is_wedged());
        assert!(device.take() && device.is_wedged());
        assert!(!device.take());
        device.wedge_after(None);
        assert!(!device.take(), "only a reset helps");
        assert_eq!(device.reset(), 2);
        assert!(device.take() && !device.is_wedged());
        device.wedge_after(Some(1));
        device.wedge_after(None);
        assert!(device.take() && device.take());
        device.wedge_after(Some(0));
        assert!(device.is_wedged() && !device.take());
        assert_eq!((device.resets(), device.incarnation()), (1, 2));
    }
}
