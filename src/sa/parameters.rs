//! What an ADD_SA asks for, as a typed value (`ns-ndis-_ipsec_offload_v2_add_sa_ex`).
//!
//! Three steps, each with its own reason to refuse: [`SaParameters::parse`] knows the interface and takes all that it can
//! say; [`SaParameters::check`] holds that against the capabilities, the very structure that is advertised; [`build`] makes
//! the NIC's SA of it. Windows' documentation leaves some of it open; each decision is here, with its reason.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipsec::{algorithm::Algorithm, esp::EspSa};
use ndis::{Endpoints, IpsecOffload, IpsecOperation, Result, SaAssociation, SaRequest, Status};
use ndis_sys as sys;

use super::algorithms::{Authentication, Encryption};
use crate::{
    kernel::{PoolBox, try_init_box},
    nic::sa::{Description, Direction, Sa},
};

/// A request to add an SA, understood but not yet agreed to.
#[derive(Clone, Copy)]
pub(crate) struct SaParameters<'k> {
    /// For received packets or for sent ones.
    pub(crate) direction: Direction,
    /// Who sends the packets; unspecified for anybody. Of a tunnel: the outer address.
    pub(crate) source: IpAddr,
    /// Who receives them. Of the same family as `source`.
    pub(crate) destination: IpAddr,
    /// ESP in UDP. The structure says nothing else of the mode: without it transport and tunnel SAs look alike.
    pub(crate) udp: Option<UdpEncapsulation>,
    /// The headers to process.
    pub(crate) headers: Headers<'k>,
}

/// `UdpEspEncapsulation` (`udp-esp-encapsulation-types`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UdpEncapsulation {
    /// Transport-mode ESP in UDP.
    Transport,
    /// A tunnel in UDP.
    Tunnel,
    /// Transport-mode ESP in a tunnel in UDP.
    TransportOverUdpTunnel,
    /// Transport-mode ESP in UDP in a tunnel.
    UdpTransportOverTunnel,
}

/// The headers of a bundle.
#[derive(Clone, Copy)]
pub(crate) enum Headers<'k> {
    /// AH alone.
    Ah(Header<AhTransform<'k>>),
    /// ESP alone.
    Esp(Header<EspTransform<'k>>),
    /// ESP inside AH.
    EspThenAh(Header<EspTransform<'k>>, Header<AhTransform<'k>>),
}

/// One header.
#[derive(Clone, Copy)]
pub(crate) struct Header<T> {
    /// The SPI as a number; not 0.
    pub(crate) spi: u32,
    /// High half of the sequence number, if extended ones are used.
    pub(crate) sequence_high: Option<u32>,
    /// What is done.
    pub(crate) transform: T,
}

/// What AH does.
#[derive(Clone, Copy)]
pub(crate) struct AhTransform<'k> {
    pub(crate) authentication: Authentication,
    #[expect(dead_code, reason = "the engine has no AH yet; parsing proves that the key is there")]
    key: &'k [u8],
}

/// What ESP does.
#[derive(Clone, Copy)]
pub(crate) enum EspTransform<'k> {
    /// One algorithm for both.
    Combined { encryption: Encryption, key: &'k [u8] },
    /// Encryption, or none, and authentication.
    Separate { encryption: Encryption, authentication: Authentication },
}

impl<'k> SaParameters<'k> {
    /// Reads a request.
    ///
    /// # Errors
    /// `INVALID_PARAMETER` for what the interface cannot mean.
    pub(crate) fn parse(request: &SaRequest<'k>) -> Result<Self> {
        let (source, destination) = match request.endpoints {
            Endpoints::V4 { source, destination } => {
                (Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into())
            }
            Endpoints::V6 { source, destination } => {
                (Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into())
            }
        };
        let headers = Headers::parse(request)?;
        let udp = UdpEncapsulation::parse(request.udp_esp)?;
        if udp.is_some() && matches!(headers, Headers::Ah(_)) {
            return Err(Status::INVALID_PARAMETER);
        }
        let direction = if request.inbound { Direction::Inbound } else { Direction::Outbound };
        Ok(Self { direction, source, destination, udp, headers })
    }

    /// Whether these capabilities, as advertised, cover the request.
    ///
    /// # Errors
    /// `INVALID_PARAMETER`; the stack then does the SA in software.
    pub(crate) fn check(&self, capabilities: &IpsecOffload) -> Result<()> {
        let covered = (capabilities.ipv6 || self.destination.is_ipv4())
            && (capabilities.transport || capabilities.tunnel)
            && self.udp.is_none_or(|udp| capabilities.udp_esp & udp.identifier() != 0)
            && match &self.headers {
                Headers::Ah(ah) => ah.is_covered(capabilities),
                Headers::Esp(esp) => esp.is_covered(capabilities),
                Headers::EspThenAh(esp, ah) => {
                    capabilities.ah_esp_combined
                        && esp.is_covered(capabilities)
                        && ah.is_covered(capabilities)
                }
            };
        if covered { Ok(()) } else { Err(Status::INVALID_PARAMETER) }
    }
}

impl UdpEncapsulation {
    fn parse(raw: u32) -> Result<Option<Self>> {
        Ok(Some(match raw {
            sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE => return Ok(None),
            sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT => Self::Transport,
            sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TUNNEL => Self::Tunnel,
            sys::IPSEC_OFFLOAD_V2_TRANSPORT_OVER_UDP_ESP_ENCAPSULATION_TUNNEL => Self::TransportOverUdpTunnel,
            sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT_OVER_TUNNEL => Self::UdpTransportOverTunnel,
            _ => return Err(Status::INVALID_PARAMETER),
        }))
    }

