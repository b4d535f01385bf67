//! From files and environment to a checked configuration, or to everything that is wrong with them.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::keys::Keys;
use super::named_files::{NamedFiles, ReadFile};
use super::problem::{Origin, Problems};
use super::raw::{RawKeysFile, RawRoutesFile};
use super::report::{At, Report};
use super::routes::Routes;
use super::typed::{Entry, typed};
use super::upstreams::Upstreams;
use super::{Config, defaults, document, files, legacy, models};

/// The route table's file, below the directory of the configuration.
pub const ROUTES_FILE: &str = "routes.yaml";
/// The keys' file, below the directory of the configuration.
pub const KEYS_FILE: &str = "keys.yaml";

/// Where a configuration comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Holds `routes.yaml` and `keys.yaml`; files that they name are relative to it.
    pub dir: PathBuf,
    /// As captured when the process began.
    pub environment: Environment,
    /// `--backend URL`: nodes instead of a file, separated by commas.
    pub backend: Option<String>,
}

/// The text of each file that exists.
#[derive(Debug, Clone, Copy, Default)]
pub struct Texts<'a> {
    /// `routes.yaml`.
    pub routes: Option<&'a str>,
    /// `keys.yaml`.
    pub keys: Option<&'a str>,
}

/// Reads the files of `source` and checks everything. Missing files are none; `watched` of the answer names files by
/// paths that can be opened.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(source: &Source) -> Result<Config, Problems> {
    let read = |name: &str| {
        files::read_text(&source.dir.join(name), defaults::FILE_BYTES_MAX)
            .map_err(|message| Problems::one(Origin::File(name.to_owned()), message))
    };
    let (routes, keys) = (read(ROUTES_FILE), read(KEYS_FILE));
    let read_named =
        |path: &Path| files::read_bytes(&source.dir.join(path), defaults::FILE_BYTES_MAX);
    let mut assembly = Assembly::new(&source.environment, &read_named);
    assembly.no_folder = (!source.dir.is_dir()).then_some(&*source.dir);
    assembly.routes(file(&routes), source.backend.as_deref());
    assembly.keys(file(&keys));
    let mut problems = [routes.err(), keys.err()].into_iter().flatten().fold(
        Problems::default(),
        |mut all, one| {
            all.append(one);
            all
        },
    );
    let (mut config, found) = assembly.finish();
    problems.append(found);
    for path in &mut config.watched {
        *path = source.dir.join(&*path);
    }
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// Checks texts that are at hand, as [`load`] does; `read_named` reads a file that they name, given its path as written, which is
/// also what `watched` of the answer holds.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn parse(
    texts: Texts<'_>,
    environment: &Environment,
    backend: Option<&str>,
    read_named: &ReadFile<'_>,
) -> Result<Config, Problems> {
    let mut assembly = Assembly::new(environment, read_named);
    assembly.routes(texts.routes.map_or(File::Absent, File::Text), backend);
    assembly.keys(texts.keys.map_or(File::Absent, File::Text));
    let (config, problems) = assembly.finish();
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// A file as far as it is there.
#[derive(Clone, Copy)]
enum File<'a> {
    Absent,
    Text(&'a str),
    /// There, but its problem is told already.
    Unreadable,
}

fn file(read: &Result<Option<String>, Problems>) -> File<'_> {
    match read {
        Ok(Some(text)) => File::Text(text),
        Ok(None) => File::Absent,
        Err(_) => File::Unreadable,
    }
}

/// A configuration while it is put together.
struct Assembly<'a> {
    environment: &'a Environment,
    /// Where the files would be, if there is no such folder.
    no_folder: Option<&'a Path>,
    named_files: NamedFiles<'a>,
    config: Config,
    /// Of the files, in order.
    problems: Problems,
    of_environment: Report,
    of_command_line: Report,
}

impl<'a> Assembly<'a> {
    fn new(environment: &'a Environment, read: &'a ReadFile<'a>) -> Self {
        Self {
            environment,
            no_folder: None,
            named_files: NamedFiles { read, seen: Vec::new() },
            config: Config::default(),
            problems: Problems::default(),
            of_environment: Report::new(Origin::Environment),
            of_command_line: Report::new(Origin::CommandLine),
        }
    }

