//! The file: lines are appended, and it is put aside when it is large.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A ledger's file, open to append.
pub(super) struct Appended {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// From this size on it is put aside.
    bytes_max: u64,
}

impl Appended {
    /// Opens the file at `path`, or makes it. A line that a killed process left without its end gets one.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut bytes = file.seek(SeekFrom::End(0))?;
        if bytes > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max })
    }

    /// Appends whole lines, and takes what is written out of `lines`: after an error the rest is left.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn append(&mut self, lines: &mut Vec<u8>) -> io::Result<()> {
        self.follow()?;
        let mut written = 0;
        let result = loop {
            match self.file.write(&lines[written..]) {
                Ok(0) => {
                    break if written < lines.len() {
                        Err(io::ErrorKind::WriteZero.into())
                    } else {
                        Ok(())
                    };
                }
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        lines.drain(..written);
        self.bytes += written as u64;
        result
    }

    /// Makes sure that lines go where they are looked for: to a new file where this one is large, or somebody has moved it.
    fn follow(&mut self) -> io::Result<()> {
        if self.bytes >= self.bytes_max {
            self.file.sync_data()?;
            fs::rename(&self.path, aside(&self.path, SystemTime::now()))?;
        } else if self.is_there()? {
            return Ok(());
        }
        *self = Self::open(&self.path, self.bytes_max)?;
        Ok(())
    }

    fn is_there(&self) -> io::Result<bool> {
        let named = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            named => named?,
        };
        let own = self.file.metadata()?;
        Ok((named.dev(), named.ino()) == (own.dev(), own.ino()))
    }

    /// To the disk, not only to the system.
    pub(super) fn sync(&self) {
        let _failed = self.file.sync_data();
    }
}

/// Where a file goes that is put aside: its name, and the moment. Names sort by time.
fn aside(path: &Path, now: SystemTime) -> PathBuf {
    let moment = humantime::format_rfc3339_micros(now).to_string();
    let mut name = OsString::from(path);
    name.push(".");
    name.push(moment.replace(':', "-"));
    name.into()
}

/// The files of a ledger, the oldest first: those that were put aside, then the one that is written to.
///
/// # Errors
/// Its folder cannot be read.
pub fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let mut files = Vec::new();
    for entry in fs::read_dir(parent.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            files.push(entry.path());
        }
    }
    files.sort();
    if path.exists() {
        files.push(path.to_owned());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    #[test]
    fn a_line_without_an_end_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        fs::write(&path, "whole\nto").unwrap();
        Appended::open(&path, 100).unwrap().append(&mut lines("next\n")).unwrap();
        Appended::open(&path, 100).unwrap().append(&mut lines("last\n")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nto\nnext\nlast\n");
    }

    #[test]
    fn a_large_file_is_put_aside_and_all_are_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let mut file = Appended::open(&path, 8).unwrap();
        for line in 0..10 {
            file.append(&mut lines(&format!("line {line}\n"))).unwrap();
        }
        let files = files_of(&path).unwrap();
        assert_eq!(files.len(), 5);
        let all: Vec<String> = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let wanted: String = (0..10).map(|line| format!("line {line}\n")).collect();
        assert_eq!(all.concat(), wanted);
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let [path, moved] = ["l", "moved"].map(|name| dir.path().join(name));
        let mut file = Appended::open(&path, 100).unwrap();
        file.append(&mut lines("one\n")).unwrap();
        fs::rename(&path, &moved).unwrap();
        file.append(&mut lines("two\n")).unwrap();
        fs::remove_file(&path).unwrap();
        file.append(&mut lines("three\n")).unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }
}