    const fn identifier(self) -> u32 {
        match self {
            Self::Transport => sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT,
            Self::Tunnel => sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TUNNEL,
            Self::TransportOverUdpTunnel => sys::IPSEC_OFFLOAD_V2_TRANSPORT_OVER_UDP_ESP_ENCAPSULATION_TUNNEL,
            Self::UdpTransportOverTunnel => sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_TRANSPORT_OVER_TUNNEL,
        }
    }
}

impl<'k> Headers<'k> {
    /// One header of either kind, or ESP and then AH: the order of processing, and the only two that go together.
    fn parse(request: &SaRequest<'k>) -> Result<Self> {
        let mut associations = request.associations();
        let first = associations.next().ok_or(Status::INVALID_PARAMETER)?;
        match (first.operation, associations.next()) {
            (IpsecOperation::Ah, None) => Ok(Self::Ah(Header::parse_ah(request, first)?)),
            (IpsecOperation::Esp, None) => Ok(Self::Esp(Header::parse_esp(request, first)?)),
            (IpsecOperation::Esp, Some(second)) if second.operation == IpsecOperation::Ah => {
                Ok(Self::EspThenAh(Header::parse_esp(request, first)?, Header::parse_ah(request, second)?))
            }
            _ => Err(Status::INVALID_PARAMETER),
        }
    }
}

impl<T> Header<T> {
    fn new(association: &SaAssociation, transform: T) -> Result<Self> {
        let spi = spi(association.spi);
        // RFC 4302 §2.4, RFC 4303 §2.1: 0 never goes on the wire.
        if spi == 0 {
            return Err(Status::INVALID_PARAMETER);
        }
        let sequence_high = association.esn.then_some(association.sequence_high);
        Ok(Self { spi, sequence_high, transform })
    }

    fn is_esn_covered(&self, capabilities: &IpsecOffload) -> bool {
        capabilities.extended_sequence_numbers || self.sequence_high.is_none()
    }
}

impl<'k> Header<AhTransform<'k>> {
    fn parse_ah(request: &SaRequest<'k>, association: &SaAssociation) -> Result<Self> {
        // AH encrypts nothing: those fields are zero.
        if association.encryption.identifier != 0 {
            return Err(Status::INVALID_PARAMETER);
        }
        let authentication = Authentication::parse(&association.authentication)?;
        let key = request.key(&association.authentication)?;
        Self::new(association, AhTransform { authentication, key })
    }

    fn is_covered(&self, capabilities: &IpsecOffload) -> bool {
        capabilities.ah
            && capabilities.authentication & self.transform.authentication.identifier() != 0
            && self.is_esn_covered(capabilities)
    }
}

impl<'k> Header<EspTransform<'k>> {
    fn parse_esp(request: &SaRequest<'k>, association: &SaAssociation) -> Result<Self> {
        let encryption = Encryption::parse(&association.encryption)?;
        let key = request.key(&association.encryption)?;
        let transform = if encryption.is_combined() {
            // The authentication algorithm is to be ignored then, whatever it holds.
            EspTransform::Combined { encryption, key }
        } else {
            // Encryption without authentication is not permitted.
            let authentication = Authentication::parse(&association.authentication)?;
            request.key(&association.authentication)?;
            EspTransform::Separate { encryption, authentication }
        };
        Self::new(association, transform)
    }

    fn is_covered(&self, capabilities: &IpsecOffload) -> bool {
        capabilities.esp
            && self.is_esn_covered(capabilities)
            && match &self.transform {
                EspTransform::Combined { encryption, .. } => {
                    capabilities.encryption & encryption.identifier() != 0
                }
                EspTransform::Separate { encryption, authentication, .. } => {
                    capabilities.encryption & encryption.identifier() != 0
                        && capabilities.authentication & authentication.identifier() != 0
                }
            }
    }
}

/// The SPI as a number. Its byte order is not documented; taken as the field on the wire is stored, in network order.
pub(super) fn spi(stored: u32) -> u32 {
    u32::from_be_bytes(stored.to_ne_bytes())
}

/// Builds the NIC's SA.
///
/// # Errors
/// `INVALID_PARAMETER` for what the engine has not; the capabilities do not advertise it, so `check` was first. `RESOURCES`
/// without memory.
pub(super) fn build(parameters: &SaParameters<'_>) -> Result<Sa> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (parameters.source, parameters.destination) else {
        return Err(Status::INVALID_PARAMETER);
    };
    let Headers::Esp(Header { spi, sequence_high, transform }) = parameters.headers else {
        return Err(Status::INVALID_PARAMETER);
    };
    let EspTransform::Combined { encryption, key } = transform else {
        return Err(Status::INVALID_PARAMETER);
    };
    let algorithm = match encryption {
        Encryption::AesGcm128 => Algorithm::AesGcm128,
        Encryption::AesGcm192 => Algorithm::AesGcm192,
        Encryption::AesGcm256 => Algorithm::AesGcm256,
        _ => return Err(Status::INVALID_PARAMETER),
    };
    let direction = parameters.direction;
    let description = Description { direction, source, destination, algorithm, sequence_high };
    Ok(Sa::new(&description, esp(algorithm, spi, key)?))
}

/// The transform, built where it stays, so that moving it leaves no copy of the key.
fn esp(algorithm: Algorithm, spi: u32, key: &[u8]) -> Result<PoolBox<EspSa>> {
    try_init_box(|slot| EspSa::new_in(slot, algorithm, spi, key).map_err(|_| Status::INVALID_PARAMETER))
}
