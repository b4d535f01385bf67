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

/// A key that is tried. It counts as wrong until it is dropped, and longer where it was.
pub struct Attempt<'a> {
    attempts: &'a Attempts,
    address: IpAddr,
    failed: bool,
}

impl Attempts {
    /// `address` tries a key.
    ///
    /// # Errors
    /// How long it waits before it may.
    pub fn begin(&self, address: IpAddr, now: Instant) -> Result<Attempt<'_>, Duration> {
        let address = network(address);
        let mut known = self.0.lock();
        let is_old = |failures: &Failures| now.saturating_duration_since(failures.since) >= WINDOW;
        if known.len() >= ADDRESSES_MAX && !known.contains_key(&address) {
            known.retain(|_, failures| !is_old(failures));
            if known.len() >= ADDRESSES_MAX {
                // So many at once are one attack: what counts is that memory does not grow.
                known.clear();
            }
        }
        let failures = known.entry(address).or_insert(Failures { since: now, count: 0 });
        if is_old(failures) {
            *failures = Failures { since: now, count: 0 };
        }
        if failures.count >= FAILURES_MAX {
            return Err((failures.since + WINDOW).saturating_duration_since(now));
        }
        failures.count += 1;
        Ok(Attempt { attempts: self, address, failed: false })
    }
}

impl Attempt<'_> {
    /// The key was wrong.
    pub fn failed(mut self) {
        self.failed = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut known = self.attempts.0.lock();
        if let Some(failures) = known.get_mut(&self.address).filter(|_| !self.failed) {
            failures.count = failures.count.saturating_sub(1);
        }
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
        let wait = |text: &str, at| attempts.begin(of(text), at).map(drop).err();
        for _ in 0..FAILURES_MAX {
            // One that was right does not count.
            assert_eq!(wait("2001:db8::1", start), None);
            attempts.begin(of("2001:db8::1"), start).ok().unwrap().failed();
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(wait("2001:db8::2", later), Some(Duration::from_secs(40)));
        assert_eq!((wait("2001:db9::1", later), wait("10.0.0.1", later)), (None, None));
        assert_eq!(wait("2001:db8::1", start + WINDOW), None);
    }

    #[test]
    fn those_under_way_count_as_wrong() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let address = IpAddr::from([10, 0, 0, 1]);
        let many: Vec<_> = (0..20).map(|_| attempts.begin(address, now)).collect();
        assert_eq!(many.iter().filter(|one| one.is_ok()).count(), FAILURES_MAX as usize);
        drop(many);
        assert!(attempts.begin(address, now).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..=u32::try_from(ADDRESSES_MAX).unwrap() {
            attempts.begin(IpAddr::from(number.to_be_bytes()), now).ok().unwrap().failed();
        }
        assert!(attempts.0.lock().len() <= ADDRESSES_MAX);
    }
}
