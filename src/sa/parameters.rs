//! What an ADD_SA asks for, turned into an SA of the NIC or refused.
//!
//! Windows' documentation leaves some of it open; each decision is here, with its reason.

use core::net::Ipv4Addr;

use ipsec::{algorithm::Algorithm, esp::EspSa};
use ndis::{Endpoints, IpsecOperation, SaAssociation, SaRequest, Status};
use ndis_sys as sys;

use crate::{
    adapter::offload::OffloadConfig,
    kernel::{PoolBox, try_init_box},
    nic::sa::{Direction, Sa},
};

/// Builds the SA that a request describes.
///
/// # Errors
/// `INVALID_PARAMETER` for what is malformed or not covered by the capabilities; `FAILURE` when IPsec has been switched off, a
/// normal race (`oid-tcp-task-ipsec-offload-v2-add-sa-ex`); `RESOURCES` without memory.
pub(super) fn build(request: &SaRequest<'_>, config: &OffloadConfig) -> Result<Sa, Status> {
    if !config.offloads_esp() {
        return Err(Status::FAILURE);
    }
    if request.udp_esp != sys::IPSEC_OFFLOAD_V2_UDP_ESP_ENCAPSULATION_NONE {
        return Err(Status::INVALID_PARAMETER);
    }
    let Endpoints::V4 { source, destination } = request.endpoints else {
        return Err(Status::INVALID_PARAMETER);
    };
    let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
    let direction = if request.inbound { Direction::Inbound } else { Direction::Outbound };
    // An inbound SA is found by its destination, so that one cannot be a wildcard.
    if direction == Direction::Inbound && destination.is_unspecified() {
        return Err(Status::INVALID_PARAMETER);
    }
    let association = request.single().ok_or(Status::INVALID_PARAMETER)?;
    if association.operation != IpsecOperation::Esp || association.esn {
        return Err(Status::INVALID_PARAMETER);
    }
    let spi = spi(association);
    // RFC 4303 §2.1: 0 never goes on the wire.
    if spi == 0 {
        return Err(Status::INVALID_PARAMETER);
    }
    let algorithm = algorithm(association, config)?;
    let key = request.key(&association.encryption)?;
    let esp = esp(algorithm, spi, key)?;
    Ok(Sa::new(direction, source, destination, esp))
}

/// The SPI as a number. Its byte order is not documented; taken as the field on the wire is stored, in network order.
fn spi(association: &SaAssociation) -> u32 {
    u32::from_be_bytes(association.spi.to_ne_bytes())
}

/// The ESP algorithm. For AES-GCM the authentication algorithm is to be ignored (structure page), whatever it holds.
fn algorithm(association: &SaAssociation, config: &OffloadConfig) -> Result<Algorithm, Status> {
    let identifier = association.encryption.identifier;
    let advertised = config.current().ipsec.map_or(0, |ipsec| ipsec.encryption);
    if !identifier.is_power_of_two() || identifier & advertised == 0 {
        return Err(Status::INVALID_PARAMETER);
    }
    // AdditionalInfo is the ICV's length in a unit that is not stated: 16 bytes, 128 bits, or nothing said.
    if !matches!(association.encryption.additional, 0 | 16 | 128) {
        return Err(Status::INVALID_PARAMETER);
    }
    match identifier {
        sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_128 => Ok(Algorithm::AesGcm128),
        sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_192 => Ok(Algorithm::AesGcm192),
        sys::IPSEC_OFFLOAD_V2_ENCRYPTION_AES_GCM_256 => Ok(Algorithm::AesGcm256),
        _ => Err(Status::INVALID_PARAMETER),
    }
}

/// The transform, built where it stays, so that moving it leaves no copy of the key.
///
/// The key is cipher key and 4-byte salt (RFC 4106 §8.1): Windows documents no place for the salt, other implementations of
/// the same interface pass it so. A key without salt is refused; then the stack does that SA in software.
fn esp(algorithm: Algorithm, spi: u32, key: &[u8]) -> Result<PoolBox<EspSa>, Status> {
    try_init_box(|slot| EspSa::new_in(slot, algorithm, spi, key).map_err(|_| Status::INVALID_PARAMETER))
}
