//! Scripts by chance: half of what is in them is well formed, the rest nearly so, or garbage.

use std::net::Ipv4Addr;

use ndis_lab::transport::{self, Algorithm, KeyMaterial, OutboundSa, TransportSa};
use ndis_lab::{HaltAction, Lab, LabError};
use ndis_sys as sys;

use super::step::{
    ADAPTERS, Action, Bytes, Cipher, Frame, Handle, Header, Kind, List, Policy, Request, Sa, Step,
};
use crate::demo::encapsulation;
use crate::life::Subject;

/// What a driver says of itself: where fuzzing is worth its while.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    /// The OIDs that it supports.
    oids: Vec<u32>,
    /// Whether it offloads IPsec.
    ipsec: bool,
    /// Its longest frame.
    frame: usize,
}

/// Requests that change what the lab has to know of; there are actions for them.
const NOT_AS_OID: [u32; 1] = [sys::OID_PNP_SET_POWER];
/// Structures that hold pointers, which only the stack that made them can vouch for.
const WITH_POINTERS: [u32; 2] =
    [sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA, sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_DELETE_SA];
/// Identifiers that a driver may not list and NDIS sends all the same.
const ALWAYS: [u32; 10] = [
    sys::OID_GEN_CURRENT_PACKET_FILTER,
    sys::OID_GEN_CURRENT_LOOKAHEAD,
    sys::OID_802_3_MULTICAST_LIST,
    sys::OID_GEN_STATISTICS,
    sys::OID_GEN_INTERRUPT_MODERATION,
    sys::OID_GEN_MACHINE_NAME,
    sys::OID_GEN_NETWORK_LAYER_ADDRESSES,
    sys::OID_OFFLOAD_ENCAPSULATION,
    sys::OID_TCP_OFFLOAD_PARAMETERS,
    sys::OID_PM_PARAMETERS,
];

impl Profile {
    /// Asks the driver.
    ///
    /// # Errors
    /// What the lab says: the driver does not start.
    pub(super) fn of(subject: &Subject) -> Result<Self, LabError> {
        let lab = Lab::new();
        let driver = subject.source.load_into(&lab)?;
        let adapter = driver.add_adapter(subject.config([2, 0, 0, 0, 0, 1]))?;
        let attributes = adapter.attributes();
        let mut profile = Self {
            oids: attributes.general.supported_oids.clone(),
            ipsec: attributes.offload.is_some_and(|offload| offload.hardware.IPsecV2.Encapsulation != 0),
            frame: attributes.general.MtuSize as usize + transport::ETHERNET_HEADER_LENGTH,
        };
        profile.oids.extend(ALWAYS);
        profile.oids.retain(|oid| !NOT_AS_OID.contains(oid));
        if profile.ipsec {
            profile.oids.push(sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX);
            profile.oids.push(sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA);
        }
        profile.oids.sort_unstable();
        profile.oids.dedup();
        adapter.halt(HaltAction::DeviceStopped)?;
        driver.unload()?;
        Ok(profile)
    }

    /// A script of `length` steps.
    pub(super) fn script(&self, seed: u64, length: usize) -> Vec<Step> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut maker = Maker { profile: self, random: &mut random };
        // A start that leads somewhere, most of the time.
        let mut steps = Vec::new();
        if maker.one_in(8) {
            maker.steps(&mut steps, length / 4);
        }
        for adapter in 0..ADAPTERS {
            steps.extend([Action::Add, Action::Restart].map(|action| Step { adapter, action }));
            let filter = regular(sys::OID_GEN_CURRENT_PACKET_FILTER, Kind::Set, 0xf_u32.to_le_bytes().into());
            steps.push(Step { adapter, action: filter });
            let on = regular(sys::OID_OFFLOAD_ENCAPSULATION, Kind::Set, encapsulation());
            steps.push(Step { adapter, action: on });
        }
        let rest = length.saturating_sub(steps.len());
        maker.steps(&mut steps, rest);
        steps
    }
}

struct Maker<'a> {
    profile: &'a Profile,
    random: &'a mut fastrand::Rng,
}

