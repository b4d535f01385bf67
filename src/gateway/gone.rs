//! Work for a client that may leave while it is done.

use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::reply::Stop;

/// What comes of `work`. Whoever has left is worked for by nobody.
///
/// # Errors
/// The client has left, or sent what it must not yet.
pub(super) async fn unless_gone<T>(
    session: &mut Session,
    work: impl Future<Output = T>,
) -> Result<T, Stop> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        left = session.downstream_session.read_body_or_idle(true) => {
            let gone = || Error::new(ErrorType::ConnectionClosed);
            Err(Stop::Fail(left.err().unwrap_or_else(gone).into_down()))
        }
    }
}
