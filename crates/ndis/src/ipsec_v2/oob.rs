//! IPsecOV2 out-of-band words of net buffer lists: slots 1, 11 and 12.

use ndis_sys::{
    CRYPTO_GENERIC_ERROR, CRYPTO_INVALID_PACKET_SYNTAX, CRYPTO_INVALID_PROTOCOL, CRYPTO_SUCCESS,
    CRYPTO_TRANSPORT_AH_AUTH_FAILED, CRYPTO_TRANSPORT_ESP_AUTH_FAILED, CRYPTO_TUNNEL_AH_AUTH_FAILED,
    CRYPTO_TUNNEL_ESP_AUTH_FAILED, NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_RECEIVE,
    NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_TRANSMIT,
    NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_RECEIVE, PVOID,
};

/// What the sender wants of IPsec (`[sending-network-data-with-ipsec-offload-version-2]`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpsecSend {
    /// Slot 1: the handle of the transport or only SA; 0 = no IPsec.
    pub transport: usize,
    /// Slot 11: the handle of the tunnel SA around a transport SA; 0 = none.
    pub tunnel: usize,
    /// Slot 12.
    pub header: IpsecSendHeader,
}

/// Where the sender put things. All of it is a claim, to be checked against the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpsecSendHeader {
    /// NextHeader of the ESP trailer.
    pub next_header: u8,
    /// Padding bytes.
    pub pad_length: u8,
    /// Bytes from the start of the (outer) IP header to AH; 0 = no AH.
    pub ah_offset: u16,
    /// Bytes from the start of the (outer) IP header to ESP, UDP header skipped; 0 = no ESP.
    pub esp_offset: u16,
}

impl IpsecSendHeader {
    pub(crate) fn from_slot(slot: PVOID) -> Self {
        let word = NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_TRANSMIT::from_slot(slot);
        // The word's offsets count units of 4 bytes. Its fields are 8 bits wide.
        Self {
            next_header: low8(word.NextHeader()),
            pad_length: low8(word.PadLength()),
            ah_offset: u16::from(low8(word.AhHeaderOffset())) * 4,
            esp_offset: u16::from(low8(word.EspHeaderOffset())) * 4,
        }
    }
}

fn low8(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

/// How the adapter fared with a received packet. Precedence: protocol, syntax, authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CryptoStatus {
    /// Every payload that was checked is good.
    #[default]
    Success,
    /// Another error.
    GenericError,
    /// AH of the transport SA did not verify.
    TransportAhAuthFailed,
    /// ESP of the transport SA did not verify.
    TransportEspAuthFailed,
    /// AH of the tunnel SA did not verify.
    TunnelAhAuthFailed,
    /// ESP of the tunnel SA did not verify.
    TunnelEspAuthFailed,
    /// Lengths in the packet are wrong.
    InvalidPacketSyntax,
    /// The SA's protocol is not the packet's.
    InvalidProtocol,
}

impl CryptoStatus {
    const fn raw(self) -> u32 {
        match self {
            Self::Success => CRYPTO_SUCCESS,
            Self::GenericError => CRYPTO_GENERIC_ERROR,
            Self::TransportAhAuthFailed => CRYPTO_TRANSPORT_AH_AUTH_FAILED,
            Self::TransportEspAuthFailed => CRYPTO_TRANSPORT_ESP_AUTH_FAILED,
            Self::TunnelAhAuthFailed => CRYPTO_TUNNEL_AH_AUTH_FAILED,
            Self::TunnelEspAuthFailed => CRYPTO_TUNNEL_ESP_AUTH_FAILED,
            Self::InvalidPacketSyntax => CRYPTO_INVALID_PACKET_SYNTAX,
            Self::InvalidProtocol => CRYPTO_INVALID_PROTOCOL,
        }
    }
}

/// Slot 1 of a received packet (`[receiving-network-data-with-ipsec-offload-version-2]`). All default = not processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpsecReceive {
    /// Please delete this packet's SA.
    pub sa_delete_req: bool,
    /// At least one payload was checked.
    pub crypto_done: bool,
    /// Tunnel and transport payload were both checked.
    pub next_crypto_done: bool,
    /// With what result.
    pub crypto_status: CryptoStatus,
}

impl IpsecReceive {
    pub(crate) fn into_slot(self) -> PVOID {
        NDIS_IPSEC_OFFLOAD_V2_NET_BUFFER_LIST_INFO_RECEIVE::default()
            .with_SaDeleteReq(self.sa_delete_req.into())
            .with_CryptoDone(self.crypto_done.into())
            .with_NextCryptoDone(self.next_crypto_done.into())
            .with_CryptoStatus(self.crypto_status.raw())
            .into_slot()
    }
}

/// Slot 12 of a received packet: what the ESP trailer said, after a successful decryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpsecReceiveHeader {
    /// NextHeader.
    pub next_header: u8,
    /// Padding bytes.
    pub pad_length: u8,
}

impl IpsecReceiveHeader {
    pub(crate) fn into_slot(self) -> PVOID {
        NDIS_IPSEC_OFFLOAD_V2_HEADER_NET_BUFFER_LIST_INFO_RECEIVE::default()
            .with_NextHeader(self.next_header.into())
            .with_PadLength(self.pad_length.into())
            .with_HeaderInfoSet(1)
            .into_slot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_offsets_are_in_units_of_four_bytes() {
        let header = IpsecSendHeader::from_slot(core::ptr::without_provenance_mut(0xFF05_0211));
        assert_eq!(
            header,
            IpsecSendHeader { next_header: 0x11, pad_length: 2, ah_offset: 20, esp_offset: 1020 }
        );
    }

    #[test]
    fn receive_words() {
        let word = IpsecReceive {
            crypto_done: true,
            crypto_status: CryptoStatus::TransportEspAuthFailed,
            ..IpsecReceive::default()
        };
        assert_eq!(word.into_slot().addr(), 0x0003_0002);
        assert!(IpsecReceive::default().into_slot().is_null());
        let header = IpsecReceiveHeader { next_header: 6, pad_length: 3 };
        assert_eq!(header.into_slot().addr(), 0x0001_0306);
    }
}
