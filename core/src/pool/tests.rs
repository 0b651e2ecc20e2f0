//! What one thread can see of a pool, and a run over several. The interleavings are the models' part: see `loom-tests`.

extern crate std;

use super::{Block, BlockMut, GROUP, MAX_HANDLES, Pool, Slot};
use core::panic::AssertUnwindSafe;
use core::sync::atomic::Ordering::Relaxed;
use proptest::prelude::*;
use std::boxed::Box;
use std::panic::catch_unwind;
use std::sync::mpsc;
use std::thread;
use std::vec;
use std::vec::Vec;

const BLOCK: usize = 16;

/// Runs `test` with a pool of `blocks` blocks of [`BLOCK`] zeroed bytes.
fn with_pool<R>(blocks: usize, test: impl FnOnce(&Pool<'_>) -> R) -> R {
    let mut memory = vec![0; blocks * BLOCK];
    let mut slots: Vec<Slot> = (0..blocks).map(|_| Slot::new()).collect();
    let pool = Pool::new(&mut memory, &mut slots);
    let result = test(&pool);
    assert_eq!(pool.free(), pool.capacity(), "every block came back");
    result
}

fn panics(run: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(run)).is_err()
}

#[test]
fn an_exhausted_pool_gives_nothing_until_a_block_is_back() {
    with_pool(2, |pool| {
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!((first.len(), second.len(), pool.free()), (BLOCK, BLOCK, 0));
        assert!(pool.take().is_none());
        drop(first);
        assert_eq!(pool.free(), 1);
        assert!(pool.take().is_some());
    });
}

#[test]
fn blocks_do_not_overlap_and_groups_are_used_up() {
    for blocks in [1, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP + 3] {
        with_pool(blocks, |pool| {
            assert_eq!((pool.capacity(), pool.free(), pool.block_len()), (blocks, blocks, BLOCK));
            let mut taken: Vec<BlockMut<'_>> = Vec::new();
            while let Some(mut block) = pool.take() {
                block.fill(taken.len() as u8);
                taken.push(block);
            }
            assert_eq!((taken.len(), pool.free()), (blocks, 0));
            for (number, block) in taken.iter().enumerate() {
                assert!(block.iter().all(|byte| *byte == number as u8));
            }
            // Give back from the far end, one at a time: each is found again.
            while let Some(block) = taken.pop() {
                let address = block.as_ptr();
                drop(block);
                assert_eq!(pool.take().map(|again| again.as_ptr()), Some(address));
            }
        });
    }
}

#[test]
fn parts_share_the_block_and_nothing_else() {
    with_pool(1, |pool| {
        let mut rest = pool.take().unwrap();
        let mut front = rest.split_to(4);
        let middle = rest.split_to(0);
        front.fill(1);
        rest.fill(2);
        assert_eq!((&front[..], &middle[..], &rest[..]), (&[1; 4][..], &[][..], &[2; 12][..]));
        drop((front, rest));
        assert!(pool.take().is_none(), "the empty part still holds the block");
        drop(middle);
        assert!(pool.take().is_some());
    });
}

#[test]
fn parts_are_cut_at_both_ends() {
    with_pool(1, |pool| {
        let mut block = pool.take().unwrap();
        block.copy_from_slice(b"0123456789abcdef");
        block.advance(2);
        block.truncate(5);
        block.truncate(99);
        assert_eq!(&block[..], b"23456");
        block.advance(5);
        assert!(block.is_empty());
    });
}

#[test]
fn no_part_goes_beyond_its_own() {
    with_pool(2, |pool| {
        let mut block = pool.take().unwrap();
        let _front = block.split_to(8);
        assert!(panics(|| drop(block.split_to(9))));
        assert!(panics(|| block.advance(9)));
        let block = block.freeze();
        assert!(panics(|| drop(block.slice(..9))));
        assert!(panics(|| drop(block.slice(9..))));
        assert!(panics(|| drop(block.slice(..=8))));
        let backwards = (core::ops::Bound::Included(5), core::ops::Bound::Excluded(4));
        assert!(panics(|| drop(block.slice(backwards))));
        assert!(panics(|| drop(block.slice(..=usize::MAX))));
        assert_eq!(block.len(), 8);
    });
}