impl Maker<'_> {
    fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(..n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.usize(..from.len())]
    }

    /// Mostly small numbers and those at edges.
    fn word(&mut self) -> u32 {
        match self.random.u8(..4) {
            0 => self.random.u32(..8),
            1 => 1 << self.random.u32(..32),
            2 => self.pick(&[0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, u32::MAX - 1]),
            _ => self.random.u32(..),
        }
    }

    fn garbage(&mut self, most: usize) -> Vec<u8> {
        let length = self.random.usize(..=most);
        let mut bytes = vec![0; length];
        match self.random.u8(..3) {
            0 => {}
            1 => bytes.fill(0xff),
            _ => self.random.fill(&mut bytes),
        }
        bytes
    }

    fn steps(&mut self, steps: &mut Vec<Step>, count: usize) {
        for _ in 0..count {
            let adapter = self.random.usize(..ADAPTERS);
            let action = self.action();
            steps.push(Step { adapter, action });
        }
    }

    fn action(&mut self) -> Action {
        let ipsec = self.profile.ipsec;
        match self.random.u8(..100) {
            0..=3 => Action::Add,
            4..=9 => Action::Restart,
            10..=12 => Action::Pause,
            13 => Action::Halt,
            14 => Action::SurpriseRemoval,
            15 => Action::Reset(self.pick(&[sys::PASSIVE_LEVEL, sys::DISPATCH_LEVEL])),
            16 => Action::Sleep,
            17 => Action::PowerProfile(self.random.bool()),
            18 => Action::CheckForHang,
            19 => Action::CancelOid(self.random.usize(..), self.random.bool()),
            20 => Action::CancelSend(self.random.usize(..)),
            21..=23 => Action::Policy(self.pick(&[Policy::Inside, Policy::After, Policy::Hold])),
            24..=26 => Action::Return(self.random.usize(..9), self.random.bool()),
            27 => Action::Faults(self.random.u8(1..20), self.random.u64(..)),
            28..=29 => Action::Faults(0, 0),
            30..=41 if ipsec => Action::AddSaEx(self.sa()),
            42..=45 if ipsec => {
                let count = self.random.usize(1..5);
                Action::AddSaList((0..count).map(|_| self.sa()).collect())
            }
            46..=50 if ipsec => {
                let count = self.random.usize(1..6);
                Action::DeleteSas((0..count).map(|_| self.handle()).collect())
            }
            51..=52 if ipsec => Action::UpdateSa(self.handle(), self.one_in(4), self.spi(), self.word()),
            53..=74 => {
                let count = self.random.usize(1..6);
                Action::Send((0..count).map(|_| self.list()).collect(), self.random.bool())
            }
            _ => self.request(),
        }
    }

    fn request(&mut self) -> Action {
        let mut oid = if self.one_in(12) {
            self.pick(&[0, 0x0001_0000, 0x0101_0000, 0xfc01_0000, 0xfd01_0000, 0xff00_0000])
                | self.random.u32(..0x400)
        } else {
            let at = self.random.usize(..self.profile.oids.len());
            self.profile.oids[at]
        };
        if WITH_POINTERS.contains(&oid) || NOT_AS_OID.contains(&oid) {
            oid = sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX;
        }
        let sa_oid = matches!(
            oid,
            sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX | sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_UPDATE_SA
        );
        let kind = if sa_oid {
            Kind::Set
        } else {
            self.pick(&[Kind::Query, Kind::Query, Kind::Set, Kind::Set, Kind::QueryStatistics, Kind::Method])
        };
        let input = if kind == Kind::Query { Vec::new() } else { self.input(oid) };
        let room = if self.random.bool() {
            self.pick(&[0, 1, 3, 4, 6, 8, 12, 64, 256, 1024])
        } else {
            self.random.usize(..600)
        };
        let direct = sa_oid || self.one_in(20);
        // The guard of the lab's buffers is for 8-byte boundaries; NDIS aligns those of sets as their type.
        let misalign = if self.one_in(10) { self.random.usize(..8) } else { 0 };
        Action::Oid(Request {
            oid,
            kind,
            input: Bytes(input),
            room,
            direct,
            at_dispatch: self.random.bool(),
            misalign,
        })
    }

    /// The buffer of a set: a good one, a damaged one, or garbage.
    fn input(&mut self, oid: u32) -> Vec<u8> {
        let mut bytes = match oid {
            sys::OID_GEN_CURRENT_PACKET_FILTER => (self.word() & 0x1ff).to_le_bytes().into(),
            sys::OID_GEN_CURRENT_LOOKAHEAD => self.random.u32(..2000).to_le_bytes().into(),
            sys::OID_802_3_MULTICAST_LIST => {
                let count = self.random.usize(..40);
                (0..count).flat_map(|at| [1, 0, 0x5e, 0, 0, at.to_le_bytes()[0]]).collect()
            }
            sys::OID_OFFLOAD_ENCAPSULATION => encapsulation(),
            sys::OID_TCP_OFFLOAD_PARAMETERS => {
                let mut bytes = vec![sys::NDIS_OBJECT_TYPE_DEFAULT, 5, 0, 0];
                bytes.resize(32, 0);
                let length = u16::try_from(bytes.len()).unwrap_or(0).to_le_bytes();
                bytes[2..4].copy_from_slice(&length);
                bytes[4..].iter_mut().for_each(|byte| *byte = self.random.u8(..6));
                bytes
            }
            sys::OID_TCP_TASK_IPSEC_OFFLOAD_V2_ADD_SA_EX => self.sa().parameters().add_sa_ex(),
            _ => self.word().to_le_bytes().into(),
        };
        match self.random.u8(..8) {
            0 => bytes = self.garbage(300),
            1 => bytes.truncate(self.random.usize(..=bytes.len())),
            2 => bytes.extend(self.garbage(40)),
            3 | 4 if !bytes.is_empty() => {
                for _ in 0..self.random.usize(1..5) {
                    let at = self.random.usize(..bytes.len());
                    bytes[at] =
                        self.pick(&[0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(1)]);
                }
            }
            _ => {}
        }
        bytes
    }

    fn spi(&mut self) -> u32 {
        // Few, so that they meet.
        0x1000 + self.random.u32(..6)
    }

    fn handle(&mut self) -> Handle {
        match self.random.u8(..12) {
            0 => Handle::Null,
            1 => Handle::Raw(self.random.usize(..)),
            2 => Handle::Raw(self.word() as usize),
            _ => Handle::Given(self.random.usize(..64)),
        }
    }

    fn sa(&mut self) -> Sa {
        let good = !self.one_in(4);
        let algorithm = self.pick(&Algorithm::ALL);
        let mut key = KeyMaterial::generate(algorithm, |bytes| bytes.fill(0x42)).bytes().to_vec();
        let mut cipher = |maker: &mut Self| {
            if !good {
                match maker.random.u8(..5) {
                    0 => key = maker.garbage(80),
                    1 => key.truncate(maker.random.usize(..=key.len())),
                    _ => {}
                }
            }
            let id = if good { algorithm.identifier() } else { maker.word() };
            let info = if good || maker.random.bool() { 16 } else { maker.word() };
            Cipher { id, key: Bytes(key.clone()), info }
        };
        let combined = cipher(self);
        let header = |maker: &mut Self, ah: bool| Header {
            ah,
            spi: if maker.one_in(10) { maker.word() } else { maker.spi() },
            esn: maker.one_in(5).then(|| maker.word()),
            authentication: (good || maker.random.bool()).then(|| combined.clone()),
            encryption: (!ah && (good || maker.random.bool())).then(|| combined.clone()),
        };
        let mut headers = vec![header(self, false)];
        if self.one_in(10) {
            headers.push(header(self, true));
        }
        if self.one_in(40) {
            headers.clear();
        }
        // `transport` frames GCM: its key blob is the algorithm's own, given once.
        if good {
            let (source, destination) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
            let plain = TransportSa {
                source,
                destination,
                spi: headers.first().map_or(1, |header| header.spi),
                algorithm,
                key: KeyMaterial::generate(algorithm, |bytes| bytes.fill(0x42)),
            };
            let parameters = plain.parameters(transport::Direction::Outbound);
            headers = parameters.associations.iter().map(|association| shape(association, self)).collect();
        }
        Sa {
            inbound: self.random.bool(),
            v6: self.one_in(6),
            addresses: (self.random.u8(1..3), self.random.u8(1..3)),
            udp_esp: if self.one_in(10) { self.word() } else { 0 },
            headers,
        }
    }

    fn list(&mut self) -> List {
        let count = if self.one_in(4) { self.random.usize(1..4) } else { 1 };
        let protected = self.profile.ipsec && self.random.bool();
        let mut frames = Vec::new();
        let mut header = 0;
        for _ in 0..count {
            let mut bytes = if protected {
                let (bytes, word) = self.protected_frame();
                header = word;
                bytes
            } else {
                self.plain_frame()
            };
            if self.one_in(6) {
                for _ in 0..self.random.usize(1..4) {
                    let at = self.random.usize(..bytes.len());
                    bytes[at] = self.random.u8(..);
                }
            }
            frames.push(self.lay_out(bytes));
        }
        let sa = if protected || self.one_in(20) { self.handle() } else { Handle::Null };
        if self.one_in(10) {
            header = self.word() as usize;
        }
        List { frames, sa, header }
    }

    fn addresses(&mut self) -> ([u8; 6], [u8; 6]) {
        let station = |random: &mut fastrand::Rng| match random.u8(..8) {
            0 => [0xff; 6],
            1 => [1, 0, 0x5e, 0, 0, random.u8(..40)],
            2 => [2, 0xee, 0, 0, 0, 1],
            last => [2, 0, 0, 0, 0, last % 2 + 1],
        };
        (station(self.random), station(self.random))
    }

    fn plain_frame(&mut self) -> Vec<u8> {
        let (to, from) = self.addresses();
        let kind: [u8; 2] =
            self.pick(&[[0x08, 0], [0x86, 0xdd], [0x88, 0xb5], [0x81, 0], [0x08, 6], [0, 46]]);
        let mut bytes = [to.as_slice(), &from, &kind].concat();
        let most = self.profile.frame.saturating_sub(bytes.len());
        let length = match self.random.u8(..3) {
            0 => self.random.usize(..=most.min(60)),
            1 => self.random.usize(..=most),
            _ => most.saturating_sub(self.random.usize(..3)),
        };
        let mut rest = vec![0; length];
        if self.random.bool() {
            self.random.fill(&mut rest);
        }
        if kind == [0x08, 0] && rest.len() > 20 {
            // An IPv4 header that is nearly right.
            rest[..4].copy_from_slice(&[0x45, 0, 0, 0]);
            let total = u16::try_from(rest.len()).unwrap_or(u16::MAX).to_be_bytes();
            rest[2..4].copy_from_slice(&total);
            rest[9] = self.pick(&[50, 51, 17, 6, 1, 0]);
            rest[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        }
        bytes.extend(rest);
        bytes
    }

    /// A frame as the stack makes it for an offloaded SA, and its word for slot 12.
    fn protected_frame(&mut self) -> (Vec<u8>, usize) {
        let (source, destination) =
            (Ipv4Addr::new(10, 0, 0, self.random.u8(1..3)), Ipv4Addr::new(10, 0, 0, self.random.u8(1..3)));
        let algorithm = Algorithm::AesGcm128;
        let key = KeyMaterial::generate(algorithm, |bytes| bytes.fill(0x42));
        let sa = TransportSa { source, destination, spi: self.spi(), algorithm, key };
        let mut outbound = OutboundSa::new(sa, 1, self.random.u64(..));
        let most = self.profile.frame.saturating_sub(14 + 20 + 8 + 8 + 22);
        let most = u16::try_from(most).unwrap_or(u16::MAX);
        let length =
            if self.random.bool() { self.random.u16(..=most.min(64)) } else { self.random.u16(..=most) };
        let packet = crate::life::udp(source, destination, length);
        let (to, from) = self.addresses();
        match outbound.frame(&packet) {
            Ok(framed) => (transport::ethernet(to, from, &framed.packet), framed.header),
            Err(_) => (transport::ethernet(to, from, &packet), 0),
        }
    }

    fn lay_out(&mut self, bytes: Vec<u8>) -> Frame {
        let laid = transport::split(self.random, bytes);
        Frame {
            bytes: Bytes(laid.bytes),
            split: laid.split,
            offset: laid.data_offset,
            tail: laid.tail,
            misalign: laid.misalign,
            unmapped: laid.unmapped,
        }
    }
}

/// A regular request.
fn regular(oid: u32, kind: Kind, input: Vec<u8>) -> Action {
    Action::Oid(Request {
        oid,
        kind,
        input: Bytes(input),
        room: 0,
        direct: false,
        at_dispatch: false,
        misalign: 0,
    })
}

/// A header as the lab describes a good one.
fn shape(association: &ndis_lab::ipsec_v2::Association, maker: &mut Maker<'_>) -> Header {
    let cipher = |algorithm: &ndis_lab::ipsec_v2::Algorithm| Cipher {
        id: algorithm.id,
        key: Bytes(algorithm.key.clone()),
        info: algorithm.additional_info,
    };
    Header {
        ah: false,
        spi: association.spi,
        esn: maker.one_in(5).then(|| maker.random.u32(..3)),
        authentication: association.authentication.as_ref().map(cipher),
        encryption: association.encryption.as_ref().map(cipher),
    }
}
