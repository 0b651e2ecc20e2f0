//! A disk whose power can fail: a file system in memory, mounted through FUSE, that knows what was synced.
//!
//! SIGKILL says nothing about the disk, because the page cache survives it. Here nothing does: [`Disk::restore`] leaves
//! what a sync has covered, and of everything else nothing ([`Loss::Everything`]) or what the seed leaves of it. A power
//! failure of the machines that write to some disks is, in this order:
//!
//! 1. [`Disk::freeze`]: from now on no operation succeeds or returns;
//! 2. SIGKILL to every process that uses it, which then executes nothing any more;
//! 3. [`Disk::fail`]: operations that wait end, with an error, so that the processes can;
//! 4. when they are gone, [`Disk::restore`]: unmounted, so that the kernel remembers nothing of it, and mounted again.
//!
//! A disk can also lie about syncs, which is the control of every test that uses one, and hold them back
//! ([`Syncs`]). What it counts as durable is said in `tree.rs` and `content.rs`. Every read and write of a process comes
//! here at once: there is no cache in between. One process at a time uses a disk, as locks do not survive it either.
//!
//! Linux only: needs `/dev/fuse`, and root or `fusermount3`.

mod content;
mod mounted;
mod tree;

use core::fmt;
use fastrand::Rng;
use fuser::{BackgroundSession, Config, Errno, MountOption, ReplyEmpty};
use mounted::Mounted;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tree::{Ino, Kind, ROOT, Tree};

/// What becomes of what was not synced when the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it is gone.
    Everything,
    /// Of each file a random number of writes is there, in order, and the next one up to some sector of 512 bytes; of the
    /// changes of each directory a random number, in order.
    Torn,
    /// Of each file any sectors of any writes are there, in no order, and its length is as after some write: so there may
    /// be zeros where data was written. Directories as with [`Torn`](Self::Torn).
    Scattered {
        /// Bytes of a sector: 512, or 4,096.
        sector: usize,
    },
}

/// What a failure took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Bytes that were written, and not kept.
    pub bytes: usize,
    /// Files and directories that were made, renamed or removed without effect.
    pub names: usize,
}

/// What becomes of `fsync` and `fdatasync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// They make durable what was written before, and return.
    Honest,
    /// They return, and do nothing.
    Lying,
    /// They wait for [`Disk::release`].
    Held,
}

/// A sync that has made a file durable and is about to return.
#[derive(Debug)]
pub struct Synced<'a> {
    /// The number of the file. Never used again on this disk.
    pub file: u64,
    /// Its name.
    pub name: &'a str,
    /// All of it that is durable.
    pub durable: &'a [u8],
}

/// Called when a sync of a file is about to return; it returns when the second argument is called, once.
pub type Watch = Box<dyn FnMut(&Synced<'_>, &mut dyn FnMut()) + Send>;

/// A mounted disk; unmounted when dropped. Processes that use it must be gone by then.
pub struct Disk {
    shared: Arc<Shared>,
    mount_point: PathBuf,
    session: Option<BackgroundSession>,
}

struct Shared {
    state: Mutex<State>,
    thawed: Condvar,
}

struct State {
    tree: Tree,
    power: Power,
    /// Counts mounts: what an earlier one still has to say is not heard.
    mount: u64,
    syncs: Syncs,
    held: Vec<HeldSync>,
    watch: Option<Watch>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// Nothing returns.
    Frozen,
    /// Everything fails.
    Off,
}

struct HeldSync {
    ino: Ino,
    changes: u64,
    reply: ReplyEmpty,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in here is a bug of the test; the other threads' complaints about it would hide it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_power(&self, power: Power) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.power = power;
        self.thawed.notify_all();
        state
    }
}

impl State {
    fn sync(&mut self, ino: Ino, reply: ReplyEmpty) {
        let changes = match self.tree.changes(ino) {
            Ok(changes) => changes,
            Err(error) => return reply.error(error),
        };
        match self.syncs {
            Syncs::Honest => self.sync_now(HeldSync { ino, changes, reply }),
            Syncs::Lying => reply.ok(),
            Syncs::Held => self.held.push(HeldSync { ino, changes, reply }),
        }
    }

