//! Twice as much as the nodes can do, for a minute, from clients that wait for five seconds: what can be answered in time is, and
//! nothing is computed for who has given up.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::fleet::{Fleet, NODES, SLOTS};
use super::gateway::{Gateway, KEY};

const LENGTH: Duration = Duration::from_secs(60);
/// Of each answer, in tokens of 100 ms.
const TOKENS: u32 = 10;
const TIMEOUT: Duration = Duration::from_secs(5);
const OVERLOAD: f64 = 2.0;

/// What is promised: so much of what the nodes can do is answered in time.
const ANSWERED: f64 = 0.95;

/// # Errors
/// Less was answered in time than is promised, or something was computed for nobody.
pub(crate) async fn run() -> Result<String, String> {
    let fleet = Fleet::start().await?;
    let fields = format!("max_in_flight: {SLOTS}, max_queue: 10000");
    let gateway = Gateway::before(&fleet.nodes, &fields).await?;
    let client = reqwest::Client::new();
    // The first token comes at once.
    let service = f64::from(TOKENS - 1) * 0.1;
    let capacity = (NODES * SLOTS) as f64 / service;
    let (began, mut asking) = (Instant::now(), JoinSet::new());
    let count = (capacity * OVERLOAD * LENGTH.as_secs_f64()) as u32;
    for number in 0..count {
        let at = Duration::from_secs_f64(f64::from(number) / (capacity * OVERLOAD));
        tokio::time::sleep_until((began + at).into()).await;
        let body = json!({ "model": "m", "prompt": format!("p{number}"), "max_tokens": TOKENS });
        let url = format!("http://{}/v1/completions", gateway.address);
        let request = client.post(url).bearer_auth(KEY).json(&body);
        let request = request.header("x-timeout-seconds", TIMEOUT.as_secs().to_string());
        asking.spawn(async move {
            let sent = Instant::now();
            let reply = request.send().await.map_err(|error| error.to_string())?;
            let status = reply.status().as_u16();
            reply.bytes().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((status, sent.elapsed()))
        });
    }
    let mut answered = 0_u32;
    let (mut refused, mut late, mut slowest_refusal) = (0_u32, 0_u32, Duration::ZERO);
    for told in asking.join_all().await {
        match told? {
            (200, took) if took <= TIMEOUT => answered += 1,
            (503, took) => {
                refused += 1;
                slowest_refusal = slowest_refusal.max(took);
            }
            _ => late += 1,
        }
    }
    let generated: f64 = fleet.done().await?.iter().map(|done| done.generated).sum();
    let wasted = generated - f64::from(answered * TOKENS);
    let share = f64::from(answered) / (capacity * LENGTH.as_secs_f64());
    let figures = format!(
        "{count} asked, {answered} answered in time ({:.1} % of the capacity), {refused} refused (the last after {:.1} s), \
         {late} late; {wasted:.0} tokens computed for nobody",
        100.0 * share,
        slowest_refusal.as_secs_f64()
    );
    match share >= ANSWERED && wasted <= 0.0 && late == 0 {
        true => Ok(figures),
        false => Err(figures),
    }
}
