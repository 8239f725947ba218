//! Reading of `/proc` and `/sys`, of this host or of a copy of another's.
//!
//! Owns how much is read, and the words for what went wrong. Never follows what it reads anywhere, never reads
//! anything but regular files and directories, and never reads without a bound.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Usual files are a line or a page.
const BYTES_MAX: u64 = 64 * 1024;
/// `/proc/interrupts` has a column for each core and a line for each interrupt.
const TABLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Entries of a directory that are looked at; `/proc` of a large host has as many processes.
const ENTRIES_MAX: usize = 256 * 1024;
/// Characters of somebody else's text that are repeated in a message.
const QUOTED_MAX: usize = 60;

/// What was read, or why it was not.
pub type Reading<T> = Result<T, Unread>;

/// Something that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// What was to be read.
    pub place: String,
    /// Why there is nothing.
    pub cause: Cause,
}

/// Why something is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It is not there.
    Missing,
    /// It could not be read.
    Failed(String),
    /// It was read and says nothing that is understood.
    Odd(String),
}

impl Unread {
    /// Nothing is there.
    pub fn missing(place: &str) -> Self {
        Self { place: place.to_owned(), cause: Cause::Missing }
    }

    /// It could not be read.
    pub fn failed(place: &str, why: impl fmt::Display) -> Self {
        Self { place: place.to_owned(), cause: Cause::Failed(why.to_string()) }
    }

    /// This text was not understood.
    pub fn odd(place: &str, text: &str) -> Self {
        Self { place: place.to_owned(), cause: Cause::Odd(quoted(text)) }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Missing => write!(f, "there is no {}", self.place),
            Cause::Failed(why) => write!(f, "{}: {why}", self.place),
            Cause::Odd(text) => write!(f, "{}: `{text}` was not understood", self.place),
        }
    }
}

/// The beginning of a foreign text, without anything that a terminal would act upon.
pub fn quoted(text: &str) -> String {
    text.trim().chars().take(QUOTED_MAX).flat_map(char::escape_debug).collect()
}

/// The root that `/proc` and `/sys` lie below.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    is_live: bool,
}

impl Tree {
    /// The running host.
    pub fn of_this_host() -> Self {
        Self { root: PathBuf::from("/"), is_live: true }
    }

    /// A copy of another host's trees.
    pub fn copied(root: PathBuf) -> Self {
        Self { root, is_live: false }
    }

    /// Whether this is the running host, which can also be asked and not only read.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Where it begins.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a path such as `/proc/version` lies.
    fn path(&self, place: &str) -> PathBuf {
        self.root.join(place.trim_start_matches('/'))
    }

    /// A small file, without white space around it.
    pub fn text(&self, place: &str) -> Reading<String> {
        self.bounded(place, BYTES_MAX).map(|text| text.trim().to_owned())
    }

    /// A large file.
    pub fn table(&self, place: &str) -> Reading<String> {
        self.bounded(place, TABLE_BYTES_MAX)
    }

    /// A file of one whole number.
    pub fn number(&self, place: &str) -> Reading<u64> {
        let text = self.text(place)?;
        text.parse().map_err(|_| Unread::odd(place, &text))
    }

    fn bounded(&self, place: &str, bytes_max: u64) -> Reading<String> {
        let failed = |error: io::Error| match error.kind() {
            // What is no directory has nothing in it, either.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unread::missing(place),
            _ => Unread::failed(place, error),
        };
        let path = self.path(place);
        // A pipe or a device in a copied tree could keep us waiting.
        if !fs::metadata(&path).map_err(failed)?.is_file() {
            return Err(Unread::failed(place, "not a file"));
        }
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
            .map_err(failed)?;
        if bytes.len() as u64 > bytes_max {
            return Err(Unread::failed(place, format!("larger than {bytes_max} bytes")));
        }
        String::from_utf8(bytes).map_err(|_| Unread::failed(place, "not text"))
    }

