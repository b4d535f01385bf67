//! Every bound and default of the configuration, with its unit and its reason.

use std::time::Duration;

use http::HeaderName;

/// Bytes of one configuration file: ten thousand routes take 2 MB, a binary that was copied by mistake more.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a `key_file`: a key, not a document.
pub const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
/// Values of one YAML file with its aliases written out: a small file must not unfold into gigabytes.
pub const YAML_VALUES_MAX: usize = 2_000_000;
/// Brackets open at one place of a YAML file: the reader's time grows with their square, and it stops at 128 anyway.
pub const OPEN_BRACKETS_MAX: usize = 1_000;
/// Rounds of applying `<<`: a merged map may itself merge another, but not forever.
pub const MERGE_ROUNDS_MAX: usize = 16;
/// Problems told of one file: more are not read by anyone, and finding lines costs time.
pub const PROBLEMS_MAX: usize = 100;
/// Misfits told of one entry (a route, an upstream, a key) before the entry is given up.
pub const ENTRY_PROBLEMS_MAX: usize = 32;
/// Words that a misspelt one is compared with: each comparison costs microseconds, and there may be many of both.
pub const HINT_WORDS_MAX: usize = 1_000;
/// Characters of a value that `sluice check` quotes: enough to know it again.
pub const QUOTE_CHARS_MAX: usize = 80;

/// Lines of the route table, presets written out: memory, and the time that a reload takes.
pub const ROUTES_MAX: usize = 100_000;
/// Bytes of a route's path: longer ones are refused by most servers anyway.
pub const PATH_BYTES_MAX: usize = 1_024;
/// Characters of the name of an upstream, a key or a path parameter: they are labels in logs and metrics.
pub const NAME_CHARS_MAX: usize = 64;
/// Bytes of a model's name or pattern: hub names with a revision stay far below.
pub const MODEL_BYTES_MAX: usize = 512;
/// Bytes of a key with its prefix: headers longer than this are refused by nodes.
pub const KEY_BYTES_MAX: usize = 4_096;

/// TCP and TLS to a node: in one data centre this is milliseconds; two seconds forgive one lost packet.
pub const CONNECT: Duration = Duration::from_secs(2);
/// First byte of an answer: what OpenAI's clients wait by default.
pub const FIRST_BYTE: Duration = Duration::from_secs(600);
/// Between bytes of an answer: no engine that works is silent for two minutes, also with a long prompt before ours.
pub const IDLE: Duration = Duration::from_secs(120);
/// Idle connections to a node: uvicorn closes after 5 s, and a request must not run into that.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(4);
/// Tries in all: the first and one more.
pub const ATTEMPTS: usize = 2;
/// More tries than this only add load to nodes in trouble.
pub const ATTEMPTS_MAX: u64 = 10;

/// Connections of clients: more are more than a machine has ports and memory for.
pub const CONNECTIONS_MAX: u64 = 10_000_000;
/// Requests that may wait for a place at a node: a burst of many clients, each with some kilobytes.
pub const QUEUE: usize = 1_024;
/// More wait for what will not come in time.
pub const QUEUE_MAX: u64 = 100_000;
/// Requests under way at one node: more than any engine has slots.
pub const IN_FLIGHT_MAX: u64 = 1_000_000;

/// Options by which Ollama loads a model anew: seconds for everybody who uses it (`api/types.go`, `Runner`). And `keep_alive`, which
/// lets go of it at once or never.
pub const LOAD_OPTIONS: [&str; 7] =
    ["num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "keep_alive"];

/// What names a session for `consistent_hash`: as the routers of vLLM and SGLang have it.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("x-session-id");

/// Nodes of one upstream: more than any cluster has for one model, and each is probed and has series of its own.
pub const NODES_MAX: usize = 256;
/// Models that one may fall back to: each is tried while the client waits.
pub const FALLBACKS_MAX: usize = 16;

/// Highest limit of a key: what no key reaches is left out.
pub const LIMIT_MAX: u64 = 1_000_000_000;

/// From one probe of a node to the next: a dead node is noticed within 15 s, and its engine does not feel the question.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// The answer to a probe: as long as connecting may take; an engine that lives answers in milliseconds.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Probes that fail in a row until a node is out: one may be lost, and two may meet a pause of the machine.
pub const UNHEALTHY_AFTER: u32 = 3;
/// Probes that succeed in a row until it is back: one may come from a node that is about to die again.
pub const HEALTHY_AFTER: u32 = 2;
/// More probes in a row than this are no decision, but a typing error.
pub const PROBES_MAX: u64 = 100;

/// Shortest wait that may be configured: timers are not finer.
pub const WAIT_MIN: Duration = Duration::from_millis(1);
/// Longest wait that may be configured: a day; longer is a typing error.
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Worker threads that may be asked for: beyond any machine in use.
pub const THREADS_MAX: u64 = 1_024;
/// Tokens of a prompt that may be configured: beyond any model's context.
pub const TOKENS_MAX: u64 = 1_000_000_000;
/// Chat sessions in memory that may be configured: 100 million idle ones would fill any machine.
pub const SESSIONS_MAX: u64 = 100_000_000;
/// Gateways that may share one Redis: beyond any that do.
pub const REPLICAS_MAX: u64 = 10_000;
/// Largest byte count that may be configured (1 TiB): beyond any machine in use.
pub const BYTES_MAX: u64 = 1 << 40;
