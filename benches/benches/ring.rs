//! The ring beside the public crates that do the same, in one run: between two threads, item by item and in batches,
//! and on one thread, where nothing is shared.
//!
//! On a machine with other work compare only lines of one group, and those of one run. Item by item between two threads
//! one and the same crate takes 4 ms or 15 ms, depending on which end happens to run ahead and on what else the host
//! does, and stays so for seconds: there the crates take turns, pass by pass, and quantiles are compared.

use core::hint::{black_box, spin_loop};
use core::time::Duration;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use eventstream_core::ring::{Consumer, Producer, Ring};
use std::thread;
use std::time::Instant;

/// Room of every ring.
const CAPACITY: usize = 1_024;
/// Items that cross in one measured pass. Large beside the start of the two threads, which is measured too.
const ITEMS: u64 = 400_000;
/// Items of one batch.
const BATCH: usize = 32;
/// Passes of each crate where they take turns.
const TURNS: usize = 300;

/// The end that pushes, of whatever crate.
trait Push: Send {
    fn push(&mut self, item: u64) -> bool;
    /// Pushes as many as there is room for, returns how many.
    fn push_batch(&mut self, items: &[u64]) -> usize;
}

/// The end that pops, of whatever crate.
trait Pop: Send {
    fn pop(&mut self) -> Option<u64>;
    /// Pops as many as there are, returns how many.
    fn pop_batch(&mut self, out: &mut [u64]) -> usize;
}

impl Push for Producer<'_, u64, CAPACITY> {
    fn push(&mut self, item: u64) -> bool {
        Producer::push(self, item).is_ok()
    }

    fn push_batch(&mut self, items: &[u64]) -> usize {
        self.push_slice(items)
    }
}

impl Pop for Consumer<'_, u64, CAPACITY> {
    fn pop(&mut self) -> Option<u64> {
        Consumer::pop(self)
    }

    fn pop_batch(&mut self, out: &mut [u64]) -> usize {
        self.pop_slice(out)
    }
}

impl Push for rtrb::Producer<u64> {
    fn push(&mut self, item: u64) -> bool {
        rtrb::Producer::push(self, item).is_ok()
    }

    fn push_batch(&mut self, items: &[u64]) -> usize {
        self.push_partial_slice(items).0.len()
    }
}

impl Pop for rtrb::Consumer<u64> {
    fn pop(&mut self) -> Option<u64> {
        rtrb::Consumer::pop(self).ok()
    }

    fn pop_batch(&mut self, out: &mut [u64]) -> usize {
        self.pop_partial_slice(out).0.len()
    }
}

impl<P: ringbuf::traits::Producer<Item = u64> + Send> Push for Ringbuf<P> {
    fn push(&mut self, item: u64) -> bool {
        self.0.try_push(item).is_ok()
    }

    fn push_batch(&mut self, items: &[u64]) -> usize {
        self.0.push_slice(items)
    }
}

impl<C: ringbuf::traits::Consumer<Item = u64> + Send> Pop for Ringbuf<C> {
    fn pop(&mut self) -> Option<u64> {
        self.0.try_pop()
    }

    fn pop_batch(&mut self, out: &mut [u64]) -> usize {
        self.0.pop_slice(out)
    }
}

/// An end of the crate `ringbuf`.
struct Ringbuf<E>(E);

/// Crossbeam's queue has no batches: these go item by item. It serves many producers and consumers, so it is here for
/// what that costs.
impl Push for &crossbeam_queue::ArrayQueue<u64> {
    fn push(&mut self, item: u64) -> bool {
        crossbeam_queue::ArrayQueue::push(self, item).is_ok()
    }

    fn push_batch(&mut self, items: &[u64]) -> usize {
        items.iter().take_while(|item| crossbeam_queue::ArrayQueue::push(self, **item).is_ok()).count()
    }
}

impl Pop for &crossbeam_queue::ArrayQueue<u64> {
    fn pop(&mut self) -> Option<u64> {
        crossbeam_queue::ArrayQueue::pop(self)
    }

    fn pop_batch(&mut self, out: &mut [u64]) -> usize {
        let items = core::iter::from_fn(|| crossbeam_queue::ArrayQueue::pop(self));
        out.iter_mut().zip(items).map(|(out, item)| *out = item).count()
    }
}

/// Waits a little: briefly on the processor, then by giving it to whoever needs it.
struct Patience(u32);

impl Patience {
    fn wait(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(256) { thread::yield_now() } else { spin_loop() }
    }
}

fn cross_one_by_one(mut push: impl Push, mut pop: impl Pop) {
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut patience = Patience(0);
            for item in 0..ITEMS {
                while !push.push(item) {
                    patience.wait();
                }
            }
        });
        let mut patience = Patience(0);
        let mut next = 0;
        while next < ITEMS {
            match pop.pop() {
                Some(item) => {
                    assert_eq!(item, next);
                    next += 1;
                }
                None => patience.wait(),
            }
        }
    });
}

