//! A key asked for more than it may: which limit, and when it may again. In OpenAI's words, which SDKs and people know.

use std::borrow::Cow;
use std::time::Duration;

/// A limit of a key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Requests in any 60 seconds.
    RequestsPerMinute,
    /// Requests in a day.
    RequestsPerDay,
    /// Tokens in any 60 seconds.
    TokensPerMinute,
    /// Tokens in a day.
    TokensPerDay,
    /// Requests at a time.
    Concurrent,
}

/// More was asked for than a limit has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// Which limit.
    pub limit: Limit,
    /// How much may be taken.
    pub allowed: u32,
    /// How much is.
    pub used: u64,
    /// How much was to be.
    pub requested: u32,
    /// Until the request would be let in, if nobody else asks.
    pub wait: Duration,
}

impl Limit {
    /// Its name in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "rpm",
            Self::RequestsPerDay => "rpd",
            Self::TokensPerMinute => "tpm",
            Self::TokensPerDay => "tpd",
            Self::Concurrent => "concurrent",
        }
    }

    /// A day is long: nobody's program should wait for its end.
    pub fn is_daily(self) -> bool {
        matches!(self, Self::RequestsPerDay | Self::TokensPerDay)
    }

    fn words(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests per min (RPM)",
            Self::RequestsPerDay => "requests per day (RPD)",
            Self::TokensPerMinute => "tokens per min (TPM)",
            Self::TokensPerDay => "tokens per day (TPD)",
            Self::Concurrent => "concurrent requests",
        }
    }
}

impl Exceeded {
    /// `error.code`.
    pub(super) fn code(&self) -> &'static str {
        if self.limit.is_daily() { "insufficient_quota" } else { "rate_limit_exceeded" }
    }

    /// OpenAI's `error.type`.
    pub(super) fn openai_type(&self) -> &'static str {
        match self.limit {
            limit if limit.is_daily() => "insufficient_quota",
            Limit::TokensPerMinute => "tokens",
            _ => "requests",
        }
    }

    /// For people.
    pub(super) fn message(&self) -> Cow<'static, str> {
        let (words, wait) = (self.limit.words(), in_words(self.wait));
        let Self { allowed, used, requested, .. } = self;
        match self.can_ever_be() {
            true => format!(
                "Rate limit reached for this API key on {words}: Limit {allowed}, Used {used}, Requested {requested}. \
                 Please try again in {wait}."
            ),
            false => format!(
                "Request too large for this API key on {words}: Limit {allowed}, Requested {requested}. The input or \
                 output tokens must be reduced in order to run successfully."
            ),
        }
        .into()
    }

    /// It fits the limit, if nothing else is taken.
    fn can_ever_be(&self) -> bool {
        self.requested <= self.allowed
    }

    /// Coming back soon helps.
    pub(super) fn can_soon_be(&self) -> bool {
        self.can_ever_be() && !self.limit.is_daily()
    }
}

/// A wait as OpenAI's headers and messages have it: `12ms`, `7.66s`, `6m0s`, `1h2m3s`. Of hours and minutes, the seconds are whole
/// ones.
pub fn in_words(wait: Duration) -> String {
    let (seconds, millis) = (wait.as_secs(), wait.subsec_millis());
    match seconds {
        0 => format!("{millis}ms"),
        1..60 if millis == 0 => format!("{seconds}s"),
        1..60 => format!("{seconds}.{}s", format!("{millis:03}").trim_end_matches('0')),
        _ => {
            let seconds = seconds + u64::from(wait.subsec_nanos() > 0);
            let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
            match hours {
                0 => format!("{minutes}m{seconds}s"),
                _ => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_reads_as_openais_does() {
        for (millis, words) in [
            (0, "0ms"),
            (12, "12ms"),
            (1_000, "1s"),
            (7_660, "7.66s"),
            (59_999, "59.999s"),
            (60_000, "1m0s"),
            (359_001, "6m0s"),
            (86_400_000, "24h0m0s"),
        ] {
            assert_eq!(in_words(Duration::from_millis(millis)), words);
        }
    }
}
