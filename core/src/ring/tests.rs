//! What one thread can see of a ring, and a run over two. The interleavings are the models' part: see `loom-tests`.

extern crate std;

use super::{Full, Ring};
use core::cell::Cell;
use core::mem::MaybeUninit;
use core::panic::AssertUnwindSafe;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::thread;
use std::vec::Vec;

/// An empty ring whose positions begin at `position`.
fn ring_at<T, const N: usize>(position: usize) -> Ring<T, N> {
    let ring = Ring::new();
    ring.tail.publish(position);
    ring.head.publish(position);
    ring
}

#[test]
fn full_gives_the_item_back_and_empty_gives_nothing() {
    let mut ring: Ring<u32, 2> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(consumer.pop(), None);
    assert_eq!(producer.push(1), Ok(()));
    assert_eq!(producer.push(2), Ok(()));
    assert_eq!(producer.push(3), Err(Full(3)));
    assert_eq!(consumer.pop(), Some(1));
    assert_eq!(producer.push(4), Ok(()));
    assert_eq!([consumer.pop(), consumer.pop(), consumer.pop()], [Some(2), Some(4), None]);
}

#[test]
fn a_ring_of_one_item_works() {
    let mut ring: Ring<u32, 1> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    for item in 0..4 {
        assert_eq!(producer.push(item), Ok(()));
        assert_eq!(producer.push(9), Err(Full(9)));
        assert_eq!(consumer.pop(), Some(item));
        assert_eq!(consumer.pop(), None);
    }
}

#[test]
fn positions_wrap_with_the_machine_word() {
    let mut ring: Ring<usize, 4> = ring_at(usize::MAX - 5);
    let (mut producer, mut consumer) = ring.split();
    for item in 0..12 {
        assert_eq!(producer.push(item), Ok(()));
        assert_eq!((producer.len(), consumer.len(), producer.free()), (1, 1, 3));
        assert_eq!(consumer.pop(), Some(item));
    }
    let mut ring: Ring<usize, 4> = ring_at(usize::MAX - 1);
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(producer.push_slice(&[0, 1, 2, 3, 4]), 4);
    assert_eq!(producer.push(5), Err(Full(5)));
    let mut out = [9; 8];
    assert_eq!(consumer.pop_slice(&mut out), 4);
    assert_eq!(out, [0, 1, 2, 3, 9, 9, 9, 9]);
}

#[test]
fn counts_are_the_same_from_both_ends() {
    let mut ring: Ring<u32, 4> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    assert!(producer.is_empty() && consumer.is_empty());
    assert_eq!(producer.push_slice(&[1, 2, 3]), 3);
    assert_eq!((producer.len(), producer.free(), producer.capacity()), (3, 1, 4));
    assert_eq!((consumer.len(), consumer.free(), consumer.capacity()), (3, 1, 4));
    assert_eq!(consumer.pop(), Some(1));
    assert_eq!((producer.len(), consumer.len()), (2, 2));
    assert!(!producer.is_empty() && !consumer.is_empty());
}

#[test]
fn a_slice_is_pushed_as_far_as_there_is_room() {
    let mut ring: Ring<u32, 4> = ring_at(3);
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(producer.push_slice(&[]), 0);
    assert_eq!(producer.push_slice(&[1, 2, 3]), 3);
    assert_eq!(producer.push_slice(&[4, 5, 6]), 1);
    assert_eq!(producer.push_slice(&[5]), 0);
    let mut out = [0; 3];
    assert_eq!(consumer.pop_slice(&mut []), 0);
    assert_eq!(consumer.pop_slice(&mut out), 3);
    assert_eq!(out, [1, 2, 3]);
    assert_eq!(consumer.pop_slice(&mut out), 1);
    assert_eq!(out, [4, 2, 3]);
}

#[test]
fn an_iterator_keeps_what_has_no_room() {
    let mut ring: Ring<u32, 4> = ring_at(2);
    let (mut producer, mut consumer) = ring.split();
    let mut items = 0..6;
    assert_eq!(producer.push_each(items.by_ref()), 4);
    assert_eq!(producer.push_each(items.by_ref()), 0);
    assert_eq!(items.next(), Some(4));
    let mut popped = Vec::new();
    assert_eq!(consumer.pop_each(3, |item| popped.push(item)), 3);
    assert_eq!(consumer.pop_each(0, |item| popped.push(item)), 0);
    assert_eq!(consumer.pop_each(usize::MAX, |item| popped.push(item)), 1);
    assert_eq!(popped, [0, 1, 2, 3]);
}

