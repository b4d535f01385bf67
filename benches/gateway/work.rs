//! The kinds of work.

/// What is asked of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// A chat of 1 KB, answered with 1 KB; 32 callers, each on a connection of its own.
    Small,
    /// A chat of 64 KB; 16 callers.
    Medium,
    /// A chat of 1 MB; 8 callers.
    Large,
    /// A chat of 1 KB on a new connection each; 32 callers.
    Connect,
    /// Streams of 100 chunks as fast as they go; 16 callers.
    Bulk,
    /// 1,000 streams at once, a chunk each 50 ms.
    Paced,
}

impl Work {
    pub(crate) const ALL: [Self; 6] =
        [Self::Small, Self::Medium, Self::Large, Self::Connect, Self::Bulk, Self::Paced];

    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "64k",
            Self::Large => "1m",
            Self::Connect => "connect",
            Self::Bulk => "bulk",
            Self::Paced => "paced",
        }
    }

    /// # Errors
    /// No work is called so.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(",");
        let found = Self::ALL.into_iter().find(|work| work.name() == name);
        found.ok_or_else(|| format!("no work is called {name}: {},burst", known()))
    }

    /// What its CPU time is counted by.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Bulk | Self::Paced => "chunk",
            _ => "request",
        }
    }

    /// Callers at once.
    pub(crate) fn callers(self) -> usize {
        match self {
            Self::Small | Self::Connect => 32,
            Self::Medium | Self::Bulk => 16,
            Self::Large => 8,
            Self::Paced => 1_000,
        }
    }

    /// Requests in one slice of a round: a second or two.
    pub(crate) fn requests(self) -> usize {
        match self {
            Self::Small => 24_000,
            Self::Medium => 4_000,
            Self::Large => 500,
            Self::Connect => 8_000,
            Self::Bulk => 3_000,
            Self::Paced => 1_000,
        }
    }

    /// Bytes of a request's body, about.
    pub(crate) fn body_bytes(self) -> usize {
        match self {
            Self::Medium => 64 << 10,
            Self::Large => 1 << 20,
            Self::Bulk | Self::Paced => 256,
            _ => 1 << 10,
        }
    }
}
