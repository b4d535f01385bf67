//! What was said of each boot setting, by whom, and who wins.

use std::collections::HashMap;
use std::path::Path;

use super::environment::Environment;
use super::problem::{Origin, Problems};
use super::report::{At, Fault, Report};
use super::settings::{SECRETS, SETTINGS, Setting, SettingsArgs, SettingsFile};
use super::typed::typed;
use super::{defaults, document, files};

/// The boot settings' file, below the directory of the configuration.
pub const SERVER_FILE: &str = "server.yaml";

/// What holds for one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// The value as text.
    pub(super) text: String,
    /// Who said so; nobody for a default.
    pub(super) origin: Option<Origin>,
    /// How it is spelt there: `--listen`, `SLUICE_LISTEN`, `listen`.
    pub(super) spelling: String,
}

/// What holds for every setting, and what is wrong with it.
pub(super) struct Givens {
    values: HashMap<&'static str, Given>,
    text: Option<String>,
    unreadable: Problems,
    of_file: Report,
    of_environment: Report,
    of_command_line: Report,
}

impl Givens {
    /// Asks all sources.
    pub(super) fn gather(args: &SettingsArgs, environment: &Environment, dir: &Path) -> Self {
        let mut givens = Self {
            values: HashMap::new(),
            text: None,
            unreadable: Problems::default(),
            of_file: Report::of_file(SERVER_FILE),
            of_environment: Report::new(Origin::Environment),
            of_command_line: Report::new(Origin::CommandLine),
        };
        let file = givens.file(environment, &dir.join(SERVER_FILE));
        for setting in SETTINGS {
            let given = given(setting, args, environment, &file);
            givens.values.insert(setting.name, given);
        }
        givens
    }

    /// Every setting with what holds for it, in the order of the documentation.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, &Given)> {
        SETTINGS.iter().filter_map(|setting| Some((setting.name, self.values.get(setting.name)?)))
    }

    /// Reads `server.yaml`; none, or an empty one, leaves every default.
    fn file(&mut self, environment: &Environment, path: &Path) -> SettingsFile {
        match files::read_text(path, defaults::FILE_BYTES_MAX) {
            Ok(text) => self.text = text,
            Err(message) => self.unreadable = Problems::one(self.of_file.origin(), message),
        }
        let Some(text) = &self.text else { return SettingsFile::default() };
        let read = document::read(text, environment, &mut self.of_file);
        let Some(mut value) = read.filter(|value| !value.is_null()) else {
            return SettingsFile::default();
        };
        let entry = typed(&mut value, &At::Root, &mut self.of_file);
        entry.map(|entry| entry.fields).unwrap_or_default()
    }

    /// Whether the file says what the setting `name` is.
    pub(super) fn stands_in_file(&self, name: &str) -> bool {
        let given = self.values.get(name);
        given.is_some_and(|given| matches!(given.origin, Some(Origin::File(_))))
    }

    /// Whether anybody says what the setting `name` is.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|given| given.origin.is_some())
    }

    /// The value of the setting `name`, or its fault recorded.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Given) -> Result<T, Fault>,
    ) -> Option<T> {
        match read(self.values.get(name)?) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault(name, fault);
                None
            }
        }
    }

    /// Records a fault of the setting `name` where its value came from.
    pub(super) fn fault(&mut self, name: &str, fault: Fault) {
        let Some(given) = self.values.get(name) else { return };
        let report = match given.origin {
            Some(Origin::CommandLine) => &mut self.of_command_line,
            Some(Origin::Environment) => &mut self.of_environment,
            Some(Origin::File(_)) | None => &mut self.of_file,
        };
        let draft = report.fault(&At::Root.key(&given.spelling), fault);
        if !SECRETS.contains(&name) {
            draft.quote(&given.text);
        }
    }

    /// Everything that is wrong.
    pub(super) fn finish(self) -> Problems {
        let mut problems = self.unreadable;
        problems.append(self.of_file.finish(self.text.as_deref()));
        problems.append(self.of_environment.finish(None));
        problems.append(self.of_command_line.finish(None));
        problems
    }
}

/// Who wins: flag, `SLUICE_` variable, variable of a replaced service, file, default.
fn given(
    setting: &Setting,
    args: &SettingsArgs,
    environment: &Environment,
    file: &SettingsFile,
) -> Given {
    let from = |text: &str, origin: Origin, spelling: &str| Given {
        text: text.to_owned(),
        origin: Some(origin),
        spelling: spelling.to_owned(),
    };
    if let Some(text) = args.get(setting.name) {
        return from(text, Origin::CommandLine, &setting.flag());
    }
    let variable = setting.variable();
    if let Some(text) = environment.get(&variable) {
        return from(text, Origin::Environment, &variable);
    }
    let below = match file.get(setting.name) {
        Some(text) => from(text, Origin::File(SERVER_FILE.to_owned()), setting.name),
        None => Given {
            text: setting.default.to_owned(),
            origin: None,
            spelling: setting.name.to_owned(),
        },
    };
    match setting.legacy {
        Some("HOST, PORT") => host_and_port(environment, below),
        Some(legacy) => match environment.get(legacy) {
            Some(text) => from(text, Origin::Environment, legacy),
            None => below,
        },
        None => below,
    }
}

/// `HOST` and `PORT` each replace their half of what holds otherwise.
fn host_and_port(environment: &Environment, below: Given) -> Given {
    let (host, port) = (environment.get("HOST"), environment.get("PORT"));
    let (below_host, below_port) = below.text.rsplit_once(':').unwrap_or((&below.text, ""));
    let spelling = match (host, port) {
        (None, None) => return below,
        (Some(_), None) => "HOST",
        (None, Some(_)) => "PORT",
        (Some(_), Some(_)) => "HOST and PORT",
    };
    let host = match host {
        Some("localhost") => "127.0.0.1".to_owned(),
        Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        Some(host) => host.to_owned(),
        None => below_host.to_owned(),
    };
    Given {
        text: format!("{host}:{}", port.unwrap_or(below_port)),
        origin: Some(Origin::Environment),
        spelling: spelling.to_owned(),
    }
}
