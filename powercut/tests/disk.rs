//! The disk by itself, as a process sees it through the kernel.

use fastrand::Rng;
use powercut::{Disk, Loss, Syncs};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

/// `O_DIRECT`, as the node asks for it.
const O_DIRECT: i32 = 0o40000;

/// Runs a test on a disk, or says that there is none.
fn on_a_disk(test: impl FnOnce(&mut Disk, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    match Disk::mount(folder.path()) {
        Ok(mut disk) => test(&mut disk, folder.path()),
        // Past the harness, which shows nothing of a test that passes; and in one piece.
        Err(reason) => {
            let line = format!("\nSKIPPED: a test of the disk: no FUSE here: {reason}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        }
    }
}

fn lose(disk: &mut Disk, loss: Loss) {
    disk.restore(loss, &mut Rng::with_seed(1));
}

fn sync_directory(directory: &Path) {
    File::open(directory).unwrap().sync_all().unwrap();
}

#[test]
fn files_and_directories_are_as_on_any_disk() {
    on_a_disk(|_disk, root| {
        fs::create_dir(root.join("d")).unwrap();
        let mut file = OpenOptions::new().create_new(true).read(true).write(true).open(root.join("d/a")).unwrap();
        file.write_all(&vec![7; 3_000_000]).unwrap();
        file.seek(SeekFrom::Start(2_999_999)).unwrap();
        file.write_all(b"xyz").unwrap();
        let mut end = [0; 8];
        assert_eq!(file.read_at(&mut end, 2_999_998).unwrap(), 4);
        assert_eq!(&end[..4], b"\x07xyz");
        file.set_len(10).unwrap();
        assert_eq!((file.metadata().unwrap().len(), fs::read(root.join("d/a")).unwrap()), (10, vec![7; 10]));
        fs::rename(root.join("d/a"), root.join("d/b")).unwrap();
        assert!(OpenOptions::new().create_new(true).write(true).open(root.join("d/b")).is_err());
        let mut appended = OpenOptions::new().append(true).open(root.join("d/b")).unwrap();
        appended.write_all(b"end").unwrap();
        drop(File::create(root.join("d/b")).unwrap());
        appended.write_all(b"after").unwrap();
        assert_eq!(fs::read(root.join("d/b")).unwrap(), b"after");
        for number in 0..2_000 {
            File::create(root.join(format!("d/{number}"))).unwrap();
        }
        assert_eq!(fs::read_dir(root.join("d")).unwrap().count(), 2_001);
        fs::remove_dir_all(root.join("d")).unwrap();
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
        assert!(file.read_to_end(&mut Vec::new()).is_ok(), "an open file without a name");
    });
}

#[test]
fn a_failure_takes_what_was_not_synced() {
    on_a_disk(|disk, root| {
        let path = root.join("a");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"kept").unwrap();
        file.sync_data().unwrap();
        sync_directory(root);
        file.write_all(b" and lost").unwrap();
        File::create(root.join("b")).unwrap().sync_all().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"kept and lost");
        drop(file);
        lose(disk, Loss::Everything);
        assert_eq!(fs::read(&path).unwrap(), b"kept");
        assert_eq!(fs::metadata(&path).unwrap().len(), 4);
        assert!(!root.join("b").exists());
    });
}

#[test]
fn a_write_around_the_cache_is_not_durable_either() {
    on_a_disk(|disk, root| {
        let path = root.join("a");
        let open = || OpenOptions::new().create(true).truncate(false).write(true).custom_flags(O_DIRECT).open(&path);
        open().unwrap().write_all(&[1; 4_096]).unwrap();
        sync_directory(root);
        lose(disk, Loss::Everything);
        assert_eq!(fs::read(&path).unwrap(), b"");
    });
}

#[test]
fn a_lock_ends_with_its_file() {
    on_a_disk(|_, root| {
        let open = || File::create(root.join("LOCK")).unwrap();
        let first = open();
        first.try_lock().unwrap();
        assert!(open().try_lock().is_err());
        drop(first);
        open().try_lock().unwrap();
    });
}

#[test]
fn a_disk_that_lies_keeps_nothing() {
    on_a_disk(|disk, root| {
        disk.set_syncs(Syncs::Lying);
        fs::write(root.join("a"), b"data").unwrap();
        File::open(root.join("a")).unwrap().sync_all().unwrap();
        sync_directory(root);
        lose(disk, Loss::Everything);
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    });
}

#[test]
fn a_held_sync_returns_when_it_is_released_and_is_seen_when_it_returns() {
    on_a_disk(|disk, root| {
        let (seen, synced) = mpsc::channel();
        disk.watch(Box::new(move |sync, returns| {
            seen.send((sync.name.to_owned(), sync.durable.to_vec())).unwrap();
            returns();
        }));
        let mut file = File::create(root.join("a")).unwrap();
        sync_directory(root);
        file.write_all(b"one").unwrap();
        disk.set_syncs(Syncs::Held);
        thread::scope(|scope| {
            let (returned, wait) = mpsc::channel();
            let reader = File::open(root.join("a")).unwrap();
            scope.spawn(move || {
                file.sync_all().unwrap();
                returned.send(()).unwrap();
            });
            let mut text = [0; 3];
            while disk.release() == 0 {
                assert!(wait.try_recv().is_err() && synced.try_recv().is_err(), "it waits");
                reader.read_exact_at(&mut text, 0).unwrap();
            }
            wait.recv().unwrap();
        });
        assert_eq!(synced.recv().unwrap(), ("a".to_owned(), b"one".to_vec()));
    });
}

#[test]
fn nothing_returns_from_a_frozen_disk_but_errors() {
    on_a_disk(|disk, root| {
        let mut file = File::create(root.join("a")).unwrap();
        sync_directory(root);
        disk.freeze();
        thread::scope(|scope| {
            let write = scope.spawn(move || file.write_all(b"data").and_then(|()| file.sync_all()));
            disk.fail();
            assert!(write.join().unwrap().is_err());
        });
        lose(disk, Loss::Everything);
        assert_eq!(fs::read(root.join("a")).unwrap(), b"");
    });
}
