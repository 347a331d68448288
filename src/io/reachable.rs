//! The addresses at which clients reach a server of this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::local_socket::local_ip_for;
use super::machine;

/// Maximum number of addresses of a server.
const MAX_REACHABLE_ADDRESSES: usize = 8;

/// The source address of the default route: the address from which a documentation address is reached (RFC 5737).
pub(crate) fn default_route_address() -> Option<IpAddr> {
    local_ip_for(SocketAddr::from(([192, 0, 2, 1], 9))).ok().filter(|ip| !ip.is_unspecified())
}

/// The addresses of this host. Loopback addresses need not be among them.
pub(crate) fn own_ips() -> Vec<IpAddr> {
    let interfaces = machine::interface_addresses().unwrap_or_default().into_iter().map(|one| one.address);
    default_route_address().into_iter().chain(interfaces).collect()
}

/// The addresses at which clients reach a server that listens on `address`. The unspecified address is replaced
/// by loopback, the address of the default route, and the other addresses of the network interfaces, in this order.
pub(crate) fn reachable_addresses(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    reachable_of(address, own_ips())
}

/// The address at which other machines in the network reach a server that listens on `address`. `None` if the server accepts connections
/// from this machine only, or on a link-local address, whose zone only this machine knows.
pub(crate) fn network_address(address: SocketAddr) -> Option<IpAddr> {
    let addresses = reachable_addresses(address).into_iter().map(|address| address.ip().to_canonical());
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    addresses.into_iter().find(|address| !address.is_loopback() && !is_link_local(address))
}

/// Like [`reachable_addresses`], with the addresses of the interfaces.
fn reachable_of(address: SocketAddr, interfaces: impl IntoIterator<Item = IpAddr>) -> Vec<SocketAddr> {
    let is_usable = |ip: &IpAddr| match ip {
        // A server on `::` also accepts IPv4 clients.
        IpAddr::V4(_) => true,
        // A client needs a scope id to use a link-local address.
        IpAddr::V6(ip) => address.is_ipv6() && !ip.is_unicast_link_local(),
    };
    let others = interfaces.into_iter().filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && is_usable(ip));
    let mut reachable: Vec<SocketAddr> = Vec::new();
    for ip in [Ipv4Addr::LOCALHOST.into()].into_iter().chain(others) {
        let candidate = SocketAddr::new(ip, address.port());
        if reachable.len() < MAX_REACHABLE_ADDRESSES && !reachable.contains(&candidate) {
            reachable.push(candidate);
        }
    }
    reachable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reachable(address: &str, interfaces: &[&str]) -> Vec<String> {
        let interfaces = interfaces.iter().map(|ip| ip.parse().expect("an address"));
        let reachable = reachable_of(address.parse().expect("an address"), interfaces);
        reachable.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn unspecified_address_is_replaced_by_addresses_that_clients_can_use() {
        let interfaces = ["127.0.0.1", "::1", "192.0.2.7", "192.0.2.7", "fe80::1", "2001:db8::7"];
        assert_eq!(reachable("0.0.0.0:5000", &interfaces), ["127.0.0.1:5000", "192.0.2.7:5000"]);
        assert_eq!(reachable("[::]:5000", &interfaces), ["127.0.0.1:5000", "192.0.2.7:5000", "[2001:db8::7]:5000"]);
        let many: Vec<String> = (1..100).map(|last| format!("192.0.2.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(reachable("0.0.0.0:5000", &many).len(), MAX_REACHABLE_ADDRESSES);
        let given = SocketAddr::from(([192, 0, 2, 9], 5_000));
        assert_eq!(reachable_addresses(given), [given]);
    }

    #[test]
    fn loopback_server_has_no_network_address() {
        for (address, expected) in [
            ("127.0.0.1:8080", None),
            ("[::1]:8080", None),
            ("192.0.2.7:8080", Some("192.0.2.7")),
            ("[2001:db8::7]:8080", Some("2001:db8::7")),
            ("[fe80::7%1]:8080", None),
        ] {
            let expected = expected.map(|ip| ip.parse().expect("an address"));
            assert_eq!(network_address(address.parse().expect("an address")), expected, "{address}");
        }
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8_080));
        let first_of_others = reachable_addresses(any).get(1).map(SocketAddr::ip);
        assert_eq!(network_address(any), first_of_others, "the log and the QR code name the same address");
    }
}
