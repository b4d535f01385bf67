//! Where values stand: line and column in their file, or the variable or flag that brought them.

use std::path::Path;

use serde_yaml::Value;

use super::at::Step;
use super::environment::Environment;
use super::report::{Place, Report, path_of};
use super::typed::node;
use super::{Declared, KEYS_FILE, ROUTES_FILE, Source, defaults, document, expand, files, locate};

/// The files of a configuration as they stand. For people who look something up: reading costs time.
pub struct Places<'e> {
    pub(super) routes: WrittenFile,
    pub(super) keys: WrittenFile,
    pub(super) environment: &'e Environment,
}

impl<'e> Places<'e> {
    /// Reads the files of `source`.
    pub fn read(source: &'e Source) -> Self {
        Self {
            routes: WrittenFile::read(&source.dir, ROUTES_FILE),
            keys: WrittenFile::read(&source.dir, KEYS_FILE),
            environment: &source.environment,
        }
    }

    /// Where a route is declared: `routes[3] (routes.yaml:12:5)`, `environment VLLM_BASE_URL`.
    pub fn of_route(&self, declared: Declared) -> String {
        self.routes.place(declared, "routes", "")
    }

    /// Where the upstream `name` is declared.
    pub fn of_upstream(&self, declared: Declared, name: &str) -> String {
        self.routes.place(declared, "routes", name)
    }

    /// Where a key is declared.
    pub fn of_key(&self, declared: Declared) -> String {
        self.keys.place(declared, "keys", "")
    }
}

/// A file: its text, and the values in it before variables are put into them. Empty where there is none.
pub(super) struct WrittenFile {
    name: &'static str,
    text: String,
    values: Value,
}

impl WrittenFile {
    /// Reads the file `name` in `dir`. One that cannot be read is as good as empty: who reads it first tells why.
    pub(super) fn read(dir: &Path, name: &'static str) -> Self {
        let text = files::read_text(&dir.join(name), defaults::FILE_BYTES_MAX);
        let text = text.ok().flatten().unwrap_or_default();
        let values = document::as_written(&text, &mut Report::of_file(name));
        Self { name, values: values.unwrap_or_default(), text }
    }

    /// Whether something is written there.
    pub(super) fn holds(&self, steps: &[Step]) -> bool {
        node(&self.values, steps).is_some_and(|value| !value.is_null())
    }

    /// What each of `nodes` is taken from: `routes.yaml:3:11, environment VLLM_API_KEY`.
    pub(super) fn sources(&self, nodes: &[Vec<Step>], environment: &Environment) -> Vec<String> {
        let wanted: Vec<_> = nodes.iter().map(|steps| (steps.as_slice(), Place::Value)).collect();
        let places = locate::locate(&self.text, &wanted);
        let source = |(steps, place): (&Vec<Step>, _)| {
            let mut source = match place {
                Some(place) => format!("{}:{place}", self.name),
                None => self.name.to_owned(),
            };
            if let Some(value) = node(&self.values, steps) {
                for variable in expand::taken(value, environment) {
                    source.push_str(&format!(", environment {variable}"));
                }
            }
            source
        };
        nodes.iter().zip(places).map(source).collect()
    }

    fn place(&self, declared: Declared, list: &str, name: &str) -> String {
        let Some(steps) = declared.steps(list, name) else {
            return declared.outside().unwrap_or_default();
        };
        let nothing = Environment::default();
        let source = self.sources(std::slice::from_ref(&steps), &nothing).pop().unwrap_or_default();
        format!("{} ({source})", path_of(&steps))
    }
}
