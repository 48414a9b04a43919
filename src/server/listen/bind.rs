//! Binds listening sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Binds and listens. `::` is IPv6 and IPv4, whatever the system's default, and IPv4 alone on a machine without IPv6.
pub(in crate::server) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match listen(address) {
        Err(error) if is_any_v6(address) && has_no_ipv6(&error) => {
            tracing::info!("no IPv6 on this machine: listening on IPv4 alone");
            listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
        }
        bound => bound,
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if is_any_v6(address) {
        socket.set_only_v6(false)?;
    }
    // A restarted server need not wait for its predecessor's connections to expire.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn is_any_v6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

fn has_no_ipv6(error: &io::Error) -> bool {
    // The kernel has no IPv6 (EAFNOSUPPORT), or no interface has it.
    let unsupported = error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32);
    unsupported || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use tokio::net::TcpStream;

    use super::{bind, has_no_ipv6, listen};

    #[tokio::test]
    async fn any_address_means_ipv4_and_ipv6_where_it_exists() {
        let listener = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok());
        // A test machine may have no IPv6.
        if listen(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).is_ok() {
            assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.is_ok());
        }
    }

    #[test]
    fn a_machine_without_ipv6_is_told_from_a_port_in_use() {
        let error = |errno: nix::errno::Errno| std::io::Error::from_raw_os_error(errno as i32);
        assert!(has_no_ipv6(&error(nix::errno::Errno::EAFNOSUPPORT)));
        assert!(has_no_ipv6(&error(nix::errno::Errno::EADDRNOTAVAIL)));
        assert!(!has_no_ipv6(&error(nix::errno::Errno::EADDRINUSE)));
        assert!(!has_no_ipv6(&error(nix::errno::Errno::EACCES)));
    }
}