#[test]
fn shared_parts_are_sliced_and_cloned() {
    with_pool(1, |pool| {
        let mut block = pool.take().unwrap();
        block.copy_from_slice(b"0123456789abcdef");
        let block = block.freeze();
        let after = (core::ops::Bound::Excluded(1), core::ops::Bound::Unbounded);
        assert_eq!(&block.slice(2..5)[..], b"234");
        assert_eq!(&block.slice(14..)[..], b"ef");
        assert_eq!(&block.slice(..=1)[..], b"01");
        assert_eq!(&block.slice(after).slice(..2)[..], b"23");
        assert_eq!(&block.slice(16..)[..], b"");
        let clone = block.clone();
        drop(block);
        assert_eq!(pool.free(), 0);
        assert_eq!(clone.as_ref(), b"0123456789abcdef");
    });
}

#[test]
fn a_block_is_reclaimed_only_by_its_last_handle() {
    with_pool(1, |pool| {
        let mut rest = pool.take().unwrap();
        let frame = rest.split_to(10).freeze();
        let clone = frame.clone();
        assert!(!rest.reclaim());
        drop(frame);
        assert!(!rest.reclaim());
        assert_eq!(rest.len(), 6);
        drop(clone);
        assert!(rest.reclaim());
        assert_eq!(rest.len(), BLOCK);
    });
}

#[test]
fn bytes_are_writable_again_for_their_last_handle() {
    with_pool(1, |pool| {
        let block = pool.take().unwrap().freeze();
        let part = block.slice(4..8);
        let block = block.try_mut().unwrap_err();
        drop(block);
        let mut part = part.try_mut().unwrap();
        part.fill(7);
        assert_eq!(&part[..], [7; 4]);
    });
}

#[test]
fn too_many_handles_are_an_assertion() {
    with_pool(1, |pool| {
        let block = pool.take().unwrap().freeze();
        pool.slots[0].0.handles.store(MAX_HANDLES + 1, Relaxed);
        assert!(panics(|| drop(block.clone())));
        pool.slots[0].0.handles.store(1, Relaxed);
    });
}

#[test]
fn a_second_release_is_an_assertion() {
    with_pool(1, |pool| {
        drop(pool.take());
        assert!(panics(|| pool.release(0)));
        pool.slots[0].0.handles.store(1, Relaxed);
        assert!(panics(|| pool.release(0)));
        pool.slots[0].0.handles.store(0, Relaxed);
    });
}

#[test]
fn memory_that_cannot_be_shared_evenly_is_refused() {
    assert!(panics(|| drop(Pool::new(&mut [0; 7], &mut [const { Slot::new() }; 2]))));
    assert!(panics(|| drop(Pool::new(&mut [], &mut []))));
}

#[test]
fn handles_go_where_they_are_needed() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Pool<'_>>();
    is_sync::<Pool<'_>>();
    is_send::<Block<'_>>();
    is_sync::<Block<'_>>();
    is_send::<BlockMut<'_>>();
}

#[test]
fn data_stays_out_of_logs() {
    with_pool(1, |pool| {
        let mut block = pool.take().unwrap();
        block.fill(b'S');
        assert!(!std::format!("{block:?}").contains("83"));
        assert_eq!(std::format!("{:?}", block.freeze()), "Block { block: 0, len: 16, .. }");
    });
}

#[test]
fn threads_share_a_pool_that_is_too_small_for_them() {
    let rounds = if cfg!(miri) { 20 } else { 20_000 };
    with_pool(3, |pool| {
        let (sender, receiver) = mpsc::channel::<(u8, Block<'_>)>();
        thread::scope(|scope| {
            for id in 1..=3_u8 {
                let sender = sender.clone();
                scope.spawn(move || {
                    for _ in 0..rounds {
                        let mut rest = loop {
                            match pool.take() {
                                Some(block) => break block,
                                None => thread::yield_now(),
                            }
                        };
                        rest.fill(id);
                        let front = rest.split_to(5).freeze();
                        sender.send((id, front.clone())).unwrap();
                        rest.fill(id + 10);
                        assert!(front.iter().all(|byte| *byte == id));
                        // The last handle goes in either thread: this one or the receiver's.
                        drop(front);
                        assert!(rest.iter().all(|byte| *byte == id + 10));
                    }
                });
            }
            drop(sender);
            for (id, front) in receiver {
                assert!(front.iter().all(|byte| *byte == id));
            }
        });
    });
}

#[derive(Clone, Debug)]
enum Call {
    Take,
    SplitTo(usize, usize),
    Write(usize, u8),
    Freeze(usize),
    Slice(usize, usize, usize),
    Drop(usize),
    Reclaim(usize),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        Just(Call::Take),
        (0..9_usize, 0..BLOCK).prop_map(|(handle, at)| Call::SplitTo(handle, at)),
        (0..9_usize, any::<u8>()).prop_map(|(handle, byte)| Call::Write(handle, byte)),
        (0..9_usize).prop_map(Call::Freeze),
        (0..9_usize, 0..BLOCK, 0..BLOCK).prop_map(|(handle, from, to)| Call::Slice(handle, from, to)),
        (0..9_usize).prop_map(Call::Drop),
        (0..9_usize).prop_map(Call::Reclaim),
    ]
}

