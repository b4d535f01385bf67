//! What holds, value by value, and who said so: `sluice check --effective`.

mod entries;
mod rows;

use std::path::Path;

use super::environment::Environment;
use super::givens::{Givens, SERVER_FILE};
use super::places::{Places, WrittenFile};
use super::problem::{Origin, Problems};
use super::settings::SECRETS;
use super::{Config, Declared, SettingsArgs};
use rows::{From, Rows};

/// One value that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// As problems name it: `max_timeout`, `upstreams.llama.timeouts.connect`, `routes[0].path`.
    pub path: String,
    /// `****` for what may be secret.
    pub value: String,
    /// `routes.yaml:3:11`, `environment PORT`, `flag --listen`, `default`.
    pub source: String,
}

/// Every boot setting, in the order of the documentation. Nothing is checked but the form of the file.
///
/// # Errors
/// What is wrong with `server.yaml` as a document.
pub fn effective_settings(
    args: &SettingsArgs,
    environment: &Environment,
    dir: &Path,
) -> Result<Vec<Effective>, Problems> {
    let givens = Givens::gather(args, environment, dir);
    let file = WrittenFile::read(dir, SERVER_FILE);
    let mut rows = Rows::new(&file);
    for (name, given) in givens.each() {
        let from = match given.origin {
            Some(Origin::CommandLine) => From::flag(&given.spelling),
            Some(Origin::Environment) => From::variable(&given.spelling),
            Some(Origin::File(_)) => From::keys(&[name]),
            None => From::Default,
        };
        let value = match given.text.as_str() {
            "" => "none",
            _ if SECRETS.contains(&name) => entries::MASK,
            text => text,
        };
        rows.add(name.to_owned(), value.to_owned(), from);
    }
    let rows = rows.finish(environment);
    let problems = givens.finish();
    if problems.is_empty() { Ok(rows) } else { Err(problems) }
}

/// Every value of `config`, which was loaded from the files of `places`: upstreams, routes, aliases, keys.
pub fn effective(config: &Config, places: &Places<'_>) -> Vec<Effective> {
    let mut rows = Rows::new(&places.routes);
    for upstream in &config.upstreams {
        entries::upstream(upstream, &mut rows);
    }
    let groups = config.routes.chunk_by(|one, next| one.declared == next.declared);
    for (index, group) in groups.enumerate() {
        // Of a preset the first route stands for all.
        if let [route, ..] = group {
            entries::route(index, route, &config.upstreams, &mut rows);
        }
    }
    for (alias, model) in &config.aliases {
        let from = From::keys(&["aliases", alias.as_str()]);
        rows.add(format!("aliases.{alias}"), model.to_string(), from);
    }
    for (model, others) in &config.fallbacks {
        let from = From::keys(&["fallbacks", model.as_str()]);
        rows.add(format!("fallbacks.{model}"), entries::list(others), from);
    }
    if let Some(default) = config.default_upstream.and_then(|index| config.upstreams.get(index)) {
        let name = "DEFAULT_BACKEND";
        rows.add(name.to_owned(), default.name.to_string(), From::variable(name));
    }
    let mut all = rows.finish(places.environment);
    let mut rows = Rows::new(&places.keys);
    for (index, key) in config.keys.iter().enumerate() {
        entries::key(index, key, &mut rows);
    }
    all.append(&mut rows.finish(places.environment));
    all
}

impl Declared {
    /// True for what stands in a short route.
    fn is_entry(self) -> bool {
        matches!(self, Self::Entry(_))
    }
}
