//! The file: lines are appended, and it is put aside when it is large. While one gateway takes the place of another, both do
//! so: each write is of whole lines, and goes to the end of the file whoever wrote last.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A ledger's file, open to append.
pub(super) struct Appended {
    path: PathBuf,
    file: File,
    /// As of the last look: another process may write, too.
    bytes: u64,
    /// From this size on it is put aside.
    aside_at: u64,
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
        Ok(Self { path: path.to_owned(), file, bytes, aside_at: bytes_max, bytes_max })
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
        if self.is_there()? {
            if self.bytes < self.aside_at {
                return Ok(());
            }
            self.sync();
            let moved = put_aside(&self.path);
            let by_another = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
            if let Some(error) = moved.err().filter(|error| !by_another(error)) {
                // As of a file that is mounted by itself. It is large, and no worse for that.
                log::error!("the ledger cannot be put aside, and grows: {error}");
                self.aside_at = self.bytes + self.bytes_max;
                return Ok(());
            }
        }
        *self = Self::open(&self.path, self.bytes_max)?;
        Ok(())
    }

    fn is_there(&mut self) -> io::Result<bool> {
        let named = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            named => named?,
        };
        let own = self.file.metadata()?;
        self.bytes = own.len();
        Ok((named.dev(), named.ino()) == (own.dev(), own.ino()))
    }

    /// To the disk, not only to the system.
    pub(super) fn sync(&self) {
        let _failed = self.file.sync_data();
    }
}

/// Moves a file out of the way, and none of the same name away with it: two processes may do so at the same moment.
fn put_aside(path: &Path) -> io::Result<()> {
    let mut now = SystemTime::now();
    let aside = loop {
        let aside = aside(path, now);
        match OpenOptions::new().write(true).create_new(true).open(&aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => now += NEXT,
            taken => break taken.map(|_| aside)?,
        }
    };
    fs::rename(path, &aside).inspect_err(|_| drop(fs::remove_file(&aside)))
}

/// From a name to the next: what names tell apart.
const NEXT: Duration = Duration::from_micros(1);

/// Where a file goes that is put aside: its name, and the moment. Names sort by time.
fn aside(path: &Path, now: SystemTime) -> PathBuf {
    let moment = humantime::format_rfc3339_micros(now).to_string();
    let mut name = OsString::from(path);
    name.push(".");
    name.push(moment.replace(':', "-"));
    name.into()
}

/// What a file that somebody compressed ends in: it cannot be read here.
const COMPRESSED: [&str; 4] = ["gz", "zst", "xz", "bz2"];

/// The files of a ledger, the oldest first: those that were put aside, by the gateway or by logrotate, then the one that is
/// written to; and those that are compressed.
///
/// # Errors
/// Its folder cannot be read.
pub fn files_of(path: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let mut files = Vec::new();
    for entry in fs::read_dir(parent.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name();
        // What is no file, or leads nowhere, is a neighbour.
        let is_file = fs::metadata(entry.path()).is_ok_and(|there| there.is_file());
        if is_file && name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            files.push(entry.path());
        }
    }
    files.sort();
    let is_compressed = |path: &PathBuf| {
        path.extension().is_some_and(|end| COMPRESSED.iter().any(|known| end == *known))
    };
    let (compressed, mut files): (Vec<_>, Vec<_>) = files.into_iter().partition(is_compressed);
    if path.exists() {
        files.push(path.to_owned());
    }
    Ok((files, compressed))
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
        fs::create_dir(dir.path().join("l.old")).unwrap();
        fs::write(dir.path().join("l.1.gz"), "\x1f").unwrap();
        let (files, compressed) = files_of(&path).unwrap();
        assert_eq!(compressed, [dir.path().join("l.1.gz")]);
        assert_eq!(files.len(), 5);
        let all: Vec<String> = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let wanted: String = (0..10).map(|line| format!("line {line}\n")).collect();
        assert_eq!(all.concat(), wanted);
    }

    /// As two gateways do while one takes the place of the other.
    #[test]
    fn two_who_write_one_file_lose_no_line_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let writes = |who: char| {
            let mut file = Appended::open(&path, 256).unwrap();
            for line in 0..500 {
                file.append(&mut lines(&format!("{who} {line}\n{who} {line}!\n"))).unwrap();
            }
        };
        std::thread::scope(|scope| ['a', 'b'].map(|who| drop(scope.spawn(move || writes(who)))));
        let (files, _) = files_of(&path).unwrap();
        assert!(files.len() > 10);
        let all: Vec<String> = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let mut all: Vec<&str> = all.iter().flat_map(|text| text.lines()).collect();
        all.sort_unstable();
        let wanted =
            |who: char| (0..500).flat_map(move |n| [format!("{who} {n}"), format!("{who} {n}!")]);
        let mut wanted: Vec<String> = wanted('a').chain(wanted('b')).collect();
        wanted.sort_unstable();
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_file_that_was_put_aside_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        for line in 0..200 {
            fs::write(&path, format!("{line}")).unwrap();
            put_aside(&path).unwrap();
        }
        assert_eq!(files_of(&path).unwrap().0.len(), 200);
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_is_written_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n".repeat(250));
        let mut file = Appended::open(&path, 4).unwrap();
        for line in ["one\n", "two\n", "three\n"] {
            // Its name with the moment would be too long.
            file.append(&mut lines(line)).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let [path, moved] = ["l", "moved"].map(|name| dir.path().join(name));
        let mut file = Appended::open(&path, 100).unwrap();
        file.append(&mut lines("one\n")).unwrap();
        fs::rename(&path, &moved).unwrap();
        // Also one that is large enough to be put aside.
        file.aside_at = 1;
        file.append(&mut lines("two\n")).unwrap();
        fs::remove_file(&path).unwrap();
        file.append(&mut lines("three\n")).unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }
}