enum Handle<'p> {
    Exclusive(BlockMut<'p>),
    Shared(Block<'p>),
}

impl Handle<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Handle::Exclusive(block) => block,
            Handle::Shared(block) => block,
        }
    }
}

/// Keeps beside every handle the bytes that it must show, whatever the others do.
fn compare(pool: &Pool<'_>, calls: Vec<Call>) {
    let mut handles: Vec<(Handle<'_>, Vec<u8>)> = Vec::new();
    for call in calls {
        let count = handles.len();
        match call {
            Call::Take => handles.extend(pool.take().map(|block| {
                let bytes = block.to_vec();
                (Handle::Exclusive(block), bytes)
            })),
            Call::SplitTo(handle, at) if handle < count => {
                let (Handle::Exclusive(block), bytes) = &mut handles[handle] else { continue };
                let at = at.min(block.len());
                let front = block.split_to(at);
                let rest = bytes.split_off(at);
                let front = (Handle::Exclusive(front), core::mem::replace(bytes, rest));
                handles.push(front);
            }
            Call::Write(handle, byte) if handle < count => {
                let (Handle::Exclusive(block), bytes) = &mut handles[handle] else { continue };
                block.fill(byte);
                bytes.fill(byte);
            }
            Call::Freeze(handle) if handle < count => {
                let (before, bytes) = handles.swap_remove(handle);
                let after = match before {
                    Handle::Exclusive(block) => Handle::Shared(block.freeze()),
                    shared => shared,
                };
                handles.push((after, bytes));
            }
            Call::Slice(handle, from, to) if handle < count => {
                let (Handle::Shared(block), bytes) = &handles[handle] else { continue };
                let (from, to) = (from.min(to).min(bytes.len()), from.max(to).min(bytes.len()));
                let part = (Handle::Shared(block.slice(from..to)), bytes[from..to].to_vec());
                handles.push(part);
            }
            Call::Drop(handle) if handle < count => drop(handles.swap_remove(handle)),
            Call::Reclaim(handle) if handle < count => {
                let (Handle::Exclusive(block), bytes) = &mut handles[handle] else { continue };
                if block.reclaim() {
                    *bytes = block.to_vec();
                    assert_eq!(bytes.len(), BLOCK);
                }
            }
            _ => {}
        }
        for (handle, bytes) in &handles {
            assert_eq!(handle.bytes(), bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_handle_keeps_its_bytes(calls in proptest::collection::vec(call(), 0..80)) {
        with_pool(3, |pool| compare(pool, calls));
    }
}

#[test]
fn a_leaked_pool_has_handles_for_ever() {
    // A host leaks a pool for the life of the process; the test takes the memory back.
    let memory = Box::into_raw(vec![0; 2 * BLOCK].into_boxed_slice());
    let slots = Box::into_raw((0..2).map(|_| Slot::new()).collect::<Box<[Slot]>>());
    // SAFETY: both were just leaked and nobody else has them.
    let (lent, lent_slots) = unsafe { (&mut *memory, &mut *slots) };
    let pool = Box::into_raw(Box::new(Pool::new(lent, lent_slots)));
    // SAFETY: as above.
    let shared: &'static Pool<'static> = unsafe { &*pool };
    let block: Block<'static> = shared.take().unwrap().freeze();
    thread::spawn(move || assert!(block.iter().all(|byte| *byte == 0))).join().unwrap();
    assert_eq!(shared.free(), 2);
    // SAFETY: all handles are gone and the thread has been joined.
    unsafe { drop((Box::from_raw(pool), Box::from_raw(memory), Box::from_raw(slots))) };
}
