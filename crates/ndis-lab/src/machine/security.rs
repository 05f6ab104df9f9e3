//! Tokens, security descriptors and access checks, as `SeAccessCheck` makes them.
//!
//! A descriptor is a driver's bytes: every offset and length is checked against the lengths that the
//! structures around it have.

use super::{Machine, Origin};
use crate::rules;

/// `FILE_GENERIC_READ` and its kin: the mapping of file objects.
pub(crate) const FILE_MAPPING: [u32; 4] = [0x0012_0089, 0x0012_0116, 0x0012_00a0, 0x001f_01ff];
const MAXIMUM_ALLOWED: u32 = 0x0200_0000;
const GENERIC: [u32; 4] = [0x8000_0000, 0x4000_0000, 0x2000_0000, 0x1000_0000];
const WRITE_DAC_AND_READ_CONTROL: u32 = 0x0006_0000;

/// A security identifier: authority and sub-authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sid(pub(crate) Vec<u8>);

impl Sid {
    /// A SID of an authority below 2^48, as in `S-1-authority-sub-sub…`.
    pub fn new(authority: u64, subs: &[u32]) -> Self {
        let mut bytes = vec![1, u8::try_from(subs.len().min(15)).unwrap_or(15)];
        bytes.extend_from_slice(&authority.to_be_bytes()[2..]);
        subs.iter().take(15).for_each(|sub| bytes.extend_from_slice(&sub.to_le_bytes()));
        Self(bytes)
    }

    /// Reads a SID from the start of `bytes`.
    fn read(bytes: &[u8]) -> Option<Self> {
        let count = usize::from(*bytes.get(1)?);
        let whole = bytes.get(..8 + 4 * count)?;
        (whole[0] == 1 && count <= 15).then(|| Self(whole.to_vec()))
    }

    /// The last sub-authority: of a label, its level.
    fn level(&self) -> u32 {
        self.0.last_chunk::<4>().map_or(0, |last| u32::from_le_bytes(*last))
    }
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The user and its enabled groups.
    pub(crate) sids: Vec<Sid>,
    /// Groups that only deny: of a user whose administrator's rights are not elevated.
    pub(crate) deny_only: Vec<Sid>,
    /// The integrity level: 0x2000 medium, 0x3000 high, 0x4000 system.
    pub(crate) integrity: u32,
}

fn everyone() -> Sid {
    Sid::new(1, &[0])
}

fn administrators() -> Sid {
    Sid::new(5, &[32, 544])
}

impl Token {
    /// `NT AUTHORITY\SYSTEM`: services.
    pub fn system() -> Self {
        let sids = vec![Sid::new(5, &[18]), administrators(), everyone(), Sid::new(5, &[11])];
        Self { sids, deny_only: Vec::new(), integrity: 0x4000 }
    }

    fn person(id: u32) -> Sid {
        Sid::new(5, &[21, 1, 2, 3, id])
    }

    /// An administrator, elevated.
    pub fn administrator() -> Self {
        let sids = vec![Self::person(500), administrators(), everyone(), Sid::new(5, &[11])];
        Self { sids, deny_only: Vec::new(), integrity: 0x3000 }
    }

    /// An ordinary user, or an administrator who is not elevated: for access checks the same.
    pub fn user() -> Self {
        let sids = vec![Self::person(1001), Sid::new(5, &[32, 545]), everyone(), Sid::new(5, &[11])];
        Self { sids, deny_only: vec![administrators()], integrity: 0x2000 }
    }
}

/// One entry of an access control list.
#[derive(Debug, Clone)]
struct Ace {
    kind: u8,
    flags: u8,
    mask: u32,
    sid: Sid,
}

/// What an access check needs of a security descriptor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Descriptor {
    owner: Option<Sid>,
    /// `None`: no DACL, so everything is allowed.
    dacl: Option<Vec<Ace>>,
    sacl: Vec<Ace>,
}

