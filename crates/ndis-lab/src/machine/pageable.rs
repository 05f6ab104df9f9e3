//! Code and data of an image that Windows may page out or throw away: sections named `PAGE…`, and `INIT`.
//!
//! `MmLockPagableDataSection` keeps a section resident until it is unlocked as often. A handler that is called
//! at DISPATCH_LEVEL must not lie in pageable code.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{DISPATCH, Machine};
use crate::driver::DriverCore;
use crate::loader::Section;
use crate::rules;

/// Whether the kernel pages a section: its name begins with `PAGE`.
fn is_pageable(section: &Section) -> bool {
    section.name.starts_with("PAGE")
}

impl Machine {
    /// The image and the section that an address lies in.
    fn section_of(&self, address: usize) -> Option<(Arc<DriverCore>, Section)> {
        let drivers: Vec<_> = self.objects.lock().drivers.values().cloned().collect();
        drivers.into_iter().find_map(|core| {
            let image = core.image().filter(|image| image.contains(address))?;
            let rva = u32::try_from(address - image.base()).ok()?;
            let section = image.sections().iter().find(|section| section.range.contains(&rva))?.clone();
            Some((core, section))
        })
    }

    /// An image was loaded.
    pub(crate) fn note_sections(&self, core: &DriverCore) {
        if core.image().is_some_and(|image| image.sections().iter().any(is_pageable)) {
            // Relaxed: see `check_resident`.
            self.any_pageable.store(true, Ordering::Relaxed);
        }
    }

    /// The name of the section that was thrown away after DriverEntry, if `address` lies in one.
    pub(super) fn discarded_at(&self, address: usize) -> Option<String> {
        let (_, section) = self.section_of(address)?;
        (section.discardable && section.name == "INIT").then_some(section.name)
    }

    /// Locks a section once more (1) or less (-1).
    pub(crate) fn lock_section(&self, address: usize, step: i32) {
        let Some((core, section)) = self.section_of(address) else {
            // A native driver has no sections that anyone pages.
            return;
        };
        let mut locked = core.locked_sections.lock();
        let count = locked.entry(section.range.start).or_insert(0);
        *count += step;
        if *count < 0 {
            *count = 0;
            drop(locked);
            self.violate(
                rules::PAGED_CODE,
                format!("section {} is unlocked more often than locked", section.name),
            );
        }
    }

    /// A handler is about to be called: at DISPATCH_LEVEL it must be resident.
    pub(super) fn check_resident(&self, target: usize, irql: u8) {
        // Relaxed: it was set on the thread that loaded the image, before any of its handlers was known.
        if irql < DISPATCH || !self.any_pageable.load(Ordering::Relaxed) {
            return;
        }
        let Some((core, section)) = self.section_of(target).filter(|(_, section)| is_pageable(section))
        else {
            return;
        };
        let resident = core.locked_sections.lock().get(&section.range.start).is_some_and(|count| *count > 0);
        if !resident {
            let text =
                format!("the handler at {target:#x} lies in section {}, which is pageable", section.name);
            self.violate(rules::PAGED_CODE, text);
        }
    }
}
