//! Which addresses are of the public internet, and a look-up of names that gives only those: what
//! keeps a webhook from being a way into the network that poolgate stands in.
//!
//! The addresses themselves are judged, at the moment of connecting: a name that meant a public
//! address when it was looked at may mean another one by then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The address is one of this machine, of its network, or of no use at all.
#[derive(Debug, thiserror::Error)]
#[error("the address is private, loopback, link-local or reserved")]
pub(super) struct NotPublic;

/// Looks names up, and gives their public addresses only.
pub(super) struct PublicNames {
    /// Hosts that may be anywhere: the operator's own proxies.
    pub(super) exempt: Vec<String>,
}

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        let exempt = self.exempt.iter().any(|host| host == name.as_str());
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let usable: Vec<_> = found
                .filter(|address| exempt || is_public(address.ip()))
                .collect();
            if usable.is_empty() {
                return Err(NotPublic.into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

/// Is this an address of the public internet? By IANA's registries of special-purpose addresses
/// (RFC 6890); an address that only wraps one of IPv4 is what that one is.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224.., ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18..=19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let v4 =
        |high: u16, low: u16| is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        // Mapped (RFC 4291), and through the gateway of an IPv6-only network (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => v4(high, low),
        // Protocol assignments with Teredo among them, and addresses for documentation.
        [0x2001, 0..0x200 | 0xdb8, ..] | [0x3fff, ..0x1000, ..] => false,
        // All that is given out so far; loopback, unique local and link-local are not in it.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[track_caller]
    fn all(addresses: &str, public: bool) {
        for text in addresses.split_whitespace() {
            assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
        }
    }

    #[test]
    fn addresses_of_this_machine_and_its_network_are_not_public() {
        all(
            "127.0.0.1 127.255.255.254 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 \
             169.254.169.254 100.64.0.1 100.127.1.1 192.0.0.1 192.0.2.1 192.88.99.1 198.18.0.1 \
             198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 240.0.0.1 255.255.255.255",
            false,
        );
        all(
            ":: ::1 fe80::1 fc00::1 fd12:3456::1 ff02::1 fec0::1 2001:db8::1 3fff:fff::1 2001::1 \
             2001:10::1 100::1 5f00::1 64:ff9b:1::808:808",
            false,
        );
    }

    #[test]
    fn an_address_within_an_address_is_judged_as_itself() {
        all(
            "::ffff:127.0.0.1 ::ffff:169.254.169.254 64:ff9b::10.0.0.1 2002:7f00:1:: \
             2002:a9fe:a9fe::1 ::127.0.0.1",
            false,
        );
        all("::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1", true);
    }

    #[test]
    fn the_internet_is_public() {
        all(
            "1.1.1.1 8.8.8.8 172.15.0.1 172.32.0.1 100.63.0.1 192.0.1.1 198.20.0.1 223.255.255.255",
            true,
        );
        all(
            "2606:4700::1111 2a00:1450::1 2001:4860:4860::8888 3ffe::1",
            true,
        );
    }
}