impl Descriptor {
    /// Reads a descriptor in self-relative form.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let control = word(2)?;
        if *bytes.first()? != 1 || control & 0x8000 == 0 {
            return None;
        }
        let acl = |present: u16, offset: u32| -> Option<Option<Vec<Ace>>> {
            if control & present == 0 || offset == 0 {
                return Some(None);
            }
            read_acl(bytes.get(offset as usize..)?).map(Some)
        };
        let owner = match long(4)? {
            0 => None,
            at => Some(Sid::read(bytes.get(at as usize..)?)?),
        };
        Some(Self { owner, sacl: acl(0x10, long(12)?)?.unwrap_or_default(), dacl: acl(4, long(16)?)? })
    }

    /// How many bytes a descriptor can have at most: what its parts' own lengths say.
    ///
    /// # Safety
    /// `descriptor` leads to a descriptor in self-relative form.
    pub(crate) unsafe fn copy(descriptor: *const u8) -> Vec<u8> {
        // SAFETY: the caller vouches for the header and for what its offsets lead to.
        unsafe {
            let header = std::slice::from_raw_parts(descriptor, 20);
            let long = |at: usize| {
                u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
            };
            let mut end = 20;
            for at in [long(4), long(8)].into_iter().filter(|at| *at != 0) {
                end = end.max(at + 8 + 4 * usize::from(*descriptor.add(at + 1)));
            }
            for at in [long(12), long(16)].into_iter().filter(|at| *at != 0) {
                end = end.max(
                    at + usize::from(u16::from_le_bytes([*descriptor.add(at + 2), *descriptor.add(at + 3)])),
                );
            }
            std::slice::from_raw_parts(descriptor, end).to_vec()
        }
    }

    /// Checks an access: what is granted, or `None` if it is denied. `desired` is mapped already.
    pub(crate) fn check(&self, token: &Token, desired: u32, mapping: [u32; 4]) -> Option<u32> {
        let everything = desired & MAXIMUM_ALLOWED != 0;
        let desired = desired & !MAXIMUM_ALLOWED;
        let mut barred = 0;
        // The mandatory label comes first; without one an object is medium, closed to writers below.
        let label = self.sacl.iter().find(|ace| ace.kind == 0x11);
        let (level, policy) = label.map_or((0x2000, 1), |ace| (ace.sid.level(), ace.mask));
        if token.integrity < level {
            for (bit, rights) in [(2, mapping[0]), (1, mapping[1]), (4, mapping[2])] {
                if policy & bit != 0 {
                    // Reading the attributes and waiting belong to every generic right.
                    barred |= rights & !0x0012_0000;
                }
            }
        }
        let Some(dacl) = &self.dacl else {
            let all = if everything { mapping[3] } else { desired };
            let granted = all & !barred;
            return (desired & barred == 0).then_some(granted);
        };
        let mut granted = 0;
        let mut denied = barred;
        if self.owner.as_ref().is_some_and(|owner| token.sids.contains(owner)) {
            granted |= WRITE_DAC_AND_READ_CONTROL & !denied;
        }
        for ace in dacl.iter().filter(|ace| ace.flags & 8 == 0) {
            let mask = map(ace.mask, mapping);
            let enabled = token.sids.contains(&ace.sid);
            match ace.kind {
                0 if enabled => granted |= mask & !denied,
                1 if enabled || token.deny_only.contains(&ace.sid) => denied |= mask & !granted,
                _ => {}
            }
        }
        let wanted = if everything { granted } else { granted & desired };
        (desired & !granted == 0 && wanted != 0).then_some(wanted)
    }
}

/// Turns generic rights into specific ones.
pub(crate) fn map(mask: u32, mapping: [u32; 4]) -> u32 {
    let specific = mask & 0x0fff_ffff;
    GENERIC
        .iter()
        .zip(mapping)
        .filter(|(bit, _)| mask & **bit != 0)
        .fold(specific, |all, (_, rights)| all | rights)
}

fn read_acl(bytes: &[u8]) -> Option<Vec<Ace>> {
    let size = usize::from(u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?));
    let count = u16::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let mut rest = bytes.get(8..size)?;
    let mut aces = Vec::new();
    for _ in 0..count {
        let length = usize::from(u16::from_le_bytes(*rest.get(2..)?.first_chunk()?));
        let ace = rest.get(..length)?;
        let mask = u32::from_le_bytes(*ace.get(4..)?.first_chunk()?);
        // Entries with object types have two more fields; no miniport has them.
        if let 0 | 1 | 0x11 = ace[0] {
            aces.push(Ace { kind: ace[0], flags: ace[1], mask, sid: Sid::read(&ace[8..])? });
        }
        rest = rest.get(length.max(4)..)?;
    }
    Some(aces)
}

impl Machine {
    /// `SeCaptureSubjectContext`: the current process's token, under the context's address.
    pub(crate) fn capture_subject(&self, context: usize) {
        let token = self.ob.token(self.current_process(true));
        let again = self.ob.subjects().insert(context, (token, Origin::here())).is_some();
        if again {
            self.violate(rules::SUBJECT_CONTEXT, format!("{context:#x} was captured and not released"));
        }
    }

