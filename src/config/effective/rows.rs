//! Values while they are gathered: their lines are looked up for all of a file at once.

use super::super::at::Step;
use super::super::environment::Environment;
use super::super::places::WrittenFile;
use super::{Declared, Effective};

/// Who said a value.
pub(super) enum From {
    /// Nobody.
    Default,
    /// A variable or a flag, in words.
    Outside(String),
    /// What stands in the file.
    File(Vec<Step>),
}

impl From {
    pub(super) fn variable(name: &str) -> Self {
        Self::Outside(format!("environment {name}"))
    }

    pub(super) fn flag(name: &str) -> Self {
        Self::Outside(format!("flag {name}"))
    }

    /// What stands in the file under these keys.
    pub(super) fn keys(keys: &[&str]) -> Self {
        Self::File(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }
}

/// What values belong to: an upstream, a route, a key.
pub(super) struct Entry {
    /// What it is called: `upstreams.llama`.
    pub(super) path: String,
    /// Where it stands in the file, if it does.
    steps: Option<Vec<Step>>,
    /// What brought it, if that is no file.
    outside: Option<String>,
    /// Values that are written under another name than they are called by.
    renamed: &'static [(&'static str, &'static str)],
}

impl Entry {
    /// What is `declared` in `list` of its file, or as `name` of `upstreams`.
    pub(super) fn new(path: String, declared: Declared, (list, name): (&str, &str)) -> Self {
        let steps = declared.steps(list, name);
        Self { path, steps, outside: declared.outside(), renamed: &[] }
    }

    /// The same, with other names for some values where they are written.
    pub(super) fn renamed(self, renamed: &'static [(&'static str, &'static str)]) -> Self {
        Self { renamed, ..self }
    }

    /// True where no file brought it.
    pub(super) fn is_outside(&self) -> bool {
        self.outside.is_some()
    }
}

/// The values of one file, and of what stands in its place.
pub(super) struct Rows<'f> {
    file: &'f WrittenFile,
    list: Vec<(String, String, From)>,
}

impl<'f> Rows<'f> {
    /// None yet.
    pub(super) fn new(file: &'f WrittenFile) -> Self {
        Self { file, list: Vec::new() }
    }

    /// Adds a value.
    pub(super) fn add(&mut self, path: String, value: String, from: From) {
        self.list.push((path, value, from));
    }

    /// Adds a value of `entry` that is either written there or a default; a `.` in its name leads into a map.
    pub(super) fn value(&mut self, entry: &Entry, name: &str, value: String) {
        let from = self.written(entry, name).map_or(From::Default, From::File);
        self.add(format!("{}.{name}", entry.path), value, from);
    }

    /// Adds a value that an entry from outside brings; of one in a file it is as any other.
    pub(super) fn brought(&mut self, entry: &Entry, name: &str, value: String) {
        match &entry.outside {
            Some(outside) => {
                let from = From::Outside(outside.clone());
                self.add(format!("{}.{name}", entry.path), value, from);
            }
            None => self.value(entry, name, value),
        }
    }

    /// Where the value `name` of `entry` is written, if it is.
    pub(super) fn written(&self, entry: &Entry, name: &str) -> Option<Vec<Step>> {
        let mut steps = entry.steps.clone()?;
        let renamed = entry.renamed.iter().find(|(called, _)| *called == name);
        let written = renamed.map_or(name, |(_, written)| written);
        steps.extend(written.split('.').map(|key| Step::Key(key.to_owned())));
        self.file.holds(&steps).then_some(steps)
    }

    /// Looks the lines up.
    pub(super) fn finish(self, environment: &Environment) -> Vec<Effective> {
        let steps = |(_, _, from): &'_ (String, String, From)| match from {
            From::File(steps) => Some(steps.clone()),
            From::Default | From::Outside(_) => None,
        };
        let in_file: Vec<_> = self.list.iter().filter_map(steps).collect();
        let mut sources = self.file.sources(&in_file, environment).into_iter();
        let row = |(path, value, from)| {
            let source = match from {
                From::Default => "default".to_owned(),
                From::Outside(name) => name,
                From::File(_) => sources.next().unwrap_or_default(),
            };
            Effective { path, value, source }
        };
        self.list.into_iter().map(row).collect()
    }
}