    fn sync_now(&mut self, HeldSync { ino, changes, reply }: HeldSync) {
        if let Err(error) = self.tree.sync(ino, changes) {
            return reply.error(error);
        }
        let (Some(watch), Ok(node)) = (&mut self.watch, self.tree.node(ino)) else { return reply.ok() };
        let Kind::File(content) = &node.kind else { return reply.ok() };
        let name = node.name.to_string_lossy();
        let mut reply = Some(reply);
        let mut returns = || reply.take().expect("a sync returns once").ok();
        watch(&Synced { file: ino, name: &name, durable: content.durable() }, &mut returns);
    }
}

impl Disk {
    /// Mounts an empty disk at a directory.
    ///
    /// # Errors
    /// This machine or this user cannot have one.
    pub fn mount(at: &Path) -> io::Result<Self> {
        let state = State {
            tree: Tree::new(),
            power: Power::On,
            mount: 0,
            syncs: Syncs::Honest,
            held: Vec::new(),
            watch: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), thawed: Condvar::new() });
        let mut disk = Self { shared, mount_point: at.to_owned(), session: None };
        disk.mount_again()?;
        Ok(disk)
    }

    fn mount_again(&mut self) -> io::Result<()> {
        let mut state = self.shared.set_power(Power::On);
        state.mount += 1;
        let mounted = Mounted { shared: Arc::clone(&self.shared), mount: state.mount };
        drop(state);
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("powercut".to_owned()), MountOption::NoAtime];
        self.session = Some(fuser::spawn_mount(mounted, &self.mount_point, &config)?);
        Ok(())
    }

    /// Calls `watch` for each sync of a file from now on.
    pub fn watch(&self, watch: Watch) {
        self.shared.state().watch = Some(watch);
    }

    /// Decides about the syncs from now on. Those that are held wait on.
    pub fn set_syncs(&self, syncs: Syncs) {
        self.shared.state().syncs = syncs;
    }

    /// Lets the syncs that are held do their work and return, and says how many they were.
    pub fn release(&self) -> usize {
        let mut state = self.shared.state();
        let held = core::mem::take(&mut state.held);
        let count = held.len();
        held.into_iter().for_each(|sync| state.sync_now(sync));
        count
    }

    /// From when this returns until [`fail`](Self::fail), no operation succeeds or returns.
    pub fn freeze(&self) {
        drop(self.shared.set_power(Power::Frozen));
    }

    /// Operations that wait, and all that come, fail until [`restore`](Self::restore).
    pub fn fail(&self) {
        let mut state = self.shared.set_power(Power::Off);
        for sync in state.held.drain(..) {
            sync.reply.error(Errno::EIO);
        }
    }

    /// Loses what was not synced and mounts the rest. Syncs are held, honest or lies as before. No process may use the
    /// disk.
    ///
    /// # Panics
    /// If it is in use, or cannot be mounted again.
    pub fn restore(&mut self, loss: Loss, rng: &mut Rng) -> Lost {
        self.unmount();
        let lost = self.shared.state().tree.lose(loss, rng);
        self.mount_again().expect("a disk that could be mounted before");
        lost
    }

    /// Unmounts the disk for good, and leaves copies of its files where it was mounted.
    ///
    /// # Errors
    /// A file cannot be written.
    ///
    /// # Panics
    /// If the disk is in use.
    pub fn save(mut self) -> io::Result<()> {
        self.fail();
        self.unmount();
        copy(&self.shared.state().tree, ROOT, &self.mount_point)
    }

    fn unmount(&mut self) {
        // Its thread ends with the mount; it is not waited for, since some other process may have a view of its own of
        // all mounts.
        drop(self.session.take());
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
        let parent = self.mount_point.parent().expect("a disk is not mounted at /");
        let gone = device(&self.mount_point).is_ok_and(|here| device(parent).is_ok_and(|there| here == there));
        assert!(gone || std::thread::panicking(), "{} is in use", self.mount_point.display());
    }
}

fn copy(tree: &Tree, directory: Ino, to: &Path) -> io::Result<()> {
    let system = |error: Errno| io::Error::from_raw_os_error(error.code());
    for (name, &ino) in tree.names(directory).map_err(system)? {
        match &tree.node(ino).map_err(system)?.kind {
            Kind::File(content) => fs::write(to.join(name), content.now())?,
            Kind::Directory(_) => {
                fs::create_dir_all(to.join(name))?;
                copy(tree, ino, &to.join(name))?;
            }
        }
    }
    Ok(())
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.fail();
        if self.session.is_some() {
            self.unmount();
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("mount_point", &self.mount_point).finish_non_exhaustive()
    }
}
