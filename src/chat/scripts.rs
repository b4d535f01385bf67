//! What Redis is asked for sessions. A session is a hash: its text `s`, and `v`, how often it was written; beside it stands who has
//! it at the moment.

use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{RedisResult, Script};

use super::id::Hashed;
use super::shared::LEASE;

/// Keeps a new one.
const OPEN: &str = "
redis.call('HSET', KEYS[1], 's', ARGV[1], 'v', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1";

/// Gives it to who asks, unless somebody has it.
const TAKE: &str = "
local found = redis.call('HMGET', KEYS[1], 'v', 's')
if not found[1] then return {} end
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and redis.call('GET', KEYS[2]) ~= ARGV[1] then return {'-1'} end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return found";

/// Holds it for longer.
const RENEW: &str = "
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1";

/// Takes it back, with what became of it, unless somebody has written it since. Of one that was ended nothing is kept.
const END: &str = "
local version = redis.call('HGET', KEYS[1], 'v')
local kept = 0
if not version then
  kept = 1
elseif version == ARGV[2] then
  if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 's', ARGV[3], 'v', ARGV[2] + 1) end
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  kept = 1
end
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return kept";

/// The two keys of a session, on one server of a cluster.
pub(super) struct Key {
    session: String,
    turn: String,
}

/// What comes of taking a session.
pub(super) enum Found {
    /// There is none.
    Nothing,
    /// Somebody has it.
    Anothers,
    /// It is the asker's for a lease.
    Taken {
        /// How often it was written.
        version: u64,
        /// It.
        text: String,
    },
}

/// Loaded where a server does not know them yet, then called by their hashes.
pub(super) struct Scripts {
    open: Script,
    take: Script,
    renew: Script,
    end: Script,
    /// How long a session is kept after its last request, in milliseconds.
    idle: u64,
    lease: u64,
}

impl Key {
    pub(super) fn of(hashed: &Hashed) -> Self {
        let name = hashed.text();
        Self {
            session: format!("sluice:session:{{{name}}}"),
            turn: format!("sluice:session:{{{name}}}:turn"),
        }
    }
}

impl Scripts {
    pub(super) fn new(idle: Duration) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            open: Script::new(OPEN),
            take: Script::new(TAKE),
            renew: Script::new(RENEW),
            end: Script::new(END),
            idle: millis(idle),
            lease: millis(LEASE),
        }
    }

    pub(super) async fn open(
        &self,
        mut connection: ConnectionManager,
        key: &Key,
        text: &str,
    ) -> RedisResult<()> {
        let mut call = self.open.key(&key.session);
        call.arg(text).arg(self.idle);
        call.invoke_async(&mut connection).await
    }

    pub(super) async fn take(
        &self,
        mut connection: ConnectionManager,
        key: &Key,
        word: &str,
    ) -> RedisResult<Found> {
        let mut call = self.take.key(&key.session);
        // While somebody has it, it does not end.
        call.key(&key.turn).arg(word).arg(self.lease).arg(self.idle.max(self.lease));
        let found: Vec<String> = call.invoke_async(&mut connection).await?;
        let mut found = found.into_iter();
        let version = found.next().map(|version| version.parse::<u64>());
        Ok(match (version, found.next()) {
            (Some(Ok(version)), Some(text)) => Found::Taken { version, text },
            (None, _) => Found::Nothing,
            _ => Found::Anothers,
        })
    }

    pub(super) async fn renew(
        &self,
        mut connection: ConnectionManager,
        key: &Key,
        word: &str,
    ) -> RedisResult<()> {
        let mut call = self.renew.key(&key.session);
        call.key(&key.turn).arg(word).arg(self.lease).arg(self.idle.max(self.lease));
        call.invoke_async(&mut connection).await
    }

    /// True where it was written, or there was nothing to write.
    pub(super) async fn end(
        &self,
        mut connection: ConnectionManager,
        key: &Key,
        (word, version): (&str, u64),
        new: Option<&str>,
    ) -> RedisResult<bool> {
        let mut call = self.end.key(&key.session);
        call.key(&key.turn).arg(word).arg(version).arg(new.unwrap_or_default()).arg(self.idle);
        call.invoke_async(&mut connection).await
    }

    /// True where there was one.
    pub(super) async fn close(
        &self,
        mut connection: ConnectionManager,
        key: &Key,
    ) -> RedisResult<bool> {
        redis::cmd("DEL").arg(&key.session).query_async(&mut connection).await
    }
}
