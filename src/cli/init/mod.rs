//! `sluice init`: a commented configuration with a fresh key, in a folder where there was none.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Failed, keys, local, say};
use crate::config::{
    Environment, KEYS_FILE, ROUTES_FILE, SERVER_FILE, Settings, SettingsArgs, schema,
};

/// The shipped examples. Not those of `config/` themselves: that is where whoever builds from a checkout writes keys.
const SERVER: &str = include_str!("server.yaml");
const ROUTES: &str = include_str!("routes.yaml");
const KEYS: &str = include_str!("keys.yaml");

/// The line of [`KEYS`] that makes room for the fresh key.
const NO_KEYS: &str = "keys: []\n";

/// Everybody may read it.
const OPEN: u32 = 0o644;
/// Keys stand there, or will: nobody else may read it.
const CLOSED: u32 = 0o600;

/// Where to write.
#[derive(clap::Args)]
pub(super) struct Init {
    /// Folder to write server.yaml, routes.yaml and keys.yaml into; made where there is none.
    #[arg(long, value_name = "DIR", env = "SLUICE_CONFIG", default_value = "config")]
    config: PathBuf,
}

/// A file to be written.
struct NewFile {
    name: String,
    text: String,
    mode: u32,
}

pub(super) fn run(init: &Init) -> Result<(), Failed> {
    let dir = &init.config;
    if dir.exists() && !dir.is_dir() {
        return Err(Failed::Runtime(format!("nothing written: {} is no folder", dir.display())));
    }
    let key = keys::fresh()?;
    let files = files(&key);
    refuse_existing(dir, &files)?;
    // As `serve` will, so that the line to paste has the right port.
    let settings = Settings::resolve(&SettingsArgs::default(), &Environment::of_process(), dir)?;
    write_all(dir, &files)?;
    say(&next(dir, &key, local::reachable(settings.listen)));
    Ok(())
}

fn files(key: &str) -> Vec<NewFile> {
    let entry = format!(
        "keys:\n  - name: admin\n    key_sha256: {}\n    scopes: [inference, admin]\n",
        keys::hash(key.as_bytes())
    );
    let yaml = [
        (SERVER_FILE, SERVER.to_owned(), OPEN),
        (ROUTES_FILE, ROUTES.to_owned(), CLOSED),
        (KEYS_FILE, KEYS.replacen(NO_KEYS, &entry, 1), CLOSED),
    ];
    let yaml = yaml.map(|(name, text, mode)| NewFile { name: name.to_owned(), text, mode });
    let schemas = schema::Document::ALL.map(|document| NewFile {
        name: document.file_name(),
        text: document.schema(),
        mode: OPEN,
    });
    yaml.into_iter().chain(schemas).collect()
}

/// Names what is there already. A link that leads nowhere is there, too.
fn refuse_existing(dir: &Path, files: &[NewFile]) -> Result<(), Failed> {
    let paths = files.iter().map(|file| dir.join(&file.name));
    let there = paths.filter(|path| path.symlink_metadata().is_ok());
    let there: Vec<String> = there.map(|path| path.display().to_string()).collect();
    if there.is_empty() {
        return Ok(());
    }
    Err(Failed::Runtime(format!(
        "nothing written: already there: {}; move it away, or give another `--config DIR`",
        there.join(", ")
    )))
}

/// Writes all files, or none.
fn write_all(dir: &Path, files: &[NewFile]) -> Result<(), Failed> {
    let path = |file: &NewFile| dir.join(&file.name);
    let cannot = |path: &Path, error: io::Error| {
        Failed::Runtime(format!("cannot write {}: {error}", path.display()))
    };
    let new_folder = !dir.exists();
    fs::create_dir_all(dir).map_err(|error| cannot(dir, error))?;
    for (written, file) in files.iter().enumerate() {
        if let Err(error) = write_new(&path(file), file) {
            // What was written a moment ago is ours to take away.
            files[..written].iter().for_each(|file| drop(fs::remove_file(path(file))));
            if new_folder {
                let _not_empty = fs::remove_dir(dir);
            }
            return Err(cannot(&path(file), error));
        }
    }
    Ok(())
}

/// Writes a file that must not be there.
fn write_new(path: &Path, file: &NewFile) -> io::Result<()> {
    let mut open = OpenOptions::new();
    let mut out = open.write(true).create_new(true).mode(file.mode).open(path)?;
    let written = out.write_all(file.text.as_bytes());
    if written.is_err() {
        let _gone = fs::remove_file(path);
    }
    written
}

/// What to do now.
fn next(dir: &Path, key: &str, address: std::net::SocketAddr) -> String {
    let folder = dir.display();
    let flag = match dir == Path::new("config") {
        true => String::new(),
        false => format!(" --config {}", quoted(&folder.to_string())),
    };
    format!(
        "\
Written to {folder}:

  {ROUTES_FILE}   which paths exist, and which node answers them
  {KEYS_FILE}     who may use the gateway: one key, with every scope
  {SERVER_FILE}   how the gateway runs
  *.schema.json what editors check these by

The key, shown this once (its hash is stored):

  {key}

Next: write the address of your node into {ROUTES_FILE}, then

  sluice check{flag} --online
  sluice serve{flag}
  curl http://{address}/v1/models -H 'Authorization: Bearer {key}'"
    )
}

/// `text` as a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
