//! Sluice: a gateway in front of GPU nodes that run vLLM, on Cloudflare's Pingora.
//!
//! # Bird's eye
//!
//! ```text
//!  clients ──▶ gateway (hooks of Pingora) ──▶ nodes
//!                │ reads                       ▲
//!                ▼                             │ lists of models, health
//!              Snapshot ◀── reload ◀── config  │
//!   routes · upstreams · keys                answers
//! ```
//!
//! One process, one runtime, two listeners: the public one, and the operators', with the metrics and the nodes. Everything that a
//! reload replaces is one immutable [`Snapshot`](gateway::Snapshot) behind one atomic pointer; each request pins the
//! snapshot of the moment when it came and is served by that one to its end. Nodes live through reloads
//! ([`Registry`](upstream::node::Registry)): what they have to do and how they are is their own.
//!
//! # A request's way
//!
//! A client's connection passes through [`listener`], between Pingora's accept and its session: a place among the others, TLS, a head that
//! is whole in time and within its bounds, chunks read by the letter. What it cannot let pass it answers itself, and closes.
//!
//! [`Gateway`](gateway::Gateway) implements Pingora's `ProxyHttp`. `request_filter` calls `admit` (`gateway/admit.rs`),
//! the table of contents: name the request → refuse what is ambiguous → CORS → open endpoints → chat sessions → authenticate → route →
//! scope → timeout → body → model → stored response → upstream → limits of the key. Each "no" leaves through one `?`. Then, for each try: `upstream_peer` takes
//! a place at the best node (`gateway/node.rs`, [`upstream::balance`]; by its session or its prompt where that is asked for,
//! `gateway/affinity.rs`; in line where all are full, `gateway/queued.rs`), `upstream_request_filter` writes the head that the
//! node shall see (what may go up is listed; everything else stays) and puts a stand-in in the client's place (`gateway/downstream/`) that replays the body, keeps
//! the head of a stream back until its first event, watches the clock of every answer and has comments written into silent streams;
//! `upstream_response_filter` judges the status; `gateway/passing.rs` decides what goes to the client, and from when on no
//! other node can take the place of this one; `error_while_proxy` decides whether there is another try; `fail_to_proxy`
//! tells the client what cannot be mended; `logging` settles the request's limits, writes its row ([`ledger`]), counts it (`gateway/counted.rs`) and writes its line.
//!
//! Two dialects lie on that way, not beside it. A question of a chat session (`gateway/chats/`, [`chat`]) becomes the chat that a node is
//! asked for before anything else looks at it, and its answer is told in short as it leaves. A request to Ollama
//! (`gateway/dialect.rs`, [`wire::ollama`]) is translated as the last thing before it goes up, and its answer as the first thing
//! when it comes: retries, limits, usage, guards see OpenAI's API alone. Both may hold of one request.
//!
//! # What holds everywhere
//!
//! - A module knows only those before it in the list below; `tests/tidy.rs` checks it. Only [`gateway`] and [`server`]
//!   know `pingora_proxy`; only [`config`] knows YAML; only [`config`], [`ledger`], [`reload`], [`cli`] and a chat's model folder touch files.
//! - [`wire`] is pure: bytes in, values out. It knows no socket, no clock and no Pingora.
//! - A body is never parsed into a tree and never written anew, but by the two dialects: the model's name, and the question for usage,
//!   are spliced in where they must be (`gateway/edits.rs`).
//! - What must be given back (memory for bodies, the count of requests under way, the place at a node) is a guard in the request's context:
//!   it is freed however the request ends.
//! - What a node keeps for a key is found for that key alone, and only where the node chose its id
//!   ([`routing::responses`]).
//! - Every credential of a client's ends at the gateway; no key is in a log, an error, a metric or a `Debug`.
//! - Every bound has a name, a unit and a reason beside it.
//!
//! # Decisions
//!
//! - **The whole body before a node is contacted.** It can go to any node and again to another, and a node's clock
//!   starts after the upload. The price is memory, which one budget bounds.
//! - **Our own start and stop, not Pingora's `Server`.** Its SIGTERM sleeps for the whole grace period. Services run on
//!   sockets that the caller bound, so that a test starts the gateway exactly as `serve` does.
//! - **An upgrade hands sockets over, not connections** (`cli/serve/`): the new process starts wholly before the old one lets go, and that
//!   has no bound on its last streams. One message each way over a Unix socket; whoever dies in between leaves the other serving.
//! - **A stream of our own below Pingora's session** ([`listener`]): Pingora takes heads of 1 MiB, has a clock for each read alone, and
//!   mends what it should refuse. [`wire::raw_head`] and [`wire::chunked`] look at the bytes as they came; what both readers of a body in
//!   chunks do not agree on is none.
//! - **A wrapper round the client's session, not a client of our own.** The head that waits, limits apart from each other and
//!   comments hang on one call that Pingora makes while it waits for a node; the rest of the proxy stays Pingora's. Where its own
//!   clock will do for the rest of an answer, the wrapper goes with the first bytes.
//! - **Usage is asked for and cut out again** (`wire/usage`): an account is right only if nodes tell what they made, also of
//!   streams whose client leaves; what such a client did not ask for, it does not see.
//! - **An account in a file, not in a database** ([`ledger`]): lines that are appended survive a kill, need nothing that could
//!   be away, and are read by whatever reads JSON. A thread of its own writes them, as it does the access log.
//! - **A stream's end is read, not believed** (`wire/stream_end`): vLLM whose engine dies says so in an event, then `[DONE]`,
//!   and ends the body well. Only the begin of each line is looked at; events that may tell of it wait until they are whole.
//! - **A node that may be anything is asked for nothing that nobody wanted**: its models are learnt when a choice or a list
//!   needs them. Only nodes of a known kind, or with a path for it, are probed, and, where there are several, asked for their models with that.
//! - **Load is a guard of the request's**, taken with the choice and dropped with its context: no ending can leak it, and
//!   nothing else writes it. What others do at a node is what its own gauges show beyond ours.
//! - **One score, in time**, decides where a prompt goes ([`upstream::prefix`]): what a node has still to compute, less what it
//!   must have computed since, and what it does not hold of this prompt. No threshold switches between cache and load. Prompts
//!   are known by what passed through: with an exact model of each cache nothing more is needed.
//! - **Nobody waits for what would come too late** (`upstream/queue.rs`): places are left so fast as the means of what requests took
//!   tell; whoever would not be answered in time is told so, instead of a node computing for nobody.
//! - **A limit is a ring of slots** ([`access::ring`]): in no window is more let in than may be, and the wait that is told is the
//!   shortest that helps. What a request may need is taken ahead, and settled before the end of its answer is sent: whoever comes
//!   again at once finds what was left over.
//! - **In Redis a decision is one script** (`access/redis/limits.lua`): the arithmetic of the ring, by the server's clock, so that gateways need not
//!   agree on the time; one property test plays the same steps on both stores. Requests under way are leases that their gateway renews: a number
//!   could not tell which of them were a dead gateway's. While Redis is away nobody waits for it: one task looks for it, and what `on_store_error` says holds.
//! - **What a request gives back to Redis goes through a queue**, as its end cannot wait; who asks next with the same key waits until it is written.
//! - **Failures alone close no upstream**: with every node ejected they are all tried, as nginx does. Only probes (pauses and sleep are what they find, too), operators
//!   and a node's own `Retry-After` leave nobody to ask.
//! - **A habit is three**: how long a node keeps idle connections is learnt when it closes three at the same age, since a
//!   crash closes many at different ones.
//! - **A stream that its node breaks off ends well**, after an event that says so: Pingora would close the client's connection,
//!   under whatever that has sent meanwhile.
//! - **serde_yaml** reads the files because Pingora brings it anyway; it drops double keys silently, so maps go through
//!   a visitor that refuses them.
//! - **Schemas from the structs** that read the files (schemars), so that an editor and the gateway never disagree on a field.
//! - **`chat` asks through Pingora's connector**, as probes do: no second client of HTTP, and Ctrl-C drops a future, which closes
//!   its connection at once.
//! - **A session is taken for one request at a time**, as a guard: whatever ends the request gives it back as it was, and only a whole
//!   answer changes it. In Redis it is a lease, and what became of it is written only where nobody else has written since.
//! - **What a session keeps of its node's key is sealed with its id**, which nobody keeps: who reads the store reads no key.
//! - **What is seen of a request is plain counters** ([`metrics`]) of its node, its model and its key: found once, written without a lock, read when
//!   somebody asks. One histogram has vLLM's bounds for whoever scrapes, and four parts of each for the percentiles on the page. A model has
//!   series once an answer for it was good: what clients make up has none.
//! - **Tokens are seen as they pass** (`gateway/flow.rs`), by a mark that stands once in each event ([`wire::token_events`]): the time to the
//!   first, and between them, is what the client sees, on any node that streams over HTTP.
//! - **The page is written once, here** (`admin/page/`): its script loads it anew and puts in what changed, so that no second place knows
//!   how a number looks. One type writes its markup, and escapes whatever is not a constant.
//! - **The document of the API is data, its refusals are code** ([`answers::docs`]): JSON says what is particular to an endpoint; statuses,
//!   scopes and examples of errors are written from what refuses.
//! - **`explain` is the code that serves**: a choice carries its reason as a plain word, and a test sends what it explains.
//! - **A prompt is counted in pieces** ([`chat::tokens`]): rendered whole, by the model's own template, and cut at special tokens, where its
//!   tokenizer cuts too. So the sum is exact, and what a session counted before is looked up.
//! - **rustls with ring**: nothing of the system's is linked but libc.
//! - **jemalloc**, by measurement: with glibc's allocator a small request costs 1.2 times as much, and 1.5 times after a
//!   burst of 2,000 streams; with mimalloc as much, but a stream takes twice the memory (143 KB to 68).
//! - **A stream of our own to plain nodes** (`upstream/connection/`), below Pingora's client: the head of a request and
//!   its body leave in one packet, which saves a system call here and a wake-up there. **And a pool of our own** for them:
//!   Pingora's starts a task after each request to watch the idle connection, a tenth of what a small request costs.
//! - **Who is trusted is part of a connection's place in Pingora's pools** (`upstream/client.rs`), which do not look at it: upstreams
//!   that share a node and trust different authorities share no connection, also after a reload that changed them.
//! - **No read buffer before a client's connection**: Pingora's own of 64 KiB would be zeroed for each connection.
//! - **The request's context in a box**: inside Pingora's future of many layers it would be there many times over.

pub mod names;

pub mod config;

pub mod refusal;

pub mod metrics;

pub mod wire;

pub mod ledger;

pub mod listener;

pub mod upstream;

pub mod routing;

pub mod access;

pub mod chat;

pub mod answers;

pub mod gateway;

pub mod reload;

pub mod admin;

pub mod sim;

pub mod server;

pub mod cli;
