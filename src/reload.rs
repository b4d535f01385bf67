//! Live configuration: watch the files, parse and build anew, swap in one step; or keep what is served and say why.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, oneshot};

use crate::config::defaults::FILE_BYTES_MAX;
use crate::config::{self, Config, KEYS_FILE, ROUTES_FILE, Source};
use crate::gateway::Snapshot;
use crate::metrics::Metrics;
use crate::upstream::node::Registry;

/// How often the files are looked at where no event comes: network file systems, containers' mounts.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file that is written in place is half there for a moment. It is taken when it stayed the same for so long …
const SETTLED_AFTER: Duration = Duration::from_millis(20);

/// … or was looked at so often: a file that is written all the time must take effect within a second.
const LOOKS_MAX: usize = 10;

/// Readings of files that do not make sense, before that is told.
const TRIES_MAX: usize = 2;

/// Reads the configuration again and again.
pub struct Reloader {
    source: Source,
    live: Arc<ArcSwap<Snapshot>>,
    failed: Failed,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    /// Without a key the gateway would be open: refused where others than this machine can reach it.
    keys_needed: bool,
    /// Files that the configuration in effect was read from.
    read: BTreeSet<PathBuf>,
    /// Key files beside `routes.yaml` and `keys.yaml`.
    named: Vec<PathBuf>,
    /// What the files held when they were last tried.
    tried: Contents,
}

/// Why the files are not what is served; none while they are.
pub type Failed = Arc<ArcSwapOption<FailedReload>>;

/// A configuration that was not taken.
pub struct FailedReload {
    /// When.
    pub at: Instant,
    /// In words.
    pub why: String,
}

/// Why a configuration was not taken. Free of its text.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The files do not say something meaningful.
    #[error(transparent)]
    Invalid(#[from] config::Problems),
    /// A file that the configuration in effect came from is gone.
    #[error("{0} is missing")]
    Missing(String),
    /// A path that the router cannot take.
    #[error("the path {0} overlaps with another in a way that cannot be told apart")]
    Path(String),
    /// Others than this machine can reach the gateway, and nobody would need a key.
    #[error(
        "no key is configured, and the gateway listens to other machines: set PROXY_SECRET_KEY, or write keys.yaml \
         (`sluice keys new` makes a key and its hash)"
    )]
    NoKeys,
    /// Keys were needed, and none would be any more.
    #[error(
        "no key is left: the gateway would be open; a restart without keys opens it on this machine"
    )]
    LastKey,
    /// The thread that parsed it is gone.
    #[error("reading was interrupted")]
    Interrupted,
}

impl Reloader {
    /// Reads the configuration for the first time.
    ///
    /// # Errors
    /// [`NotTaken`]: there is nothing to serve.
    pub fn start(
        source: Source,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        keys_needed: bool,
    ) -> Result<Self, NotTaken> {
        // Read twice: the first time tells which key files there are, and what they hold must be noted before it is read,
        // or a change in between would be taken for tried.
        let named = config::load(&source)?.watched;
        let tried = contents_of(&files_of(&source, &named));
        let config = config::load(&source)?;
        config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        let snapshot = build(&config, None, (&registry, &metrics), keys_needed)?;
        metrics.reloaded(true);
        let live = Arc::new(ArcSwap::from_pointee(snapshot));
        let named = config.watched;
        let files = files_of(&source, &named).into_iter();
        let read = files.filter(|file| file.exists()).collect();
        let failed = Failed::default();
        Ok(Self { source, live, failed, registry, metrics, keys_needed, read, named, tried })
    }

    /// What is served.
    pub fn live(&self) -> Arc<ArcSwap<Snapshot>> {
        self.live.clone()
    }

    /// Why the files are not what is served.
    pub fn failed(&self) -> Failed {
        self.failed.clone()
    }

