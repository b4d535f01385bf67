//! Times as Go writes them (`time.RFC3339Nano`): to the nanosecond, without zeros at the end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use chrono::DateTime;

/// Writes times that follow each other: what two of one second share is made once.
#[derive(Default)]
pub(super) struct Clock {
    /// Since 1970; none before the first.
    second: Option<u64>,
    /// Date and time of it.
    text: String,
}

impl Clock {
    /// Appends the time of the moment.
    pub(super) fn put_now(&mut self, out: &mut BytesMut) {
        self.put(since_1970(SystemTime::now()), out);
    }

    fn put(&mut self, since_1970: Duration, out: &mut BytesMut) {
        let second = since_1970.as_secs();
        if self.second != Some(second) {
            self.second = Some(second);
            let date = i64::try_from(second).ok().and_then(|s| DateTime::from_timestamp(s, 0));
            self.text = date.unwrap_or_default().format("%Y-%m-%dT%H:%M:%S").to_string();
        }
        // A stream has one in every line, so it is not left to the machinery of `write!`.
        let (mut digits, mut rest) = (*b".000000000", since_1970.subsec_nanos());
        for digit in digits[1..].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        let kept = digits.iter().rposition(|digit| *digit > b'0').map_or(0, |last| last + 1);
        out.put_slice(self.text.as_bytes());
        out.put_slice(&digits[..kept]);
        out.put_u8(b'Z');
    }
}

/// One time.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let mut out = BytesMut::new();
    Clock::default().put(since_1970(time), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_end_are_left_out() {
        let mut clock = Clock::default();
        let mut at = |nanos| {
            let mut out = BytesMut::new();
            clock.put(Duration::new(1_795_197_600, nanos), &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        assert_eq!(at(123_456_789), "2026-11-20T18:00:00.123456789Z");
        assert_eq!(at(200_000_000), "2026-11-20T18:00:00.2Z");
        assert_eq!(at(70), "2026-11-20T18:00:00.00000007Z");
        assert_eq!(at(0), "2026-11-20T18:00:00Z");
        assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
