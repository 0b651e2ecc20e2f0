//! Files and directories, and what of them would survive.
//!
//! Stricter than most file systems: a name is durable after a sync of its directory and not before, whatever else is
//! synced. (On ext4 or XFS the sync of a new file keeps its name too.) What changes in one directory survives in order,
//! as a journal would have it; nothing is in order across directories and files. A rename within a directory survives as
//! a whole or not at all; one from a directory to another is refused, as between two disks.

use crate::content::Content;
use crate::{Loss, Lost};
use fastrand::Rng;
use fuser::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};

/// The number of a file or directory. Never used again.
pub(crate) type Ino = u64;

/// The directory that is mounted. It is always durable.
pub(crate) const ROOT: Ino = 1;

/// All of a disk's files and directories.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<Ino, Node>,
    last: Ino,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u16,
    /// What it was last called; for reports.
    pub(crate) name: OsString,
    /// Open handles: an open file is there without a name.
    handles: u32,
}

#[derive(Debug)]
pub(crate) enum Kind {
    File(Content),
    Directory(Directory),
}

/// The names in a directory.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    now: BTreeMap<OsString, Ino>,
    durable: BTreeMap<OsString, Ino>,
    unsynced: VecDeque<Renaming>,
    settled: u64,
}

/// Names that change together: what each stands for from now on.
type Renaming = Vec<(OsString, Option<Ino>)>;

impl Directory {
    fn change(&mut self, renaming: Renaming) {
        apply(&mut self.now, &renaming);
        self.unsynced.push_back(renaming);
    }

    fn sync(&mut self, changes: u64) {
        while self.settled < changes
            && let Some(renaming) = self.unsynced.pop_front()
        {
            apply(&mut self.durable, &renaming);
            self.settled += 1;
        }
    }

    fn changes(&self) -> u64 {
        self.settled + self.unsynced.len() as u64
    }

    fn lose(&mut self, loss: Loss, rng: &mut Rng) -> usize {
        let kept = if loss == Loss::Everything { 0 } else { rng.usize(..=self.unsynced.len()) };
        self.sync(self.settled + kept as u64);
        let lost = self.unsynced.len();
        self.settled = self.changes();
        self.unsynced.clear();
        self.now.clone_from(&self.durable);
        lost
    }

    /// Everything that it refers to, or may refer to again.
    fn referred(&self) -> impl Iterator<Item = Ino> {
        let unsynced = self.unsynced.iter().flatten().filter_map(|(_, ino)| *ino);
        self.now.values().chain(self.durable.values()).copied().chain(unsynced)
    }
}

fn apply(names: &mut BTreeMap<OsString, Ino>, renaming: &Renaming) {
    for (name, ino) in renaming {
        match ino {
            Some(ino) => names.insert(name.clone(), *ino),
            None => names.remove(name),
        };
    }
}

impl Tree {
    /// A disk that was just formatted.
    pub(crate) fn new() -> Self {
        let root = Node { kind: Kind::Directory(Directory::default()), mode: 0o755, name: OsString::new(), handles: 0 };
        Self { nodes: BTreeMap::from([(ROOT, root)]), last: ROOT }
    }

