//! The PROXY protocol, version 2, as one who is told by it reads it (haproxy's specification,
//! section 2.2): what is written is held against this.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const IDENTITY: u8 = 0xd0;

/// Who a connection is from, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where it comes from.
    pub source: SocketAddr,
    /// What it was made to.
    pub destination: SocketAddr,
    /// The identity that the source showed, by Istio's type 0xD0.
    pub identity: Option<String>,
}

/// Reads a header, and not a byte more.
///
/// # Errors
///
/// The connection fails, or what comes is no header that tells of a TCP connection.
///
/// # Cancel safety
///
/// Dropping the call loses what it has read.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Header> {
    let mut fixed = [0; FIXED];
    io.read_exact(&mut fixed).await?;
    let mut bytes = fixed.to_vec();
    bytes.resize(FIXED + length(&fixed), 0);
    io.read_exact(&mut bytes[FIXED..]).await?;
    match parse(&bytes) {
        Some((header, [])) => Ok(header),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The header at the beginning of these bytes, and what comes after it.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (fixed, rest) = bytes.split_first_chunk::<FIXED>()?;
    let (body, rest) = rest.split_at_checked(length(fixed))?;
    if !fixed.starts_with(SIGNATURE) || fixed[12] != PROXY {
        return None;
    }
    let (source, destination, fields) = match fixed[13] {
        TCP_OVER_IPV4 => {
            let (addrs, fields) = body.split_first_chunk::<12>()?;
            let ip = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(&addrs[at..at + 4]).ok()?));
            (
                SocketAddr::new(ip(0)?, port(addrs, 8)),
                SocketAddr::new(ip(4)?, port(addrs, 10)),
                fields,
            )
        }
        TCP_OVER_IPV6 => {
            let (addrs, fields) = body.split_first_chunk::<36>()?;
            let ip = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(&addrs[at..at + 16]).ok()?));
            (
                SocketAddr::new(ip(0)?, port(addrs, 32)),
                SocketAddr::new(ip(16)?, port(addrs, 34)),
                fields,
            )
        }
        _ => return None,
    };
    let fields = split(fields)?;
    let mut identities = fields.iter().filter(|(kind, _)| *kind == IDENTITY);
    let identity = match (identities.next(), identities.next()) {
        (None, _) => None,
        (Some((_, text)), None) => Some(std::str::from_utf8(text).ok()?.to_owned()),
        (Some(_), Some(_)) => return None,
    };
    let header = Header {
        source,
        destination,
        identity,
    };
    Some((header, rest))
}

/// The types and values of what follows the addresses.
fn split(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let ([kind, high, low], rest) = bytes.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        fields.push((*kind, value));
        bytes = rest;
    }
    Some(fields)
}

fn length(fixed: &[u8; FIXED]) -> usize {
    usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))
}

fn port(addrs: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([addrs[at], addrs[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x14\x0a\0\0\x01\x0a\0\0\x02\x01\x02\0\x50\x04\0\x02ab\xd0\0\0";

    #[test]
    fn a_header_is_told_from_what_follows() {
        let mut bytes = HEADER.to_vec();
        bytes.extend(b"rest");
        let (header, rest) = parse(&bytes).unwrap();
        assert_eq!(
            (header.source, header.destination),
            ("10.0.0.1:258".parse().unwrap(), "10.0.0.2:80".parse().unwrap())
        );
        assert_eq!((header.identity.as_deref(), rest), (Some(""), &b"rest"[..]));
    }

    #[test]
    fn what_is_no_header_is_none() {
        for (at, byte) in [(0, 0), (12, 0x20), (13, 0x31), (14, 1), (15, 11), (15, 15), (30, 9)] {
            let mut bytes = HEADER.to_vec();
            bytes[at] = byte;
            assert_eq!(parse(&bytes), None, "{at}");
        }
        for length in 0..HEADER.len() {
            assert_eq!(parse(&HEADER[..length]), None, "{length}");
        }
    }
}
