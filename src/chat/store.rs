//! Where sessions are kept: in this process, or in Redis, for all gateways.

use std::sync::Arc;
use std::time::Instant;

use super::id::SessionId;
use super::memory::{self, Memory};
use super::session::Session;
use super::shared::{self, Shared};
use crate::metrics::RedisMetrics;

/// One of the two.
pub enum Store {
    /// Lost with this process.
    Memory(Arc<Memory>),
    /// Survives it; any gateway goes on.
    Shared(Arc<Shared>),
}

/// Why a session is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untaken {
    /// There is none of that id, or none any more.
    Unknown,
    /// Too many wait for it.
    Busy,
    /// Its turn has not come in time.
    Late,
    /// As much is kept as may be.
    Full,
    /// The store is away.
    Away,
}

/// A session, for one request. Dropping it lets the next one have it, as it was before.
pub struct Taken {
    /// As it was.
    pub session: Session,
    held: Held,
}

enum Held {
    Memory(memory::Held),
    Shared(Box<shared::Held>),
}

impl Store {
    /// What is told of Redis, where it is there.
    pub fn redis(&self) -> Option<&RedisMetrics> {
        match self {
            Self::Memory(_) => None,
            Self::Shared(shared) => Some(shared.metrics()),
        }
    }

    /// Keeps a new session.
    ///
    /// # Errors
    /// [`Untaken::Full`], [`Untaken::Away`].
    pub async fn open(&self, id: &SessionId, session: Session) -> Result<(), Untaken> {
        match self {
            Self::Memory(memory) => memory.open(id, session, Instant::now()),
            Self::Shared(shared) => shared.open(id, &session).await,
        }
    }

    /// Takes a session, when it is this request's turn, at latest `until` then.
    ///
    /// # Errors
    /// [`Untaken`].
    pub async fn take(&self, id: &SessionId, until: Instant) -> Result<Taken, Untaken> {
        Ok(match self {
            Self::Memory(memory) => {
                let (session, held) = memory.take(id, until).await?;
                Taken { session, held: Held::Memory(held) }
            }
            Self::Shared(shared) => {
                let (session, held) = shared.take(id, until).await?;
                Taken { session, held: Held::Shared(Box::new(held)) }
            }
        })
    }

    /// Forgets a session.
    ///
    /// # Errors
    /// [`Untaken::Unknown`], [`Untaken::Away`].
    pub async fn close(&self, id: &SessionId) -> Result<(), Untaken> {
        match self {
            Self::Memory(memory) => memory.close(id),
            Self::Shared(shared) => shared.close(id).await,
        }
    }

    /// True where no session is to grow.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Memory(memory) => memory.is_full(),
            Self::Shared(_) => false,
        }
    }

    /// Waits until what requests have left is written.
    pub async fn flush(&self) {
        if let Self::Shared(shared) = self {
            shared.flush().await;
        }
    }
}

impl Taken {
    /// Keeps what became of the session. The next request finds it so.
    pub fn keep(self, session: Session) {
        match self.held {
            Held::Memory(held) => held.keep(session),
            Held::Shared(held) => held.keep(&session),
        }
    }

    /// The same, and says whether it was.
    ///
    /// # Errors
    /// [`Untaken::Away`].
    pub async fn keep_now(self, session: Session) -> Result<(), Untaken> {
        match self.held {
            Held::Memory(held) => {
                held.keep(session);
                Ok(())
            }
            Held::Shared(held) => held.keep_now(&session).await,
        }
    }
}