    /// Follows the files until the task is dropped. Each message of `asked` (SIGHUP) is a reason to read them anew; whoever sent it
    /// is told when that is done.
    pub async fn run(mut self, mut asked: mpsc::Receiver<oneshot::Sender<()>>) {
        let (events, mut seen) = mpsc::channel(1);
        let mut watched = self.watch(&events);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut orders = Vec::new();
            tokio::select! {
                _ = look.tick() => {}
                _ = seen.recv() => {}
                order = asked.recv() => match order {
                    Some(order) => orders.push(order),
                    None => std::future::pending().await,
                },
            }
            orders.extend(std::iter::from_fn(|| asked.try_recv().ok()));
            let forced = !orders.is_empty();
            let before = self.named.clone();
            self = match tokio::task::spawn_blocking(move || {
                self.look(forced);
                self
            })
            .await
            {
                Ok(reloader) => reloader,
                Err(error) => {
                    log::error!("the configuration is not followed any more: {error}");
                    return;
                }
            };
            for done in orders {
                let _nobody_waits = done.send(());
            }
            if self.named != before {
                watched = self.watch(&events);
            }
            let _kept = &watched;
        }
    }

    /// Reads the files anew where they changed since they were last tried, or where that is `forced`.
    fn look(&mut self, forced: bool) {
        if self.contents() == self.tried && !forced {
            return;
        }
        let mut result = self.take_settled();
        for _ in 1..TRIES_MAX {
            if result.is_ok() {
                break;
            }
            // It may have been read in the middle of a write: an error is one only where it stays.
            result = self.take_settled();
        }
        let failed = |why: &NotTaken| FailedReload { at: Instant::now(), why: why.to_string() };
        self.failed.store(result.as_ref().err().map(failed).map(Arc::new));
        self.metrics.reloaded(result.is_ok());
        match result {
            Ok(generation) => log::info!("configuration {generation} is in effect"),
            Err(why) => log::error!("configuration not taken, the last one serves on: {why}"),
        }
    }

    /// Waits until the files stay the same, and takes them.
    fn take_settled(&mut self) -> Result<u64, NotTaken> {
        let files = self.files();
        let mut now = contents_of(&files);
        for _ in 0..LOOKS_MAX {
            wait(SETTLED_AFTER);
            let again = contents_of(&files);
            if again == now {
                break;
            }
            now = again;
        }
        let result = self.take();
        // What was seen before it was taken, and nothing newer: a change since then must be looked at again. A key file
        // that is named for the first time is not in it, and means one reading more.
        self.tried = now;
        let files: BTreeSet<PathBuf> = self.files().into_iter().collect();
        self.tried.retain(|file, _| files.contains(file));
        result
    }

    /// Parses, builds, swaps.
    fn take(&mut self) -> Result<u64, NotTaken> {
        if let Some(gone) = self.read.iter().find(|file| !file.exists()) {
            let name = gone.file_name().map(|name| name.to_string_lossy().into_owned());
            return Err(NotTaken::Missing(name.unwrap_or_default()));
        }
        let config = config::load(&self.source)?;
        let before = self.live.load_full();
        let parts = (&self.registry, &*self.metrics);
        // Who takes the last key away does not mean to let everybody in.
        if config.keys.is_empty() && !before.keys.is_empty() {
            return Err(NotTaken::LastKey);
        }
        let snapshot = build(&config, Some(&before), parts, self.keys_needed)?;
        let generation = snapshot.generation;
        config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        self.live.store(Arc::new(snapshot));
        self.named = config.watched;
        self.read = self.files().into_iter().filter(|file| file.exists()).collect();
        Ok(generation)
    }

    fn files(&self) -> Vec<PathBuf> {
        files_of(&self.source, &self.named)
    }

    fn contents(&self) -> Contents {
        contents_of(&self.files())
    }

    /// Watches the folders, not the files: a rename over, a new inode and a swap of a symlink show there.
    fn watch(&self, events: &mpsc::Sender<()>) -> Option<RecommendedWatcher> {
        let events = events.clone();
        let on_event = move |event: notify::Result<notify::Event>| {
            // Our own reading makes access events: they would never end.
            if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
                let _one_waits_already = events.try_send(());
            }
        };
        let mut watcher = notify::recommended_watcher(on_event)
            .inspect_err(|error| log::warn!("no file events, looking every second: {error}"))
            .ok()?;
        let folders: BTreeSet<PathBuf> =
            self.files().iter().filter_map(|file| file.parent().map(Path::to_path_buf)).collect();
        for folder in folders.into_iter().filter(|folder| folder.exists()) {
            if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
                log::warn!("no events of {}, looking every second: {error}", folder.display());
            }
        }
        Some(watcher)
    }
}

/// The files that a configuration is read from.
fn files_of(source: &Source, named: &[PathBuf]) -> Vec<PathBuf> {
    let own = [ROUTES_FILE, KEYS_FILE].map(|name| source.dir.join(name));
    own.into_iter().chain(named.iter().cloned()).collect()
}

/// What files hold, as hashes; a missing one is told from an empty one.
type Contents = BTreeMap<PathBuf, u64>;

/// Reads `files`. What is too large to be taken, or no file (a pipe would block), is known by its outside.
fn contents_of(files: &[PathBuf]) -> Contents {
    let content = |file: &PathBuf| {
        let mut hash = DefaultHasher::new();
        match std::fs::metadata(file) {
            Ok(outside) if outside.is_file() && outside.len() <= FILE_BYTES_MAX => {
                std::fs::read(file).ok().hash(&mut hash);
            }
            Ok(outside) => (outside.len(), outside.modified().ok()).hash(&mut hash),
            Err(_) => false.hash(&mut hash),
        }
        hash.finish()
    };
    files.iter().map(|file| (file.clone(), content(file))).collect()
}

fn build(
    config: &Config,
    before: Option<&Snapshot>,
    (registry, metrics): (&Arc<Registry>, &Metrics),
    keys_needed: bool,
) -> Result<Snapshot, NotTaken> {
    if keys_needed && config.keys.is_empty() {
        return Err(NotTaken::NoKeys);
    }
    Snapshot::build(config, before, registry, metrics).map_err(NotTaken::Path)
}

#[expect(clippy::disallowed_methods, reason = "on a thread for blocking calls")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}