#[test]
fn a_batch_is_seen_as_a_whole() {
    let mut ring: Ring<u32, 4> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    let seen = Cell::new(9);
    let items = (0..3).inspect(|_| seen.set(consumer.len()));
    assert_eq!(producer.push_each(items), 3);
    assert_eq!((seen.get(), consumer.len()), (0, 3));
    let mut free = Vec::new();
    consumer.pop_each(3, |_| free.push(producer.free()));
    assert_eq!((&free[..], producer.free()), (&[1, 1, 1][..], 4));
}

#[test]
fn a_look_at_the_oldest_item_leaves_it() {
    let mut ring: Ring<u32, 4> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(consumer.peek(), None);
    assert_eq!(producer.push_slice(&[1, 2]), 2);
    assert_eq!(consumer.peek(), Some(&1));
    assert_eq!(consumer.len(), 2);
    assert_eq!(consumer.pop(), Some(1));
    assert_eq!(consumer.peek(), Some(&2));
}

#[test]
fn a_panicking_iterator_leaves_what_it_gave() {
    let mut ring: Ring<Arc<u32>, 4> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    let items = (0..3).map(|item| if item < 2 { Arc::new(item) } else { panic!("no third item") });
    assert!(catch_unwind(AssertUnwindSafe(|| producer.push_each(items))).is_err());
    assert_eq!((consumer.len(), producer.len()), (2, 2));
    assert_eq!(producer.push(Arc::new(2)), Ok(()));
    for item in 0..3 {
        assert_eq!(consumer.pop().as_deref(), Some(&item));
    }
}

#[test]
fn a_panicking_closure_has_had_its_item() {
    let item = Arc::new(());
    let mut ring: Ring<Arc<()>, 4> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(producer.push_each((0..3).map(|_| item.clone())), 3);
    let outcome = catch_unwind(AssertUnwindSafe(|| consumer.pop_each(3, |_| panic!("no room for this"))));
    assert!(outcome.is_err());
    assert_eq!((consumer.len(), Arc::strong_count(&item)), (2, 3));
    assert!(consumer.pop().is_some());
    assert_eq!(producer.free(), 3);
}

#[test]
fn unread_items_are_dropped_once_with_the_ring() {
    let item = Arc::new(());
    let mut ring: Ring<Arc<()>, 4> = ring_at(usize::MAX - 1);
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(producer.push_each((0..4).map(|_| item.clone())), 4);
    drop(consumer.pop());
    drop((producer, consumer));
    assert_eq!(Arc::strong_count(&item), 4);
    drop(ring);
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn an_end_that_leaves_is_missed() {
    let mut ring: Ring<u32, 2> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    assert!(!producer.is_abandoned() && !consumer.is_abandoned());
    assert_eq!(producer.push(1), Ok(()));
    drop(producer);
    assert!(consumer.is_abandoned());
    assert_eq!((consumer.pop(), consumer.pop()), (Some(1), None));
    drop(consumer);

    let (producer, consumer) = ring.split();
    assert!(!producer.is_abandoned() && !consumer.is_abandoned());
    drop(consumer);
    assert!(producer.is_abandoned());
}

#[test]
fn splitting_again_goes_on_where_it_was() {
    let mut ring: Ring<u32, 2> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!((producer.push(1), producer.push(2), consumer.pop()), (Ok(()), Ok(()), Some(1)));
    drop((producer, consumer));
    let (mut producer, mut consumer) = ring.split();
    assert_eq!((producer.push(3), producer.push(4)), (Ok(()), Err(Full(4))));
    assert_eq!([consumer.pop(), consumer.pop(), consumer.pop()], [Some(2), Some(3), None]);
}

#[test]
fn a_forgotten_end_leaves_the_ring_whole() {
    let item = Arc::new(());
    let mut ring: Ring<Arc<()>, 4> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(producer.push_each((0..3).map(|_| item.clone())), 3);
    drop(consumer.pop());
    core::mem::forget((producer, consumer));
    let (_, mut consumer) = ring.split();
    assert!(consumer.pop().is_some());
    drop(consumer);
    drop(ring);
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn a_ring_is_made_in_lent_memory() {
    let item = Arc::new(());
    let mut memory = std::boxed::Box::new(MaybeUninit::<Ring<Arc<()>, 8>>::uninit());
    let ring = Ring::init(&mut memory);
    let (mut producer, consumer) = ring.split();
    assert_eq!(producer.push_each((0..9).map(|_| item.clone())), 8);
    assert_eq!(consumer.len(), 8);
    drop((producer, consumer));
    // SAFETY: `Ring::init` has initialised it, and nothing borrows it any more.
    unsafe { memory.assume_init_drop() };
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn the_ends_lie_on_different_cache_lines() {
    let ring: Ring<u8, 2> = Ring::new();
    let lines = [&raw const *ring.tail as usize, &raw const *ring.head as usize, &raw const ring.slots as usize];
    assert!(lines[0].abs_diff(lines[1]) >= align_of_val(&ring.tail));
    assert!(lines[1].abs_diff(lines[2]) >= align_of_val(&ring.tail));
}

#[test]
fn two_threads_keep_the_order() {
    let count: u32 = if cfg!(miri) { 200 } else { 100_000 };
    let mut ring: Ring<std::boxed::Box<u32>, 8> = Ring::new();
    let (mut producer, mut consumer) = ring.split();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut items = (0..count).map(std::boxed::Box::new);
            while items.len() > 0 {
                // Single items and batches in turn.
                if items.len() % 3 == 0 {
                    producer.push_each(items.by_ref());
                } else if producer.free() > 0 {
                    let item = items.next().expect("counted");
                    producer.push(item).expect("there was room, and only this end fills it");
                }
                thread::yield_now();
            }
        });
        let mut next = 0;
        loop {
            let last = consumer.is_abandoned();
            let popped = consumer.pop_each(3, |item| {
                assert_eq!(*item, next);
                next += 1;
            });
            if last && popped == 0 {
                break;
            }
            thread::yield_now();
        }
        assert_eq!(next, count);
    });
}

