//! Who tries keys out: an address that gave too many wrong ones waits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Wrong keys that an address may give in [`WINDOW`]: a typing error or two, not a search.
const FAILURES_MAX: u32 = 10;

/// How long they count.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered: about 1 MB.
const ADDRESSES_MAX: usize = 16_384;

/// Wrong keys by address.
#[derive(Default)]
pub struct Attempts(Mutex<HashMap<IpAddr, Failures>>);

struct Failures {
    since: Instant,
    count: u32,
}

impl Attempts {
    /// Whether `address` may try now.
    ///
    /// # Errors
    /// How long it waits.
    pub fn may(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        match self.0.lock().get(&network(address)) {
            Some(failures) if failures.count >= FAILURES_MAX => {
                let left = (failures.since + WINDOW).saturating_duration_since(now);
                if left.is_zero() { Ok(()) } else { Err(left) }
            }
            _ => Ok(()),
        }
    }

    /// It gave a wrong key.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        let mut known = self.0.lock();
        let is_old = |failures: &Failures| now.saturating_duration_since(failures.since) >= WINDOW;
        if known.len() >= ADDRESSES_MAX {
            known.retain(|_, failures| !is_old(failures));
        }
        if known.len() >= ADDRESSES_MAX {
            // So many at once are one attack: what counts is that memory does not grow.
            known.clear();
        }
        let failures = known.entry(network(address)).or_insert(Failures { since: now, count: 0 });
        if is_old(failures) {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count += 1;
    }
}

/// Of IPv6 the network, as one machine has all addresses of it (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_wrong_keys_waits_for_the_rest_of_the_minute() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..FAILURES_MAX {
            assert_eq!(attempts.may(of("2001:db8::1"), start), Ok(()));
            attempts.failed(of("2001:db8::1"), start);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(attempts.may(of("2001:db8::2"), later), Err(Duration::from_secs(40)));
        assert_eq!(attempts.may(of("2001:db9::1"), later), Ok(()));
        assert_eq!(attempts.may(of("10.0.0.1"), later), Ok(()));
        assert_eq!(attempts.may(of("2001:db8::1"), start + WINDOW), Ok(()));
        attempts.failed(of("2001:db8::1"), start + WINDOW);
        assert_eq!(attempts.may(of("2001:db8::1"), start + WINDOW), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..=u32::try_from(ADDRESSES_MAX).unwrap() {
            attempts.failed(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(attempts.0.lock().len() <= ADDRESSES_MAX);
    }
}