fn cross_in_batches(mut push: impl Push, mut pop: impl Pop) {
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut patience = Patience(0);
            let items: [u64; BATCH] = core::array::from_fn(|item| item as u64);
            for _ in 0..ITEMS / BATCH as u64 {
                let mut rest = &items[..];
                while !rest.is_empty() {
                    match push.push_batch(rest) {
                        0 => patience.wait(),
                        pushed => rest = &rest[pushed..],
                    }
                }
            }
        });
        let mut patience = Patience(0);
        let (mut out, mut popped, mut sum) = ([0; BATCH], 0, 0);
        while popped < ITEMS as usize {
            match pop.pop_batch(&mut out) {
                0 => patience.wait(),
                count => {
                    popped += count;
                    sum += out[..count].iter().sum::<u64>();
                }
            }
        }
        assert_eq!(sum, (BATCH as u64 - 1) * ITEMS / 2);
    });
}

fn through_one_thread(mut push: impl Push, mut pop: impl Pop) {
    for item in 0..ITEMS {
        assert!(push.push(black_box(item)));
        assert_eq!(pop.pop(), Some(item));
    }
}

/// Measures one way of crossing for each crate, under its name. `$cross` is a function of the two ends.
macro_rules! each_crate {
    ($group:expr, $cross:ident) => {{
        let group: &mut BenchmarkGroup<'_, WallTime> = $group;
        group.bench_function("eventstream", |bench| {
            let mut ring: Box<Ring<u64, CAPACITY>> = Box::default();
            bench.iter(|| {
                let (producer, consumer) = ring.split();
                $cross(producer, consumer);
            });
        });
        group.bench_function("rtrb", |bench| {
            bench.iter(|| {
                let (producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
                $cross(producer, consumer);
            });
        });
        group.bench_function("ringbuf", |bench| {
            bench.iter(|| {
                let (producer, consumer) = ringbuf::traits::Split::split(ringbuf::HeapRb::<u64>::new(CAPACITY));
                $cross(Ringbuf(producer), Ringbuf(consumer));
            });
        });
        group.bench_function("crossbeam-queue", |bench| {
            let queue = crossbeam_queue::ArrayQueue::new(CAPACITY);
            bench.iter(|| $cross(&queue, &queue));
        });
    }};
}

/// Item by item between two threads, the crates taking turns.
#[expect(clippy::disallowed_methods, reason = "what is measured here is time, and criterion cannot take turns")]
fn in_turns(_: &mut Criterion) {
    let mut ring: Box<Ring<u64, CAPACITY>> = Box::default();
    let queue = crossbeam_queue::ArrayQueue::new(CAPACITY);
    let crates: &mut [(&str, &mut dyn FnMut())] = &mut [
        ("eventstream", &mut || {
            let (producer, consumer) = ring.split();
            cross_one_by_one(producer, consumer);
        }),
        ("rtrb", &mut || {
            let (producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
            cross_one_by_one(producer, consumer);
        }),
        ("ringbuf", &mut || {
            let (producer, consumer) = ringbuf::traits::Split::split(ringbuf::HeapRb::<u64>::new(CAPACITY));
            cross_one_by_one(Ringbuf(producer), Ringbuf(consumer));
        }),
        ("crossbeam-queue", &mut || cross_one_by_one(&queue, &queue)),
    ];
    let mut passes = vec![Vec::with_capacity(TURNS); crates.len()];
    for turn in 0..TURNS {
        for step in 0..crates.len() {
            // Every crate has every place in a round equally often.
            let which = (turn + step) % crates.len();
            let start = Instant::now();
            crates[which].1();
            passes[which].push(start.elapsed());
        }
    }
    println!("ring, two threads, one by one, taking turns: {ITEMS} items, {TURNS} passes, ms");
    println!("{:<16}{:>8}{:>8}{:>8}{:>8}", "", "min", "p25", "p50", "p75");
    for ((name, _), passes) in crates.iter().zip(&mut passes) {
        passes.sort_unstable();
        let ms = |share: usize| passes[(TURNS - 1) * share / 100].div_duration_f64(Duration::from_millis(1));
        println!("{name:<16}{:>8.2}{:>8.2}{:>8.2}{:>8.2}", ms(0), ms(25), ms(50), ms(75));
    }
}

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring, two threads, batches of 32");
    each_crate!(group.throughput(Throughput::Elements(ITEMS)), cross_in_batches);
    group.finish();
    let mut group = criterion.benchmark_group("ring, one thread, push and pop");
    each_crate!(group.throughput(Throughput::Elements(ITEMS)), through_one_thread);
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = in_turns, ring
}
criterion_main!(benches);
