//! Requests that two programs may read differently (`corpus/README.md`): each is refused or reaches the node as it should,
//! whoever asks next gets their own answer, and nginx does nowhere better.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::proxy::Proxy;
use crate::support::gateway::{Setup, preset};
use crate::support::heads::sent_up;
use crate::support::http::raw;
use crate::support::recorder::{Record, Recorder};
use crate::support::scripted::Came;
use crate::support::{KEY, TestGateway, within};

const BODY: &str = r#"{"model":"m"}"#;
const CHAT: &str = "POST /v1/chat/completions";
const ERROR: &str = r#"{"error":{"message":"#;

/// How well a request was dealt with. The better is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Score {
    /// Something reached the node that should not, or somebody got another's answer.
    Wrong,
    /// It reached the node, so that nobody could misread it.
    Clean,
    /// Nothing reached the node.
    Refused,
}

impl Score {
    fn word(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Clean => "clean",
            Self::Refused => "refused",
        }
    }
}

/// A line of the corpus.
struct Case {
    name: String,
    /// The client closes its side when it has sent all.
    half: bool,
    verdicts: Vec<String>,
    bytes: Vec<u8>,
    /// What may reach the node, in this order.
    may_come: Vec<String>,
}

/// What came of a case.
struct Played {
    score: Score,
    answer: String,
    came: Vec<Record>,
    why: String,
}

impl Case {
    fn of(line: &str) -> Self {
        let columns: Vec<&str> = line.split(" | ").collect();
        let [name, verdicts, bytes, rest @ ..] = columns.as_slice() else { panic!("{line}") };
        let default = format!("{CHAT} {BODY}");
        let may_come = rest.first().map_or(default, |text| text_of(text));
        Self {
            name: name.trim_end_matches(" ~").to_owned(),
            half: name.ends_with('~'),
            verdicts: verdicts.split(", ").map(str::to_owned).collect(),
            bytes: unescape(&expand(bytes)),
            may_come: may_come.split(" && ").map(str::to_owned).collect(),
        }
    }

    fn may_be(&self, verdict: &str) -> bool {
        self.verdicts.iter().any(|known| known == verdict)
    }

    /// What is wrong with how the gateway dealt with it.
    fn complaint(&self, played: &Played) -> Option<String> {
        let answer = &played.answer;
        let status: u16 = answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
        let head = self.bytes.starts_with(b"HEAD ");
        let told = (400..500).contains(&status) && (head || answer.contains(ERROR));
        let closes = answer.to_lowercase().contains("\r\nconnection: close\r\n");
        let fits = match played.score {
            Score::Wrong => false,
            Score::Clean => self.may_be("clean"),
            Score::Refused => {
                let silent = self.half && answer.is_empty();
                silent || told && (self.may_be("denied") || self.may_be("refused") && closes)
            }
        };
        let came: Vec<_> = played.came.iter().map(Record::head).collect();
        let complaint = format!(
            "{}: {:?}, not {:?}; {}; answer {answer:?}; came {came:?}",
            self.name, played.score, self.verdicts, played.why
        );
        (!fits).then_some(complaint)
    }
}

/// Words in braces to what they stand for.
fn expand(text: &str) -> String {
    let auth = format!("authorization: Bearer {KEY}\\r\\n");
    let begin = |line: &str| format!("{line} HTTP/1.1\\r\\nhost: h\\r\\n{auth}");
    let next = format!("{}\\r\\n", begin("GET /ping"));
    let mut text = text.to_owned();
    while let Some((at, word, count)) = repeated(&text) {
        let one = |number: usize| match word.as_str() {
            "next" => next.clone(),
            "lines" => format!("x-{number}: b\\r\\n"),
            "pings" => " && GET /ping".to_owned(),
            letter => letter.to_owned(),
        };
        let all: String = (0..count).map(one).collect();
        let length = format!("{{{word}*{count}}}").len();
        text.replace_range(at..at + length, &all);
    }
    for (word, meaning) in [
        ("{post}", begin(CHAT)),
        ("{ping}", begin("POST /ping")),
        ("{get}", begin("GET /version")),
        ("{next}", next),
        ("{auth}", auth),
        ("{key}", KEY.to_owned()),
        ("{chunks}", "d\\r\\n{body}\\r\\n0\\r\\n\\r\\n".to_owned()),
        ("{body}", BODY.to_owned()),
    ] {
        text = text.replace(word, &meaning);
    }
    text
}

