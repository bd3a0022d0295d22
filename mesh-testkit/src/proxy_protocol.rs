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
    let identity = identity(fields)?;
    let header = Header {
        source,
        destination,
        identity,
    };
    Some((header, rest))
}

/// The identity among the fields, if they are well formed.
fn identity(mut fields: &[u8]) -> Option<Option<String>> {
    let mut identity = None;
    while !fields.is_empty() {
        let (head, rest) = fields.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[1], head[2]])))?;
        if head[0] == IDENTITY && identity.replace(std::str::from_utf8(value).ok()?.to_owned()).is_some() {
            return None;
        }
        fields = rest;
    }
    Some(identity)
}

fn length(fixed: &[u8; FIXED]) -> usize {
    usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))
}

fn port(addrs: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([addrs[at], addrs[at + 1]])
}
