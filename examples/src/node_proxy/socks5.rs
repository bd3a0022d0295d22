//! SOCKS5 (RFC 1928) as far as it is spoken here: no authentication, CONNECT.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hbone::{Authority, AuthorityError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;

/// What a client is told of its request (RFC 1928 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Succeeded = 0,
    Failure = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    Refused = 5,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

/// Reads what a client wants to be connected to, and not a byte more. A client that wants something
/// else is told so.
pub(super) async fn negotiate<Io>(io: &mut Io) -> Result<Authority, Socks5Error>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    greet(io).await?;
    let [version, command, _reserved, kind] = read(io).await?;
    if version != VERSION {
        return Err(Socks5Error::Version(version));
    }
    let target = match kind {
        IPV4 => Target::Ip(Ipv4Addr::from(read::<4>(io).await?).into()),
        IPV6 => Target::Ip(Ipv6Addr::from(read::<16>(io).await?).to_canonical()),
        DOMAIN => {
            let [length] = read(io).await?;
            let mut name = vec![0; length.into()];
            io.read_exact(&mut name).await?;
            Target::Name(name)
        }
        other => {
            answer(io, Reply::AddressNotSupported).await?;
            return Err(Socks5Error::AddressKind(other));
        }
    };
    let port = u16::from_be_bytes(read(io).await?);
    if command != CONNECT {
        answer(io, Reply::CommandNotSupported).await?;
        return Err(Socks5Error::Command(command));
    }
    let authority = match target {
        Target::Ip(ip) => Authority::try_from(std::net::SocketAddr::new(ip, port)),
        Target::Name(name) => match std::str::from_utf8(&name) {
            Ok(name) => Authority::new(name, port),
            Err(_) => {
                answer(io, Reply::AddressNotSupported).await?;
                return Err(Socks5Error::Name);
            }
        },
    };
    match authority {
        Ok(authority) => Ok(authority),
        Err(error) => {
            answer(io, Reply::AddressNotSupported).await?;
            Err(error.into())
        }
    }
}

/// Tells a client what became of its request. The address that it is connected from is none of its
/// business.
pub(super) async fn answer<Io: AsyncWrite + Unpin>(io: &mut Io, reply: Reply) -> io::Result<()> {
    io.write_all(&[VERSION, reply as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]).await
}

enum Target {
    Ip(IpAddr),
    Name(Vec<u8>),
}

async fn greet<Io>(io: &mut Io) -> Result<(), Socks5Error>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let [version, count] = read(io).await?;
    if version != VERSION {
        return Err(Socks5Error::Version(version));
    }
    let mut methods = vec![0; count.into()];
    io.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        io.write_all(&[VERSION, NO_ACCEPTABLE_METHOD]).await?;
        return Err(Socks5Error::Methods);
    }
    Ok(io.write_all(&[VERSION, NO_AUTHENTICATION]).await?)
}

async fn read<const N: usize>(io: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Why a client's request is not understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum Socks5Error {
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("version {0} of SOCKS is not spoken here")]
    Version(u8),
    #[error("the client wants to authenticate")]
    Methods,
    #[error("command {0} is not supported")]
    Command(u8),
    #[error("addresses of kind {0} are not supported")]
    AddressKind(u8),
    #[error("the name is no text")]
    Name,
    #[error("destination: {0}")]
    Authority(#[from] AuthorityError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{duplex, split};

    use super::*;

    /// What is understood of a client's bytes, what it is answered, and what is left of them.
    fn hear(bytes: &[u8]) -> (Result<String, String>, Vec<u8>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut server) = duplex(4096);
            client.write_all(bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let heard = negotiate(&mut server).await;
            let mut left = Vec::new();
            server.read_to_end(&mut left).await.unwrap();
            drop(server);
            let mut answers = Vec::new();
            split(client).0.read_to_end(&mut answers).await.unwrap();
            let heard = heard
                .map(|target| target.to_string())
                .map_err(|error| error.to_string());
            (heard, answers, left)
        })
    }

    #[test]
    fn names_and_addresses_are_understood() {
        for (request, target) in [
            (&[5, 1, 0, 1, 10, 0, 0, 1, 0, 80][..], "10.0.0.1:80"),
            (&[5, 1, 0, 3, 3, b'a', b'.', b'b', 1, 0], "a.b:256"),
            (
                &[5, 1, 0, 3, 8, b'1', b'0', b'.', b'0', b'.', b'0', b'.', b'1', 0, 80],
                "10.0.0.1:80",
            ),
            (
                &[5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80],
                "[::1]:80",
            ),
            (
                &[5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1, 0, 80],
                "10.0.0.1:80",
            ),
        ] {
            let bytes = [&[5, 2, 9, 0], request, b"rest"].concat();
            assert_eq!(hear(&bytes), (Ok(target.to_owned()), vec![5, 0], b"rest".to_vec()));
        }
    }

    #[test]
    fn what_is_not_spoken_here_is_refused() {
        for (bytes, answers) in [
            (&[4, 1, 0][..], &[][..]),
            (&[5, 1, 2], &[5, 0xff]),
            (&[5, 0], &[5, 0xff]),
            (&[5, 1, 0, 5, 2, 0, 1, 10, 0, 0, 1, 0, 80], &[5, 0, 5, 7]),
            (&[5, 1, 0, 5, 1, 0, 9], &[5, 0, 5, 8]),
            (&[5, 1, 0, 5, 1, 0, 3, 0, 0, 80], &[5, 0, 5, 8]),
            (&[5, 1, 0, 5, 1, 0, 3, 2, 0xff, 0xfe, 0, 80], &[5, 0, 5, 8]),
            (&[5, 1, 0, 5, 1, 0, 1, 10, 0, 0, 1, 0, 0], &[5, 0, 5, 8]),
        ] {
            let (heard, answered, _) = hear(bytes);
            assert!(heard.is_err(), "{bytes:?}");
            assert!(answered.starts_with(answers), "{bytes:?}: {answered:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..300), proper: bool) {
            let bytes = if proper { [&[5, 1, 0, 5, 1, 0][..], &bytes].concat() } else { bytes };
            drop(hear(&bytes));
        }
    }
}