    pub(crate) fn node(&self, ino: Ino) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::ENOENT)
    }

    fn node_mut(&mut self, ino: Ino) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)
    }

    pub(crate) fn file(&self, ino: Ino) -> Result<&Content, Errno> {
        match &self.node(ino)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(Errno::EISDIR),
        }
    }

    pub(crate) fn file_mut(&mut self, ino: Ino) -> Result<&mut Content, Errno> {
        match &mut self.node_mut(ino)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory(_) => Err(Errno::EISDIR),
        }
    }

    fn directory(&self, ino: Ino) -> Result<&Directory, Errno> {
        match &self.node(ino)?.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, ino: Ino) -> Result<&mut Directory, Errno> {
        match &mut self.node_mut(ino)?.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::File(_) => Err(Errno::ENOTDIR),
        }
    }

    /// The names in a directory and what they stand for.
    pub(crate) fn names(&self, directory: Ino) -> Result<&BTreeMap<OsString, Ino>, Errno> {
        self.directory(directory).map(|directory| &directory.now)
    }

    pub(crate) fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.names(parent)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(crate) fn create_file(&mut self, parent: Ino, name: &OsStr, mode: u16) -> Result<Ino, Errno> {
        self.create(parent, name, mode, Kind::File(Content::default()))
    }

    pub(crate) fn create_directory(&mut self, parent: Ino, name: &OsStr, mode: u16) -> Result<Ino, Errno> {
        self.create(parent, name, mode, Kind::Directory(Directory::default()))
    }

    fn create(&mut self, parent: Ino, name: &OsStr, mode: u16, kind: Kind) -> Result<Ino, Errno> {
        let ino = self.last + 1;
        let directory = self.directory_mut(parent)?;
        if directory.now.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        directory.change(vec![(name.to_owned(), Some(ino))]);
        self.nodes.insert(ino, Node { kind, mode, name: name.to_owned(), handles: 0 });
        self.last = ino;
        Ok(ino)
    }

    /// Removes the name of a file.
    pub(crate) fn unlink(&mut self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        self.file(self.lookup(parent, name)?)?;
        self.directory_mut(parent)?.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    /// Removes the name of an empty directory.
    pub(crate) fn remove_directory(&mut self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        if !self.names(self.lookup(parent, name)?)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.directory_mut(parent)?.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    /// Renames; what had the new name loses it.
    pub(crate) fn rename(&mut self, parent: Ino, name: &OsStr, new_parent: Ino, new: &OsStr) -> Result<(), Errno> {
        let ino = self.lookup(parent, name)?;
        if parent != new_parent {
            return Err(Errno::EXDEV);
        }
        if let Ok(replaced) = self.lookup(parent, new)
            && self.names(replaced).is_ok_and(|names| !names.is_empty())
        {
            return Err(Errno::ENOTEMPTY);
        }
        self.directory_mut(parent)?.change(vec![(name.to_owned(), None), (new.to_owned(), Some(ino))]);
        new.clone_into(&mut self.node_mut(ino)?.name);
        Ok(())
    }

    pub(crate) fn open(&mut self, ino: Ino) -> Result<(), Errno> {
        self.node_mut(ino)?.handles += 1;
        Ok(())
    }

    pub(crate) fn close(&mut self, ino: Ino) {
        if let Ok(node) = self.node_mut(ino) {
            node.handles = node.handles.saturating_sub(1);
        }
    }

    /// How often a file or directory was changed so far: what a sync that begins now has to cover.
    pub(crate) fn changes(&self, ino: Ino) -> Result<u64, Errno> {
        self.node(ino).map(|node| match &node.kind {
            Kind::File(content) => content.changes(),
            Kind::Directory(directory) => directory.changes(),
        })
    }

    /// Makes the first `changes` of a file or directory durable.
    pub(crate) fn sync(&mut self, ino: Ino, changes: u64) -> Result<(), Errno> {
        match &mut self.node_mut(ino)?.kind {
            Kind::File(content) => content.sync(changes),
            Kind::Directory(directory) => {
                directory.sync(changes);
                self.forget_nameless();
            }
        }
        Ok(())
    }

    /// The power fails.
    pub(crate) fn lose(&mut self, loss: Loss, rng: &mut Rng) -> Lost {
        let mut lost = Lost::default();
        for node in self.nodes.values_mut() {
            node.handles = 0;
            match &mut node.kind {
                Kind::File(content) => lost.bytes += content.lose(loss, rng),
                Kind::Directory(directory) => lost.names += directory.lose(loss, rng),
            }
        }
        self.forget_nameless();
        lost
    }

    fn forget_nameless(&mut self) {
        let mut named = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Kind::Directory(directory) = &node.kind {
                named.extend(directory.referred());
            }
        }
        self.nodes.retain(|ino, node| named.contains(ino) || node.handles > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    fn sync(tree: &mut Tree, ino: Ino) {
        tree.sync(ino, tree.changes(ino).unwrap()).unwrap();
    }

    fn names(tree: &Tree) -> Vec<&str> {
        tree.names(ROOT).unwrap().keys().map(|name| name.to_str().unwrap()).collect()
    }

    fn lose_everything(tree: &mut Tree) {
        tree.lose(Loss::Everything, &mut Rng::with_seed(1));
    }

    #[test]
    fn a_synced_file_without_a_synced_name_is_gone() {
        let mut tree = Tree::new();
        let file = tree.create_file(ROOT, name("a"), 0o644).unwrap();
        tree.file_mut(file).unwrap().write(0, b"data");
        sync(&mut tree, file);
        lose_everything(&mut tree);
        assert!(names(&tree).is_empty() && tree.node(file).is_err());
    }

    #[test]
    fn a_synced_name_of_a_file_that_is_not_is_an_empty_file() {
        let mut tree = Tree::new();
        let file = tree.create_file(ROOT, name("a"), 0o644).unwrap();
        tree.file_mut(file).unwrap().write(0, b"data");
        sync(&mut tree, ROOT);
        lose_everything(&mut tree);
        assert_eq!((names(&tree), tree.file(file).unwrap().now()), (vec!["a"], &b""[..]));
    }

    #[test]
    fn a_removed_or_replaced_file_comes_back_until_its_directory_is_synced() {
        let mut tree = Tree::new();
        for (file, data) in [("current", b"old"), ("new", b"new")] {
            let ino = tree.create_file(ROOT, name(file), 0o644).unwrap();
            tree.file_mut(ino).unwrap().write(0, data);
            sync(&mut tree, ino);
        }
        sync(&mut tree, ROOT);
        let content = |tree: &Tree| {
            let ino = tree.lookup(ROOT, name("current")).unwrap();
            tree.file(ino).unwrap().now().to_vec()
        };
        tree.rename(ROOT, name("new"), ROOT, name("current")).unwrap();
        tree.unlink(ROOT, name("current")).unwrap();
        lose_everything(&mut tree);
        assert_eq!((names(&tree), content(&tree)), (vec!["current", "new"], b"old".to_vec()));
        tree.rename(ROOT, name("new"), ROOT, name("current")).unwrap();
        sync(&mut tree, ROOT);
        tree.unlink(ROOT, name("current")).unwrap();
        lose_everything(&mut tree);
        assert_eq!((names(&tree), content(&tree)), (vec!["current"], b"new".to_vec()));
    }

    #[test]
    fn changes_of_a_directory_survive_in_order_and_a_rename_as_a_whole() {
        let mut seen = BTreeSet::new();
        for seed in 0..50 {
            let mut tree = Tree::new();
            tree.create_file(ROOT, name("a"), 0o644).unwrap();
            tree.create_file(ROOT, name("b"), 0o644).unwrap();
            tree.rename(ROOT, name("a"), ROOT, name("c")).unwrap();
            tree.lose(Loss::Torn, &mut Rng::with_seed(seed));
            seen.insert(names(&tree).concat());
        }
        assert_eq!(seen, ["", "a", "ab", "bc"].map(str::to_owned).into());
    }

    #[test]
    fn an_open_file_is_there_without_a_name() {
        let mut tree = Tree::new();
        let file = tree.create_file(ROOT, name("a"), 0o644).unwrap();
        tree.open(file).unwrap();
        tree.unlink(ROOT, name("a")).unwrap();
        sync(&mut tree, ROOT);
        assert!(tree.file(file).is_ok());
        tree.close(file);
        sync(&mut tree, ROOT);
        assert!(tree.file(file).is_err());
    }
}
