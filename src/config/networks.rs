//! Networks of machines that are believed.

use std::net::IpAddr;

/// Bits of an IPv4 address, and of an IPv6 address.
const V4_BITS: u32 = 32;
const V6_BITS: u32 = 128;

/// A set of networks; an address alone is a network of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    /// Bits that all its addresses share.
    prefix: u32,
}

impl Networks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `address` is in one of them. One of IPv4 is also that which IPv6 maps it to.
    pub fn hold(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.holds(address))
    }
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        let same = |ours: u128, other: u128, bits: u32| {
            let host_bits = bits - self.prefix;
            host_bits >= u128::BITS || (ours ^ other) >> host_bits == 0
        };
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                same(ours.to_bits().into(), other.to_bits().into(), V4_BITS)
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => same(ours.to_bits(), other.to_bits(), V6_BITS),
            _ => false,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, Some(prefix.parse().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { V4_BITS } else { V6_BITS };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then_some(Self { address, prefix })
    }
}

impl Networks {
    /// Those of `texts`, each written as `10.0.0.0/8` or `10.1.2.3`; none where one of them is neither.
    pub fn of<'t>(texts: impl Iterator<Item = &'t str>) -> Option<Self> {
        texts.map(Network::parse).collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_its_network_alone() {
        let of = |texts: &[&str]| Networks::of(texts.iter().copied());
        let networks = of(&["10.0.0.0/8", "192.168.1.7", "fd00::/8"]).unwrap();
        let hold = |address: &str| networks.hold(address.parse().unwrap());
        for inside in ["10.0.0.0", "10.255.1.2", "192.168.1.7", "fd12::1", "::ffff:10.1.2.3"] {
            assert!(hold(inside), "{inside}");
        }
        for outside in ["11.0.0.0", "192.168.1.8", "fe80::1", "::1"] {
            assert!(!hold(outside), "{outside}");
        }
        let all = of(&["0.0.0.0/0"]).unwrap();
        assert!(all.hold([1, 2, 3, 4].into()));
        assert!(!all.hold("::1".parse().unwrap()));
        assert!(Networks::default().is_empty());
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "10.0.0.0/33",
            "::/129",
            "proxy",
            "10.0.0",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "",
        ] {
            assert!(Networks::of([text].into_iter()).is_none(), "{text}");
        }
    }
}
