//! Models of the pool. Bytes are read and written through a [`Shadow`], so that loom sees who touches them when.

use loom::thread;
use loom_tests::pool::{Pool, Slot};
use loom_tests::{Shadow, check, leak, survey};

const BLOCK: usize = 2;

/// A pool of `BLOCKS` blocks for the threads of one model, and the shadow of its bytes.
fn pool<const BLOCKS: usize>() -> (&'static Pool<'static>, &'static Shadow) {
    let memory = vec![0; BLOCKS * BLOCK].leak();
    let slots = leak(core::array::from_fn::<_, BLOCKS, _>(|_| Slot::new()));
    let pool: &'static Pool<'static> = leak(Pool::new(memory, slots));
    (pool, leak(Shadow::new(pool)))
}

/// Takes a block, if one is free, and writes all of it. Tells whether it could.
fn take_and_write(pool: &'static Pool<'static>, shadow: &'static Shadow) -> bool {
    pool.take().map(|mut block| shadow.write(&mut block)).is_some()
}

#[test]
fn one_block_is_held_by_one_taker_at_a_time() {
    check(|| {
        let (pool, shadow) = pool::<1>();
        let other = thread::spawn(move || take_and_write(pool, shadow));
        let here = take_and_write(pool, shadow);
        let there = other.join().unwrap();
        assert!(here || there);
        assert_eq!(pool.free(), 1);
        assert!(take_and_write(pool, shadow));
    });
}

#[test]
fn two_takers_get_different_blocks() {
    check(|| {
        let (pool, shadow) = pool::<2>();
        let other = thread::spawn(move || {
            let mut block = pool.take().expect("there is one for each");
            shadow.write(&mut block);
            block
        });
        let mut here = pool.take().expect("there is one for each");
        shadow.write(&mut here);
        let there = other.join().unwrap();
        assert_ne!(here.as_ptr(), there.as_ptr());
        assert!(pool.take().is_none());
    });
}

#[test]
fn an_exhausted_pool_gives_a_block_only_after_its_last_release() {
    check(|| {
        let (pool, shadow) = pool::<1>();
        let mut block = pool.take().unwrap();
        assert!(pool.take().is_none());
        let other = thread::spawn(move || shadow.write(&mut block));
        while !take_and_write(pool, shadow) {
            thread::yield_now();
        }
        other.join().unwrap();
    });
}

#[test]
fn two_threads_release_the_parts_of_a_block() {
    check(|| {
        let (pool, shadow) = pool::<1>();
        let mut rest = pool.take().unwrap();
        let mut front = rest.split_to(1);
        let other = thread::spawn(move || shadow.write(&mut front));
        shadow.write(&mut rest);
        drop(rest);
        // Whoever was last, the block is whole again and nobody writes it any more.
        let taken = take_and_write(pool, shadow);
        other.join().unwrap();
        assert!(taken || take_and_write(pool, shadow));
    });
}

#[test]
fn a_third_thread_takes_what_two_have_released() {
    check(|| {
        let (pool, shadow) = pool::<1>();
        let mut block = pool.take().unwrap();
        shadow.write(&mut block);
        let block = block.freeze();
        let readers: Vec<_> =
            [block.clone(), block].into_iter().map(|part| thread::spawn(move || shadow.read(&part))).collect();
        take_and_write(pool, shadow);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(pool.free(), 1);
    });
}

#[test]
fn a_part_is_shared_on_while_another_is_released() {
    check(|| {
        let (pool, shadow) = pool::<1>();
        let block = pool.take().unwrap().freeze();
        let part = block.slice(1..);
        let other = thread::spawn(move || {
            let again = part.clone();
            drop(part);
            shadow.read(&again);
        });
        shadow.read(&block);
        drop(block);
        take_and_write(pool, shadow);
        other.join().unwrap();
        assert_eq!(pool.free(), 1);
    });
}

#[test]
fn a_block_is_reclaimed_after_all_others_are_done() {
    check(|| {
        let (pool, shadow) = pool::<1>();
        let mut rest = pool.take().unwrap();
        let part = rest.split_to(1).freeze();
        let other = thread::spawn(move || shadow.read(&part));
        if rest.reclaim() {
            assert_eq!(rest.len(), BLOCK);
        }
        shadow.write(&mut rest);
        other.join().unwrap();
        assert!(rest.reclaim());
    });
}

#[test]
fn bytes_become_writable_after_all_others_are_done() {
    check(|| {
        let (pool, shadow) = pool::<1>();
        let block = pool.take().unwrap().freeze();
        let clone = block.clone();
        let other = thread::spawn(move || shadow.read(&clone));
        match block.try_mut() {
            Ok(mut block) => shadow.write(&mut block),
            Err(block) => shadow.read(&block),
        }
        other.join().unwrap();
        assert_eq!(pool.free(), 1);
    });
}

#[test]
fn weakened_orderings_are_noticed() {
    // Taking; giving up a handle; the fence of the last one; giving back; asking whether it is the last one.
    assert_eq!(survey::every_weakening_is_noticed("core/src/pool/", "weakened_orderings_are_noticed"), 5);
}