    /// `SeReleaseSubjectContext`.
    pub(crate) fn release_subject(&self, context: usize) {
        if self.ob.subjects().remove(&context).is_none() {
            self.violate(
                rules::SUBJECT_CONTEXT,
                format!("{context:#x} was not captured, or released before"),
            );
        }
    }

    /// The token of a captured context.
    pub(crate) fn subject(&self, context: usize) -> Option<Token> {
        let found = self.ob.subjects().get(&context).map(|(token, _)| token.clone());
        if found.is_none() {
            self.violate(rules::SUBJECT_CONTEXT, format!("{context:#x} was not captured"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `O:SYD:P(A;;FA;;;SY)(A;;FA;;;BA)S:(ML;;NWNRNX;;;HI)`
    fn system_and_administrators() -> Vec<u8> {
        let acl = |revision: u8, aces: &[(u8, u32, Sid)]| {
            let mut body = Vec::new();
            for (kind, mask, sid) in aces {
                let length = u16::try_from(8 + sid.0.len()).unwrap();
                body.extend_from_slice(&[*kind, 0]);
                body.extend_from_slice(&length.to_le_bytes());
                body.extend_from_slice(&mask.to_le_bytes());
                body.extend_from_slice(&sid.0);
            }
            let mut whole = vec![revision, 0];
            whole.extend_from_slice(&u16::try_from(8 + body.len()).unwrap().to_le_bytes());
            whole.extend_from_slice(&u16::try_from(aces.len()).unwrap().to_le_bytes());
            whole.extend_from_slice(&[0, 0]);
            whole.extend_from_slice(&body);
            whole
        };
        let owner = Sid::new(5, &[18]).0;
        let sacl = acl(2, &[(0x11, 7, Sid::new(16, &[0x3000]))]);
        let dacl = acl(2, &[(0, 0x1f_01ff, Sid::new(5, &[18])), (0, 0x1f_01ff, administrators())]);
        let mut bytes = vec![1, 0, 0x14, 0x90];
        let sacl_at = 20 + owner.len();
        for offset in [20, 0, sacl_at, sacl_at + sacl.len()] {
            bytes.extend_from_slice(&u32::try_from(offset).unwrap().to_le_bytes());
        }
        bytes.extend([owner, sacl, dacl].concat());
        bytes
    }

    #[test]
    fn a_descriptor_lets_in_whom_it_names() {
        let bytes = system_and_administrators();
        // SAFETY: a whole descriptor.
        assert_eq!(unsafe { Descriptor::copy(bytes.as_ptr()) }, bytes);
        let descriptor = Descriptor::read(&bytes).unwrap();
        let check = |token: Token, desired| descriptor.check(&token, desired, FILE_MAPPING);
        assert_eq!(check(Token::system(), 2), Some(2));
        assert_eq!(check(Token::administrator(), 2), Some(2));
        assert_eq!(check(Token::user(), 2), None);
        assert_eq!(check(Token::administrator(), MAXIMUM_ALLOWED), Some(0x1f_01ff));
        assert_eq!(check(Token::user(), MAXIMUM_ALLOWED), None);
        // Named, but below the label: no write.
        let low = Token { integrity: 0x1000, ..Token::administrator() };
        assert_eq!(check(low, 2), None);
    }

    #[test]
    fn denials_count_before_what_follows_them() {
        let everyone_but_users = Descriptor {
            dacl: Some(vec![
                Ace { kind: 1, flags: 0, mask: 2, sid: administrators() },
                Ace { kind: 0, flags: 0, mask: 0x8000_0000 | 2, sid: everyone() },
            ]),
            ..Descriptor::default()
        };
        let check = |token: &Token, desired| everyone_but_users.check(token, desired, FILE_MAPPING);
        assert_eq!(check(&Token::user(), 2), None, "deny-only groups deny");
        assert_eq!(check(&Token::user(), 1), Some(1));
        let stranger = Token { deny_only: Vec::new(), ..Token::user() };
        assert_eq!(check(&stranger, 3), Some(3));
        // Without a DACL all is open; with an empty one nothing.
        assert_eq!(Descriptor::default().check(&stranger, 3, FILE_MAPPING), Some(3));
        let empty = Descriptor { dacl: Some(Vec::new()), ..Descriptor::default() };
        assert_eq!(empty.check(&stranger, 3, FILE_MAPPING), None);
    }

    #[test]
    fn damaged_descriptors_are_refused() {
        let bytes = system_and_administrators();
        for length in 0..bytes.len() {
            assert!(Descriptor::read(&bytes[..length]).is_none(), "{length}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] = 0xff;
            let _ = Descriptor::read(&damaged);
        }
    }
}