    /// Upstreams, routes, aliases and what the environment says of them.
    fn routes(&mut self, file: File<'_>, backend: Option<&str>) {
        let mut upstreams = Upstreams::default();
        let has_file = !matches!(file, File::Absent);
        let whole = match file {
            File::Text(text) => {
                let mut report = Report::of_file(ROUTES_FILE);
                self.routes_file(text, &mut upstreams, &mut report);
                let problems = report.finish(Some(text));
                let whole = problems.is_empty();
                self.problems.append(problems);
                whole
            }
            File::Absent => self.without_file(&mut upstreams, backend),
            File::Unreadable => false,
        };
        if has_file && backend.is_some() {
            let at = At::Root.key("--backend");
            let draft = self.of_command_line.problem(&at, "there is a `routes.yaml` as well");
            draft.hint("remove one of the two");
        }
        // Where upstreams are missing because of other problems, the name may well be right.
        if whole {
            let report = &mut self.of_environment;
            self.config.default_upstream =
                legacy::default_upstream(self.environment, &upstreams, report);
        }
        if has_file {
            legacy::unused(self.environment, &mut self.config.warnings);
        }
        self.config.upstreams = upstreams.list;
        self.warn_of_idle_upstreams();
    }

    fn routes_file(&mut self, text: &str, upstreams: &mut Upstreams, report: &mut Report) {
        let entry = top_level::<RawRoutesFile>(text, self.environment, report);
        let Some(entry) = entry else { return };
        if entry.fields.routes.is_none() {
            entry.missing("routes", &At::Root, "write a list of routes", report);
        }
        let raw = entry.fields;
        upstreams.read(raw.upstreams.unwrap_or_default(), &mut self.named_files, report);
        let mut routes = Routes::new(upstreams);
        if let Some(list) = raw.routes {
            routes.read(list, report);
        }
        self.config.routes = routes.list;
        self.config.warnings.append(&mut routes.warnings);
        let aliases = raw.aliases.unwrap_or_default();
        let fallbacks = raw.fallbacks.unwrap_or_default();
        self.config.fallbacks = models::fallbacks(fallbacks, &aliases, report);
        self.config.aliases = models::aliases(aliases, report);
    }

    /// `--backend`, else the environment; false where neither names a node.
    fn without_file(&mut self, upstreams: &mut Upstreams, backend: Option<&str>) -> bool {
        let mut routes = Routes::new(upstreams);
        let report = &mut self.of_environment;
        let any = match backend {
            Some(url) => {
                let reports = (&mut self.of_command_line, report);
                let mut warnings = legacy::backend(url, self.environment, &mut routes, reports);
                self.config.warnings.append(&mut warnings);
                true
            }
            None => legacy::upstreams(self.environment, &mut routes, report),
        };
        self.config.routes = routes.list;
        if !any {
            let mut report = Report::of_file(ROUTES_FILE);
            let missing = match self.no_folder {
                Some(folder) => format!("there is no folder `{}`", folder.display()),
                None => "there is no such file".to_owned(),
            };
            let draft = report.problem(&At::Root, missing + ", and no node to forward to");
            draft.hint(
                "`sluice init` writes one; or set VLLM_BASE_URL or LLM_SERVER_URL, or give `--backend URL`",
            );
            self.problems.append(report.finish(None));
        }
        any
    }

    fn warn_of_idle_upstreams(&mut self) {
        let used: std::collections::HashSet<usize> =
            self.config.routes.iter().map(|route| route.upstream).collect();
        for (index, upstream) in self.config.upstreams.iter().enumerate() {
            if !used.contains(&index) {
                let warning = format!("no route leads to the upstream {:?}", upstream.name);
                self.config.warnings.push(warning);
            }
        }
    }

    /// Keys of the file, then those of the environment.
    fn keys(&mut self, file: File<'_>) {
        let mut keys = Keys::default();
        if let File::Text(text) = file {
            let mut report = Report::of_file(KEYS_FILE);
            if let Some(entry) = top_level::<RawKeysFile>(text, self.environment, &mut report) {
                if entry.fields.keys.is_none() {
                    let hint = "write a list of keys, `keys: []` for none";
                    entry.missing("keys", &At::Root, hint, &mut report);
                }
                let list = entry.fields.keys.unwrap_or_default();
                keys.read(list, &mut self.named_files, &mut report);
            }
            self.problems.append(report.finish(Some(text)));
        }
        legacy::keys(self.environment, &mut keys, &mut self.of_environment);
        self.config.keys = keys.list;
    }

    fn finish(mut self) -> (Config, Problems) {
        self.problems.append(self.of_environment.finish(None));
        self.problems.append(self.of_command_line.finish(None));
        self.config.watched = self.named_files.seen;
        self.config.watched.sort();
        self.config.watched.dedup();
        (self.config, self.problems)
    }
}

/// The fields of a document; a document that says nothing was cut, or is not meant to be one.
fn top_level<T: serde::de::DeserializeOwned>(
    text: &str,
    environment: &Environment,
    report: &mut Report,
) -> Option<Entry<T>> {
    let mut value = document::read(text, environment, report)?;
    if value.is_null() {
        report.problem(&At::Root, "the file says nothing").hint("remove it if that is meant");
        return None;
    }
    typed(&mut value, &At::Root, report)
}
