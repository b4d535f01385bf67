//! Callers: what they ask, and what it took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::http::{Connection, find, post};
use super::paced::{STAMP, now_ns};
use super::peers::{AUTHORIZATION, CHAT_PATH, PACED_PATH, Peer};
use super::work::Work;

/// Chunks of a stream of [`Work::Bulk`], of which the role, the usage of none and `[DONE]` are two more.
const BULK_TOKENS: usize = 100;

/// Chunks of a stream of [`Work::Paced`]: four seconds of it.
const PACED_CHUNKS: usize = 80;

/// Between chunks.
const PACE: Duration = Duration::from_millis(50);

/// What a slice took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    /// Of CPU time for each unit of work.
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
    /// From the node's write to the client's read: half of the chunks were faster, 99 of 100.
    pub(crate) delay_us: Option<(f64, f64)>,
    /// Memory that streams took, each.
    pub(crate) kb_per_stream: Option<f64>,
}

/// Runs one slice.
///
/// # Errors
/// A request was not answered well.
pub(crate) async fn run(work: Work, peer: &Peer) -> Result<Figures, String> {
    let named = |error: String| format!("{} at {}: {error}", peer.name, work.name());
    if work == Work::Paced {
        return paced(peer).await.map_err(named);
    }
    let (before, begun) = (peer.processes.cpu_ns(), Instant::now());
    closed_loop(work, peer).await.map_err(named)?;
    let (took, cpu) = (begun.elapsed(), peer.processes.cpu_ns() - before);
    let chunks = if work == Work::Bulk { BULK_TOKENS + 2 } else { 1 };
    let units = (work.requests() * chunks) as f64;
    Ok(Figures {
        cpu_us: cpu as f64 / 1e3 / units,
        per_second: units / took.as_secs_f64(),
        ..Figures::default()
    })
}

/// Each caller asks again as soon as it is answered.
async fn closed_loop(work: Work, peer: &Peer) -> Result<(), String> {
    let (to, request) = (peer.address, Arc::new(request(work, peer.authorization)));
    let left = Arc::new(AtomicUsize::new(work.requests()));
    let mut callers = JoinSet::new();
    for _ in 0..work.callers() {
        let (request, left) = (request.clone(), left.clone());
        callers.spawn(async move {
            let mut connection = Connection::open(to).await?;
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                connection.ask(&request).await?;
                if work == Work::Connect {
                    connection = Connection::open(to).await?;
                }
            }
            Ok::<(), String>(())
        });
    }
    all(callers).await.map(drop)
}

/// The request of a kind of work; its answer is about as long as a small one.
fn request(work: Work, authorization: &str) -> Vec<u8> {
    let words = "The quick brown fox jumps over. ";
    let text = words.repeat(work.body_bytes() / words.len());
    let body = match work {
        Work::Bulk => format!(
            r#"{{"model":"m","max_tokens":{BULK_TOKENS},"stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#
        ),
        _ => format!(
            r#"{{"model":"m","max_tokens":64,"messages":[{{"role":"user","content":"{text}"}}]}}"#
        ),
    };
    post(CHAT_PATH, authorization, &body)
}

/// The small request, for whoever wants to know what it costs now.
pub(crate) async fn small(peer: &Peer) -> Result<f64, String> {
    Ok(run(Work::Small, peer).await?.cpu_us)
}

async fn paced(peer: &Peer) -> Result<Figures, String> {
    let memory = peer.processes.resident_kb();
    let streams = Work::Paced.callers();
    let (before, begun) = (peer.processes.cpu_ns(), Instant::now());
    let (peak, delays) =
        streams_at(peer.address, (streams, PACED_CHUNKS, PACE), || peer.processes.resident_kb())
            .await?;
    let (took, cpu) = (begun.elapsed(), peer.processes.cpu_ns() - before);
    let chunks = (streams * PACED_CHUNKS) as f64;
    Ok(Figures {
        cpu_us: cpu as f64 / 1e3 / chunks,
        per_second: chunks / took.as_secs_f64(),
        delay_us: Some(percentiles(delays)),
        kb_per_stream: Some(peak.saturating_sub(memory) as f64 / streams as f64),
    })
}

/// The same without a gateway.
///
/// # Errors
/// A stream breaks.
pub(crate) async fn paced_directly(node: SocketAddr) -> Result<Figures, String> {
    let streams = Work::Paced.callers();
    let (_, delays) = streams_at(node, (streams, PACED_CHUNKS, PACE), || 0).await?;
    Ok(Figures { delay_us: Some(percentiles(delays)), ..Figures::default() })
}

/// So many streams at once of so many chunks; `look` is asked in their midst. Delays are microseconds.
///
/// # Errors
/// A stream breaks.
pub(crate) async fn streams_at(
    to: SocketAddr,
    (streams, chunks, pace): (usize, usize, Duration),
    look: impl Fn() -> u64,
) -> Result<(u64, Vec<f64>), String> {
    let body = format!(
        r#"{{"model":"m","stream":true,"prompt":"Hello","max_tokens":{chunks},"pace_ms":{}}}"#,
        pace.as_millis()
    );
    let request = Arc::new(post(PACED_PATH, AUTHORIZATION, &body));
    let barrier = Arc::new(Barrier::new(streams + 1));
    let mut callers = JoinSet::new();
    for place in 0..streams {
        let (request, barrier) = (request.clone(), barrier.clone());
        let phase = pace.mul_f64(place as f64 / streams as f64);
        callers.spawn(async move {
            let opened = Connection::open(to).await;
            barrier.wait().await;
            // Spread over the pace, as streams that began at any time would be.
            tokio::time::sleep(phase).await;
            let mut connection = opened?;
            connection.send(&request).await?;
            follow(&mut connection, chunks).await
        });
    }
    barrier.wait().await;
    tokio::time::sleep(pace.mul_f64(chunks as f64 * 0.75)).await;
    let seen = look();
    let delays = all(callers).await?;
    Ok((seen, delays.concat()))
}

/// Reads a stream to its end: how long each chunk took.
async fn follow(connection: &mut Connection, chunks: usize) -> Result<Vec<f64>, String> {
    let mut delays = Vec::with_capacity(chunks);
    let mut text = Vec::new();
    loop {
        let count = connection.read().await?;
        let now = now_ns();
        text.extend_from_slice(connection.bytes(count));
        let mut read = 0;
        while let Some(at) = find(&text[read..], STAMP.as_bytes()) {
            let digits = read + at + STAMP.len();
            let Some(stamp) = text.get(digits..digits + 20) else { break };
            let sent: u64 = String::from_utf8_lossy(stamp).parse().unwrap_or(now);
            delays.push(now.saturating_sub(sent) as f64 / 1e3);
            read = digits + 20;
        }
        text.drain(..read);
        if text.ends_with(b"0\r\n\r\n") {
            break;
        }
    }
    match delays.len() {
        len if len == chunks => Ok(delays),
        len => Err(format!("{len} chunks of {chunks}: {}", String::from_utf8_lossy(&text))),
    }
}

fn percentiles(mut delays: Vec<f64>) -> (f64, f64) {
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    (at(0.5), at(0.99))
}

async fn all<T: 'static>(mut callers: JoinSet<Result<T, String>>) -> Result<Vec<T>, String> {
    let mut results = Vec::new();
    while let Some(done) = callers.join_next().await {
        results.push(done.map_err(|error| error.to_string())??);
    }
    Ok(results)
}