#[derive(Clone, Debug)]
enum Call {
    Push,
    PushSlice(usize),
    PushEach(usize),
    Pop,
    PopSlice(usize),
    PopEach(usize),
    Peek,
    SplitAgain,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        Just(Call::Push),
        (0..12_usize).prop_map(Call::PushSlice),
        (0..12_usize).prop_map(Call::PushEach),
        Just(Call::Pop),
        (0..12_usize).prop_map(Call::PopSlice),
        (0..12_usize).prop_map(Call::PopEach),
        Just(Call::Peek),
        Just(Call::SplitAgain),
    ]
}

/// Makes the same calls to a ring and to a queue of the standard library.
fn compare(start: usize, calls: Vec<Call>) {
    const N: usize = 8;
    let mut ring: Ring<u64, N> = ring_at(start);
    let (mut producer, mut consumer) = ring.split();
    let mut model: VecDeque<u64> = VecDeque::new();
    let mut next = 0;
    for call in calls {
        let room = N - model.len();
        match call {
            Call::Push => {
                assert_eq!(producer.push(next).is_ok(), room > 0);
                let pushed = room.min(1) as u64;
                model.extend(next..next + pushed);
                next += pushed;
            }
            Call::PushSlice(count) | Call::PushEach(count) => {
                let items: Vec<u64> = (next..next + count as u64).collect();
                let pushed = match call {
                    Call::PushSlice(_) => producer.push_slice(&items),
                    _ => producer.push_each(items.iter().copied()),
                };
                assert_eq!(pushed, room.min(count));
                model.extend(&items[..pushed]);
                next += pushed as u64;
            }
            Call::Pop => assert_eq!(consumer.pop(), model.pop_front()),
            Call::PopSlice(count) | Call::PopEach(count) => {
                let mut out = std::vec![0; count];
                let popped = match call {
                    Call::PopSlice(_) => consumer.pop_slice(&mut out),
                    _ => {
                        let mut rest = out.iter_mut();
                        consumer.pop_each(count, |item| *rest.next().expect("no more than the limit") = item)
                    }
                };
                assert_eq!(popped, count.min(model.len()));
                assert!(model.drain(..popped).eq(out[..popped].iter().copied()));
            }
            Call::Peek => assert_eq!(consumer.peek(), model.front()),
            Call::SplitAgain => {
                (producer, consumer) = {
                    drop((producer, consumer));
                    ring.split()
                }
            }
        }
        assert_eq!((producer.len(), consumer.len()), (model.len(), model.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_ring_is_a_bounded_queue(start: usize, calls in proptest::collection::vec(call(), 0..60)) {
        compare(start, calls);
    }
}
