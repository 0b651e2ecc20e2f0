//! Models of the doorbell. A lost wake-up is a deadlock, which loom reports.

use loom::sync::{Condvar, Mutex};
use loom::thread;
use loom_tests::doorbell::Doorbell;
use loom_tests::ring::{Consumer, Ring};
use loom_tests::{check, leak, survey};

/// How a host sleeps and wakes, reduced to what the doorbell asks of it: a wake-up that comes before the sleep is kept.
struct Sleep {
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Sleep {
    fn new() -> &'static Self {
        leak(Self { woken: Mutex::new(false), wake: Condvar::new() })
    }

    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.wake.notify_one();
    }

    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.wake.wait(woken).unwrap();
        }
        *woken = false;
    }
}

/// Pops from `rings` until `count` items came, asleep while there is none.
fn consume<const R: usize, const N: usize>(
    bell: &Doorbell,
    sleep: &Sleep,
    mut rings: [Consumer<'static, usize, N>; R],
    count: usize,
) -> Vec<usize> {
    let mut popped = Vec::new();
    loop {
        for ring in &mut rings {
            popped.extend(ring.pop());
        }
        if popped.len() == count {
            return popped;
        }
        if bell.arm_if(|| rings.iter().all(Consumer::is_empty)) {
            sleep.sleep();
            bell.disarm();
        }
    }
}

#[test]
fn no_wake_up_is_lost() {
    check(|| {
        let bell: &Doorbell = leak(Doorbell::new());
        let (mut producer, consumer) = leak(Ring::<usize, 2>::new()).split();
        let sleep = Sleep::new();
        let pushing = thread::spawn(move || {
            for item in 0..2 {
                producer.push(item).unwrap();
                if bell.ring() {
                    sleep.wake();
                }
            }
        });
        assert_eq!(consume(bell, sleep, [consumer], 2), [0, 1]);
        pushing.join().unwrap();
    });
}

#[test]
fn one_bell_serves_two_rings() {
    check(|| {
        let bell: &Doorbell = leak(Doorbell::new());
        let sleep = Sleep::new();
        let mut consumers = Vec::new();
        let pushing: Vec<_> = (0..2)
            .map(|item| {
                let (mut producer, consumer) = leak(Ring::<usize, 1>::new()).split();
                consumers.push(consumer);
                thread::spawn(move || {
                    producer.push(item).unwrap();
                    if bell.ring() {
                        sleep.wake();
                    }
                })
            })
            .collect();
        let consumers: [_; 2] = consumers.try_into().expect("two were made");
        let mut popped = consume(bell, sleep, consumers, 2);
        popped.sort_unstable();
        assert_eq!(popped, [0, 1]);
        pushing.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn one_sleep_is_rung_for_once() {
    check(|| {
        let bell: &Doorbell = leak(Doorbell::new());
        bell.arm();
        let other = thread::spawn(|| bell.ring());
        let rung = [bell.ring(), other.join().unwrap()];
        assert_eq!(rung.into_iter().filter(|rung| *rung).count(), 1);
    });
}

#[test]
fn weakened_orderings_are_noticed() {
    // The fence of either side.
    assert_eq!(survey::every_weakening_is_noticed("core/src/doorbell.rs", "weakened_orderings_are_noticed"), 2);
}
