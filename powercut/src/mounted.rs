//! What the kernel asks.
//!
//! Every answer is given while the disk's state is locked, so that when a freeze has the lock, nothing returns any more.
//! All files are opened for direct I/O: the kernel keeps no pages of them. Names and attributes are asked for each time.

use crate::tree::{Ino, Kind, Tree};
use crate::{Power, Shared, State};
use core::time::Duration;
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

/// `FALLOC_FL_KEEP_SIZE` and `FALLOC_FL_PUNCH_HOLE` of `fallocate(2)`.
const KEEP_SIZE: i32 = 1;
const PUNCH_HOLE: i32 = 2;

const BLOCK: u32 = 4_096;
/// Blocks of the disk, as far as anybody asks: 64 GiB.
const BLOCKS: u64 = 1 << 24;

/// One mount of a disk.
pub(crate) struct Mounted {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mount: u64,
}

impl Mounted {
    /// Does something to the disk and answers; not while it is frozen.
    fn serve<T>(&self, act: impl FnOnce(&mut State) -> Result<T, Errno>, answer: impl FnOnce(Result<T, Errno>)) {
        match self.live() {
            Some(mut state) => answer(act(&mut state)),
            None => answer(Err(Errno::EIO)),
        }
    }

    /// Waits while the disk is frozen; gives nothing if it has failed.
    fn live(&self) -> Option<MutexGuard<'_, State>> {
        let mut state = self.shared.state();
        while state.power == Power::Frozen {
            state = self.shared.thawed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (state.power == Power::On && state.mount == self.mount).then_some(state)
    }

    fn serve_empty(&self, reply: ReplyEmpty, act: impl FnOnce(&mut Tree) -> Result<(), Errno>) {
        self.serve(|state| act(&mut state.tree), |result| finish(reply, result));
    }

    fn serve_entry(&self, reply: ReplyEntry, act: impl FnOnce(&mut Tree) -> Result<Ino, Errno>) {
        let found = |state: &mut State| act(&mut state.tree).and_then(|ino| attributes(&state.tree, ino));
        self.serve(found, |result| match result {
            Ok(attributes) => reply.entry(&Duration::ZERO, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        });
    }

    fn serve_attributes(&self, ino: INodeNo, reply: ReplyAttr, act: impl FnOnce(&mut Tree) -> Result<(), Errno>) {
        let found = |state: &mut State| act(&mut state.tree).and_then(|()| attributes(&state.tree, ino.0));
        self.serve(found, |result| match result {
            Ok(attributes) => reply.attr(&Duration::ZERO, &attributes),
            Err(error) => reply.error(error),
        });
    }

    fn serve_sync(&self, ino: INodeNo, reply: ReplyEmpty) {
        match self.live() {
            Some(mut state) => state.sync(ino.0, reply),
            None => reply.error(Errno::EIO),
        }
    }
}

fn finish(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn attributes(tree: &Tree, ino: Ino) -> Result<FileAttr, Errno> {
    let node = tree.node(ino)?;
    let (kind, size, nlink) = match &node.kind {
        Kind::File(content) => (FileType::RegularFile, content.now().len() as u64, 1),
        Kind::Directory(_) => (FileType::Directory, 0, 2),
    };
    Ok(FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: node.mode,
        nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    })
}

fn permissions(mode: u32, umask: u32) -> u16 {
    (mode & !umask & 0o7777) as u16
}

/// A place in a file; more than this machine's memory is no place.
fn place(offset: u64) -> Result<usize, Errno> {
    usize::try_from(offset).map_err(|_| Errno::EFBIG)
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.serve_entry(reply, |tree| tree.lookup(parent.0, name));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.serve_attributes(ino, reply, |_| Ok(()));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.serve_attributes(ino, reply, |tree| {
            if let Some(size) = size {
                tree.file_mut(ino.0)?.resize(place(size)?);
            }
            Ok(())
        });
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.serve_entry(reply, |tree| tree.create_directory(parent.0, name, permissions(mode, umask)));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let create = |state: &mut State| {
            let ino = state.tree.create_file(parent.0, name, permissions(mode, umask))?;
            state.tree.open(ino)?;
            attributes(&state.tree, ino)
        };
        self.serve(create, |result| match result {
            Ok(attributes) => {
                let direct = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&Duration::ZERO, &attributes, Generation(0), FileHandle(0), direct);
            }
            Err(error) => reply.error(error),
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve_empty(reply, |tree| tree.unlink(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve_empty(reply, |tree| tree.remove_directory(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.serve_empty(reply, |tree| {
            if flags.is_empty() { tree.rename(parent.0, name, new_parent.0, new) } else { Err(Errno::EINVAL) }
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.serve(
            |state| state.tree.open(ino.0),
            |result| match result {
                Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
                Err(error) => reply.error(error),
            },
        );
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.serve_empty(reply, |tree| {
            tree.close(ino.0);
            Ok(())
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = |state: &mut State| {
            let (file, from) = (state.tree.file(ino.0)?.now(), place(offset)?);
            let end = from.saturating_add(size as usize).min(file.len());
            Ok(file.get(from..end).unwrap_or_default().to_vec())
        };
        self.serve(read, |result| match result {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = |state: &mut State| {
            state.tree.file_mut(ino.0)?.write(place(offset)?, data);
            Ok(())
        };
        self.serve(write, |result| match result {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("no request is larger")),
            Err(error) => reply.error(error),
        });
    }

    /// Space beyond the end of a file is not kept track of.
    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.serve_empty(reply, |tree| {
            let file = tree.file_mut(ino.0)?;
            let (from, end) = (place(offset)?, place(offset.saturating_add(length))?);
            let len = file.now().len();
            match mode {
                0 if end > len => file.resize(end),
                0 | KEEP_SIZE => {}
                mode if mode == KEEP_SIZE | PUNCH_HOLE => {
                    if from < len {
                        file.write(from, &vec![0; end.min(len) - from]);
                    }
                }
                _ => return Err(Errno::EOPNOTSUPP),
            }
            Ok(())
        });
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.serve_sync(ino, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.serve_sync(ino, reply);
    }

    /// Entries come in the order of their numbers, so that removing some does not move the others.
    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let list = |state: &mut State| {
            let mut entries = Vec::new();
            for (name, &ino) in state.tree.names(ino.0)?.iter().filter(|&(_, &ino)| ino > offset) {
                let is_file = matches!(state.tree.node(ino)?.kind, Kind::File(_));
                entries.push((ino, name.clone(), if is_file { FileType::RegularFile } else { FileType::Directory }));
            }
            entries.sort_by_key(|&(ino, ..)| ino);
            Ok(entries)
        };
        self.serve(list, |result| match result {
            Ok(entries) => {
                let mut rest = entries.into_iter();
                while rest.next().is_some_and(|(ino, name, kind)| !reply.add(INodeNo(ino), ino, kind, name)) {}
                reply.ok();
            }
            Err(error) => reply.error(error),
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK, 255, BLOCK);
    }
}
