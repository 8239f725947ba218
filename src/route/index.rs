//! An index of names below parents: one hash table for a whole tree, with all its names in one piece of memory.
//!
//! Its hash has no secret. It needs none: what the table holds comes from the configuration alone, so no client can
//! make a look-up longer than the operator's own names do.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Children by their parent and name.
#[derive(Debug, Default)]
pub(super) struct Index {
    names: Vec<u8>,
    entries: HashTable<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    parent: u32,
    child: u32,
    start: u32,
    length: u32,
}

impl Entry {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        let start = self.start as usize;
        names.get(start..start + self.length as usize).unwrap_or_default()
    }
}

fn hash(parent: u32, name: &[u8]) -> u64 {
    xxh3_64_with_seed(name, u64::from(parent))
}

impl Index {
    /// The child with this name.
    pub(super) fn find(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let same = |entry: &Entry| entry.parent == parent && entry.name(&self.names) == name;
        self.entries.find(hash(parent, name), same).map(|entry| entry.child)
    }

    /// Adds a child; the name must be new below this parent.
    pub(super) fn insert(&mut self, parent: u32, name: &[u8], child: u32) {
        let entry = Entry { parent, child, start: self.names.len() as u32, length: name.len() as u32 };
        self.names.extend_from_slice(name);
        let names = &self.names;
        let hash_of = |entry: &Entry| hash(entry.parent, entry.name(names));
        self.entries.insert_unique(hash(parent, name), entry, hash_of);
    }

    /// True when it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_belongs_to_its_parent() {
        let mut index = Index::default();
        assert!(index.is_empty() && index.find(0, b"a").is_none());
        for number in 0..1000u32 {
            index.insert(number % 7, format!("n{number}").as_bytes(), number);
        }
        index.insert(3, b"", 1000);
        for number in 0..1000u32 {
            let name = format!("n{number}");
            assert_eq!(index.find(number % 7, name.as_bytes()), Some(number));
            assert_eq!(index.find((number + 1) % 7, name.as_bytes()), None);
        }
        assert_eq!((index.find(3, b""), index.find(4, b"")), (Some(1000), None));
    }
}