/// Place, word and count of the first `{word*count}`.
fn repeated(text: &str) -> Option<(usize, String, usize)> {
    text.match_indices('{').find_map(|(at, _)| {
        let inner = text[at + 1..].split_once('}')?.0;
        let (word, count) = inner.split_once('*')?;
        Some((at, word.to_owned(), count.parse().ok()?))
    })
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = match escape.as_bytes()[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'0' => (0, 1),
            b'\\' => (b'\\', 1),
            b'x' => (u8::from_str_radix(&escape[1..3], 16).unwrap(), 3),
            other => panic!("{} in {text}", char::from(other)),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn text_of(escaped: &str) -> String {
    String::from_utf8(unescape(&expand(escaped))).unwrap()
}

/// A request of somebody else's, whose body no other has.
fn victim(name: &str, connection: &str) -> (String, String) {
    let body = format!(r#"{{"model":"m","user":"{connection} {name}"}}"#);
    let request = format!(
        "{CHAT} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    (request, format!("{CHAT} {body}"))
}

/// Statuses and bodies of the answers in `text`, but of those that only invite.
fn answers(mut text: &str) -> Vec<(u16, String)> {
    let mut found = Vec::new();
    while let Some((head, rest)) = text.split_once("\r\n\r\n") {
        let status: u16 = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        let length = lines
            .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .find_map(|(_, value)| value.trim().parse::<usize>().ok());
        let Some((body, rest)) = rest.split_at_checked(length.unwrap_or(0)) else { break };
        if status >= 200 {
            found.push((status, body.to_owned()));
        }
        text = rest;
    }
    found
}

/// Sends `bytes`, and after a good answer another request on the same connection; all that was answered.
async fn attack(to: SocketAddr, case: &Case, next: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let _refused_early = stream.write_all(&case.bytes).await;
    if case.half {
        let _refused_early = stream.shutdown().await;
    }
    let (mut answer, mut piece, mut asked) = (Vec::new(), [0; 4096], case.half);
    while let Ok(read @ 1..) = within(stream.read(&mut piece)).await {
        answer.extend_from_slice(&piece[..read]);
        let first = answers(&String::from_utf8_lossy(&answer)).first().map(|one| one.0);
        if !asked && first == Some(200) {
            asked = true;
            let _closed = stream.write_all(next.as_bytes()).await;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// One request reached the node whole, and with a length that only one reading has.
fn is_clean(record: &Record) -> bool {
    let lengths = record.values("content-length");
    let told = match lengths.as_slice() {
        [] => record.body.is_empty(),
        [one] => *one == record.body.len().to_string(),
        _ => false,
    };
    let head = record.head();
    record.whole && told && !head.replace("\r\n", "").contains(['\r', '\n', '\0'])
}

/// `some` stand in `all`, in that order.
fn is_part(some: &[String], all: &[String]) -> bool {
    let mut all = all.iter();
    some.iter().all(|one| all.any(|known| known == one))
}

/// Plays a case, then two victims: on the same connection where it lives on, and on a fresh one.
async fn play(to: SocketAddr, node: &Recorder, case: &Case) -> Played {
    let (next, of_next) = victim(&case.name, "same");
    let answer = attack(to, case, &next).await;
    let (fresh, of_fresh) = victim(&case.name, "fresh");
    let own = raw(to, fresh.as_bytes()).await;
    let mut came = node.take();
    let mut why = String::new();
    if came
        .pop()
        .is_none_or(|last| last.summary() != of_fresh || answers(&own) != [(200, last.answer())])
    {
        why = format!("the victim got {own:?}");
    }
    let mut may_come = case.may_come.clone();
    may_come.push(of_next);
    let summaries: Vec<_> = came.iter().map(Record::summary).collect();
    if !is_part(&summaries, &may_come) || !came.iter().all(is_clean) {
        why = format!("{summaries:?} reached the node");
    }
    // Each good answer is that to the next of the requests that the node saw; the last may be lost with its connection.
    let good: Vec<_> = answers(&answer).into_iter().filter(|(status, _)| *status == 200).collect();
    let due: Vec<_> = came.iter().map(|record| (200, record.answer())).collect();
    if !due.starts_with(&good) && !case.may_come[0].starts_with("HEAD") {
        why = format!("{good:?} was answered where {due:?} was due");
    }
    let score = match (why.is_empty(), came.is_empty()) {
        (false, _) => Score::Wrong,
        (true, true) => Score::Refused,
        (true, false) => Score::Clean,
    };
    Played { score, answer, came, why }
}

/// A head that reached the node is the one that the gateway writes, to the byte.
fn is_ours(record: &Record, node: SocketAddr) -> bool {
    let came = Came { head: record.head(), body: record.body.clone() };
    let host = came.header("x-forwarded-host").unwrap_or_default().to_owned();
    let line = came.head.split(" HTTP/1.1").next().unwrap_or_default();
    let length = record.values("content-length").first().cloned().unwrap_or_default();
    // A GET with a length of 0 has none when it goes up.
    let framed = length.is_empty() || length == came.body.len().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:[]".contains(&byte);
    framed && host.bytes().all(plain) && came.head == sent_up(&came, node, (line, ""), &host)
}

/// A gateway that waits for nobody for long.
async fn gateway(node: &Recorder) -> TestGateway {
    let setup = Setup::routes(&preset(node.addr)).flags(|flags| {
        flags.client_timeout = Some("300ms".into());
        flags.keepalive_timeout = Some("1s".into());
    });
    setup.start().await
}

/// Plays a family through the gateway and through nginx.
async fn family(text: &str) {
    let (node, beside) = (Recorder::start().await, Recorder::start().await);
    let gateway = gateway(&node).await;
    let nginx = Proxy::before(beside.addr).await;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (mut wrong, mut table) = (Vec::new(), Vec::new());
    for case in lines.map(Case::of) {
        let ours = play(gateway.addr, &node, &case).await;
        wrong.extend(case.complaint(&ours));
        let foreign = ours.came.iter().find(|record| !is_ours(record, node.addr));
        wrong.extend(foreign.map(|record| format!("{}: {:?}", case.name, record.head())));
        let theirs = play(nginx.addr, &beside, &case).await;
        if theirs.score > ours.score {
            wrong.push(format!("{}: nginx does better", case.name));
        }
        table.push(format!(
            "{:<45} {:>8} {:>8}",
            case.name,
            ours.score.word(),
            theirs.score.word()
        ));
    }
    let told = format!("{}\n\n{:<45} {:>8} {:>8}\n", wrong.join("\n"), "case", "ours", "nginx");
    assert!(wrong.is_empty(), "\n{told}{}", table.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_a_length_has_one_reading_or_is_refused() {
    family(include_str!("corpus/lengths.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_an_encoding_has_one_reading_or_is_refused() {
    family(include_str!("corpus/encodings.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_a_length_beside_chunks_is_refused() {
    family(include_str!("corpus/both.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_chunks_have_one_reading_or_are_refused() {
    family(include_str!("corpus/chunks.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_a_line_of_a_head_has_one_reading_or_is_refused() {
    family(include_str!("corpus/headers.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_host_is_one_name_or_is_refused() {
    family(include_str!("corpus/hosts.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r08_a_request_line_has_one_reading_or_is_refused() {
    family(include_str!("corpus/lines.txt")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_whoever_comes_after_an_attack_gets_their_own_answer() {
    family(include_str!("corpus/hops.txt")).await;
}
