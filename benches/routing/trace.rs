//! What is asked, and when: made by chance that is the same each time.

use std::time::Duration;

/// One request.
pub(crate) struct Request {
    pub(crate) at: Duration,
    pub(crate) session: String,
    /// What the prompt is made of: names, and words of each.
    pub(crate) prompt: Vec<(String, usize)>,
    /// In tokens.
    pub(crate) answer: u32,
}

/// Kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Conversations of several turns. Their 200 system prompts and what is said are about twice what all caches hold.
    Chats,
    /// Long documents, some asked about far more often than others.
    Documents,
    /// Nothing is shared.
    Nothing,
    /// Every prompt begins alike.
    Hot,
    /// Chats, while a node is lost, and comes back with nothing in its cache.
    Lost,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Chats, Self::Documents, Self::Nothing, Self::Hot, Self::Lost];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chats => "chats",
            Self::Documents => "documents",
            Self::Nothing => "nothing",
            Self::Hot => "hot",
            Self::Lost => "lost",
        }
    }

    /// Requests a second: about two thirds of what all nodes can do with a good choice.
    fn rate(self) -> f64 {
        match self {
            Self::Chats | Self::Lost => 32.0,
            Self::Documents => 11.0,
            Self::Nothing => 24.0,
            Self::Hot => 50.0,
        }
    }

    /// The requests of `length`.
    pub(crate) fn requests(self, length: Duration) -> Vec<Request> {
        let mut dice = Dice(0x5EED);
        let mut requests = match self {
            Self::Chats | Self::Lost => chats(self.rate(), length, &mut dice),
            _ => self.alone(length, &mut dice),
        };
        requests.sort_by_key(|request| request.at);
        requests
    }

    /// Requests that come one by one.
    fn alone(self, length: Duration, dice: &mut Dice) -> Vec<Request> {
        let (mut requests, mut at) = (Vec::new(), 0.0);
        while at < length.as_secs_f64() {
            at += dice.waits(1.0 / self.rate());
            let number = requests.len();
            let question = (format!("question {number}"), dice.between(20, 200));
            let prompt = match self {
                Self::Hot => vec![("hot".to_owned(), 3_000), question],
                Self::Documents => {
                    let document = popular(dice);
                    vec![(format!("document {document}"), 3_000 + document * 37 % 7_000), question]
                }
                _ => vec![(format!("prompt {number}"), dice.between(100, 2_400))],
            };
            requests.push(Request {
                at: Duration::from_secs_f64(at),
                session: format!("user {}", dice.between(0, 300)),
                prompt,
                answer: answer(dice),
            });
        }
        requests
    }
}

/// One of 200: the first ones far more often (Zipf).
fn popular(dice: &mut Dice) -> usize {
    let weight = |rank: usize| 1.0 / (rank + 1) as f64;
    let mut left = dice.part() * (0..200).map(weight).sum::<f64>();
    (0..200)
        .find(|rank| {
            left -= weight(*rank);
            left <= 0.0
        })
        .unwrap_or(0)
}

fn answer(dice: &mut Dice) -> u32 {
    u32::try_from(dice.between(5, 35)).unwrap_or(5)
}

/// Conversations begin all the time; those of the beginning are under way already.
fn chats(rate: f64, length: Duration, dice: &mut Dice) -> Vec<Request> {
    /// Turns of a conversation, on average, and seconds between two of them.
    const TURNS: usize = 6;
    const THINKING: f64 = 8.0;
    let length = length.as_secs_f64();
    let lead = 2.0 * TURNS as f64 * THINKING;
    let (mut requests, mut begins) = (Vec::new(), -lead);
    let mut number = 0;
    while begins < length {
        begins += dice.waits(TURNS as f64 / rate);
        number += 1;
        let system = popular(dice);
        let mut history = vec![(format!("system {system}"), 2_000 + system * 37 % 3_000)];
        let mut at = begins;
        for turn in 0..dice.between(2, 2 * TURNS - 2) {
            history.push((format!("chat {number}, question {turn}"), dice.between(40, 240)));
            let answer = answer(dice);
            if (0.0..length).contains(&at) {
                requests.push(Request {
                    at: Duration::from_secs_f64(at),
                    session: format!("chat {number}"),
                    prompt: history.clone(),
                    answer,
                });
            }
            history.push((format!("chat {number}, answer {turn}"), answer as usize));
            at += f64::from(answer) * 0.1 + dice.waits(THINKING);
        }
    }
    requests
}

/// The text of a part: words, others for each name.
pub(crate) fn text(name: &str, words: usize) -> String {
    let mut dice = Dice(xxhash_rust::xxh3::xxh3_64(name.as_bytes()) | 1);
    (0..words).map(|_| format!("w{} ", dice.between(0, 900))).collect()
}

/// Chance that repeats itself (Marsaglia, Xorshift RNGs).
pub(crate) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.part() * (high - low) as f64) as usize
    }

    /// Between two events that come by chance.
    fn waits(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.part()).ln()
    }
}
