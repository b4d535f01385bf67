//! What an answer cost: the line below it.

use std::time::{Duration, Instant};

use super::events::{Event, Usage};

/// Of one answer, from the request on.
pub(super) struct Meter {
    sent: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    pieces: u64,
    pub(super) usage: Option<Usage>,
    finish: Option<String>,
    /// Pairs that had to go before it.
    pub(super) trimmed: usize,
    /// It was stopped.
    pub(super) stopped: bool,
}

impl Meter {
    /// The request goes out at `now`.
    pub(super) fn start(now: Instant) -> Self {
        Self {
            sent: now,
            first: None,
            last: None,
            pieces: 0,
            usage: None,
            finish: None,
            trimmed: 0,
            stopped: false,
        }
    }

    /// An event that came at `now`.
    pub(super) fn note(&mut self, event: &Event, now: Instant) {
        if !event.text.is_empty() || !event.thought.is_empty() {
            self.first.get_or_insert(now);
            self.last = Some(now);
            self.pieces += 1;
        }
        self.usage = event.usage.or(self.usage);
        if event.finish.is_some() {
            self.finish.clone_from(&event.finish);
        }
    }

    /// `42.0 tokens/s · first token 180 ms · 214 tokens in, 96 out · 2 pairs trimmed`, as far as it is known.
    pub(super) fn footer(&self) -> String {
        let mut parts = Vec::new();
        if self.stopped {
            parts.push("stopped".to_owned());
        }
        if self.finish.as_deref() == Some("length") {
            parts.push("cut at its length limit".to_owned());
        }
        let made = self.usage.map_or(self.pieces, |usage| usage.completion_tokens);
        if let (Some(first), Some(last)) = (self.first, self.last) {
            let took = last.duration_since(first);
            if made > 1 && !took.is_zero() {
                // The first one is told by its own time.
                let speed = (made - 1) as f64 / took.as_secs_f64();
                parts.push(format!("{speed:.1} tokens/s"));
            }
            parts.push(format!("first token {}", short(first.duration_since(self.sent))));
        }
        match self.usage {
            Some(usage) => parts.push(format!("{} tokens in, {made} out", usage.prompt_tokens)),
            // Mostly a token each.
            None if made > 0 => parts.push(format!("tokens out: about {made}")),
            None => {}
        }
        match self.trimmed {
            0 => {}
            1 => parts.push("1 pair trimmed".to_owned()),
            pairs => parts.push(format!("{pairs} pairs trimmed")),
        }
        parts.join(" · ")
    }
}

fn short(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Event {
        Event { text: "x".into(), ..Event::default() }
    }

    #[test]
    fn the_footer_tells_speed_first_token_and_tokens() {
        let sent = Instant::now();
        let at = |ms| sent + Duration::from_millis(ms);
        let mut meter = Meter::start(sent);
        meter.note(&text(), at(180));
        meter.note(&text(), at(680));
        assert_eq!(meter.footer(), "2.0 tokens/s · first token 180 ms · tokens out: about 2");
        let usage = Some(Usage { prompt_tokens: 214, completion_tokens: 11 });
        meter.note(&Event { usage, ..Event::default() }, at(690));
        meter.note(&Event { finish: Some("length".into()), ..Event::default() }, at(700));
        (meter.trimmed, meter.stopped) = (2, true);
        assert_eq!(
            meter.footer(),
            "stopped · cut at its length limit · 20.0 tokens/s · first token 180 ms · 214 tokens in, 11 out · \
             2 pairs trimmed"
        );
    }

    #[test]
    fn an_answer_that_never_came_has_nothing_to_tell() {
        let now = Instant::now();
        assert_eq!(Meter::start(now).footer(), "");
        let mut late = Meter::start(now);
        late.note(&text(), now + Duration::from_millis(1500));
        assert_eq!(late.footer(), "first token 1.5 s · tokens out: about 1");
    }
}
