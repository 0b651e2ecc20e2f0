//! Models of the ring. Rings are small, so that they wrap, run full and run empty in every way.
#![allow(unsafe_code)]

use loom::sync::Arc;
use loom::thread;
use loom_tests::ring::Ring;
use loom_tests::{check, leak, lend, survey};

#[test]
fn items_cross_in_order_through_a_ring_of_one() {
    check(|| {
        let (mut producer, mut consumer) = leak(Ring::<usize, 1>::new()).split();
        let pushing = thread::spawn(move || {
            for item in 0..3 {
                while producer.push(item).is_err() {
                    thread::yield_now();
                }
            }
        });
        for item in 0..3 {
            let popped = loop {
                match consumer.pop() {
                    Some(popped) => break popped,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(popped, item);
        }
        assert_eq!(consumer.pop(), None);
        pushing.join().unwrap();
    });
}

#[test]
fn a_full_ring_refuses_and_an_empty_one_gives_nothing() {
    check(|| {
        let (mut producer, mut consumer) = leak(Ring::<usize, 2>::new()).split();
        let pushing = thread::spawn(move || (0..4).filter(|item| producer.push(*item).is_ok()).collect::<Vec<_>>());
        let mut popped: Vec<usize> = (0..2).filter_map(|_| consumer.pop()).collect();
        let pushed = pushing.join().unwrap();
        assert!(pushed.len() >= 2, "two always have room");
        popped.extend(core::iter::from_fn(|| consumer.pop()));
        assert_eq!(popped, pushed);
    });
}

#[test]
fn slices_cross_the_wrap() {
    check(|| {
        let (mut producer, mut consumer) = leak(Ring::<usize, 2>::new()).split();
        let pushing = thread::spawn(move || {
            let mut rest: &[usize] = &[0, 1, 2, 3];
            while !rest.is_empty() {
                match producer.push_slice(&rest[..rest.len().min(3)]) {
                    0 => thread::yield_now(),
                    pushed => rest = &rest[pushed..],
                }
            }
        });
        let mut popped = Vec::<usize>::new();
        while popped.len() < 4 {
            let mut out = [9; 2];
            match consumer.pop_slice(&mut out) {
                0 => thread::yield_now(),
                count => popped.extend(&out[..count]),
            }
        }
        assert_eq!(popped, [0, 1, 2, 3]);
        pushing.join().unwrap();
    });
}

#[test]
fn batches_cross_the_wrap() {
    check(|| {
        let (mut producer, mut consumer) = leak(Ring::<usize, 2>::new()).split();
        let pushing = thread::spawn(move || {
            let mut items = 0..3;
            while !items.is_empty() {
                if producer.push_each(items.by_ref()) == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut popped = Vec::new();
        while popped.len() < 3 {
            if consumer.pop_each(2, |item| popped.push(item)) == 0 {
                thread::yield_now();
            }
        }
        assert_eq!(popped, [0, 1, 2]);
        pushing.join().unwrap();
    });
}

#[test]
fn a_batch_is_seen_as_a_whole() {
    check(|| {
        let (mut producer, mut consumer) = leak(Ring::<usize, 4>::new()).split();
        let pushing = thread::spawn(move || {
            assert_eq!(producer.push_slice(&[0, 1]), 2);
            assert_eq!(producer.push_each([2, 3]), 2);
        });
        assert_eq!(consumer.len() % 2, 0);
        let mut popped = Vec::new();
        assert_eq!(consumer.pop_each(usize::MAX, |item| popped.push(item)) % 2, 0);
        pushing.join().unwrap();
        consumer.pop_each(usize::MAX, |item| popped.push(item));
        assert_eq!(popped, [0, 1, 2, 3]);
    });
}

#[test]
fn a_peeked_item_stays_until_it_is_popped() {
    check(|| {
        let (mut producer, mut consumer) = leak(Ring::<usize, 1>::new()).split();
        let pushing = thread::spawn(move || (producer.push(0).is_ok(), producer.push(1).is_ok()));
        let peeked = consumer.peek().copied();
        assert!(matches!(peeked, None | Some(0)));
        if peeked.is_some() {
            assert_eq!(consumer.pop(), Some(0));
        }
        assert!(pushing.join().unwrap().0);
    });
}

#[test]
fn nothing_is_missed_when_the_producer_leaves() {
    check(|| {
        let (mut producer, mut consumer) = leak(Ring::<usize, 2>::new()).split();
        let pushing = thread::spawn(move || {
            producer.push(0).unwrap();
            producer.push(1).unwrap();
        });
        let mut popped = Vec::new();
        loop {
            let last = consumer.is_abandoned();
            match consumer.pop() {
                Some(item) => popped.push(item),
                None if last => break,
                None => thread::yield_now(),
            }
        }
        assert_eq!(popped, [0, 1]);
        pushing.join().unwrap();
    });
}

#[test]
fn what_was_popped_is_final_when_the_consumer_leaves() {
    check(|| {
        let (mut producer, mut consumer) = leak(Ring::<usize, 2>::new()).split();
        producer.push(0).unwrap();
        producer.push(1).unwrap();
        let popping = thread::spawn(move || consumer.pop());
        while !producer.is_abandoned() {
            thread::yield_now();
        }
        assert_eq!((producer.len(), producer.free()), (1, 1));
        assert_eq!(popping.join().unwrap(), Some(0));
    });
}

#[test]
fn every_item_is_dropped_once() {
    check(|| {
        let item = Arc::new(());
        let copies: Vec<_> = (0..3).map(|_| item.clone()).collect();
        let body = |ring: &'static mut Ring<Arc<()>, 2>| {
            let (mut producer, mut consumer) = ring.split();
            // The third may be refused: then it is dropped here, else by who pops it, or with the ring.
            let pushing = thread::spawn(move || copies.into_iter().for_each(|copy| drop(producer.push(copy))));
            drop(consumer.pop());
            drop(consumer);
            pushing.join().unwrap();
        };
        // SAFETY: the one thread is joined, and both ends are dropped.
        unsafe { lend(Ring::new(), body) };
        assert_eq!(Arc::strong_count(&item), 1);
    });
}

#[test]
fn weakened_orderings_are_noticed() {
    // Three ways to push and three to pop publish; each end looks, leaves, and asks whether the other has left.
    assert_eq!(survey::every_weakening_is_noticed("core/src/ring/", "weakened_orderings_are_noticed"), 12);
}