    /// The names in a directory, sorted; those that are no plain words are left out.
    pub fn names(&self, place: &str) -> Reading<Vec<String>> {
        let entries = fs::read_dir(self.path(place)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unread::missing(place),
            _ => Unread::failed(place, error),
        })?;
        let names = entries.take(ENTRIES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_plain(name)).collect();
        names.sort();
        Ok(names)
    }

    /// Whether there is anything by that name.
    pub fn has(&self, place: &str) -> bool {
        self.path(place).exists()
    }

    /// The last name of what a symbolic link points to.
    pub fn link_name(&self, place: &str) -> Option<String> {
        let target = fs::read_link(self.path(place)).ok()?;
        target.file_name()?.to_str().filter(|name| is_plain(name)).map(str::to_owned)
    }
}

/// Names stand in commands that an operator may copy into a shell, so only harmless ones are taken.
fn is_plain(name: &str) -> bool {
    let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@+-".contains(&byte);
    !name.starts_with('-') && name.bytes().all(is_harmless)
}

#[cfg(test)]
pub(in crate::doctor) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// A made-up host, removed when dropped.
    pub(in crate::doctor) struct FakeTree(PathBuf);

    impl FakeTree {
        pub(in crate::doctor) fn new() -> Self {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let number = NEXT.fetch_add(1, Relaxed);
            let path = std::env::temp_dir().join(format!("ringway-doctor-{}-{number}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(in crate::doctor) fn with(self, place: &str, content: impl AsRef<[u8]>) -> Self {
            let path = self.0.join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            self
        }

        pub(in crate::doctor) fn linked(self, place: &str, target: &str) -> Self {
            let path = self.0.join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
            self
        }

        pub(in crate::doctor) fn tree(&self) -> Tree {
            Tree::copied(self.0.clone())
        }
    }

    impl Drop for FakeTree {
        fn drop(&mut self) {
            let _gone_before = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_read_without_their_last_newline() {
        let fake = FakeTree::new().with("proc/a", "12\n").with("proc/b", " two words \n");
        assert_eq!(fake.tree().number("/proc/a"), Ok(12));
        assert_eq!(fake.tree().text("/proc/b").unwrap(), "two words");
    }

    #[test]
    fn whatever_is_wrong_is_said() {
        let long = vec![b'1'; usize::try_from(BYTES_MAX).unwrap() + 1];
        let fake = FakeTree::new()
            .with("binary", b"\xff\xfe")
            .with("word", "many\x1b[31m")
            .with("minus", "-1")
            .with("empty", "")
            .with("long", long)
            .with("directory/a", "");
        for (place, words) in [
            ("/none", "there is no /none"),
            ("/word/none", "there is no /word/none"),
            ("/binary", "/binary: not text"),
            ("/word", r"/word: `many\u{1b}[31m` was not understood"),
            ("/minus", "`-1` was not understood"),
            ("/empty", "/empty: `` was not understood"),
            ("/long", "larger than 65536 bytes"),
            ("/directory", "not a file"),
        ] {
            let message = fake.tree().number(place).unwrap_err().to_string();
            assert!(message.contains(words), "{place}: {message}");
        }
    }

    #[test]
    fn names_that_would_harm_a_shell_are_left_out() {
        let fake =
            FakeTree::new().with("d/eth0", "").with("d/$(reboot)", "").with("d/a b", "").with("d/-f", "");
        assert_eq!(fake.tree().names("/d").unwrap(), ["eth0"]);
        assert_eq!(fake.tree().names("/e").unwrap_err().cause, Cause::Missing);
        assert!(fake.tree().names("/d/eth0").is_err());
    }

    #[test]
    fn links_are_named_and_not_followed() {
        let fake = FakeTree::new().linked("a", "../../virtio2").linked("b", "../x y").with("c", "");
        assert_eq!(fake.tree().link_name("/a").as_deref(), Some("virtio2"));
        assert_eq!(fake.tree().link_name("/b"), None);
        assert_eq!(fake.tree().link_name("/c"), None);
    }
}
