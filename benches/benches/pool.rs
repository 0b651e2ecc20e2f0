//! The pool beside the global allocator with a reference count, which is what it replaces, and beside a queue of free
//! block numbers, which is the usual lock-free free list.

use core::hint::black_box;
use criterion::{Criterion, criterion_group, criterion_main};
use eventstream_core::pool::{Pool, Slot};
use std::sync::Arc;

const BLOCKS: usize = 256;
const BLOCK: usize = 65_536;
/// Frames that a received block is split into.
const FRAMES: usize = 64;

fn pool(criterion: &mut Criterion) {
    let mut memory = vec![0; BLOCKS * BLOCK];
    let mut slots: Vec<Slot> = (0..BLOCKS).map(|_| Slot::new()).collect();
    let pool = Pool::new(&mut memory, &mut slots);

    let mut group = criterion.benchmark_group("pool, take and give back");
    group.bench_function("eventstream", |bench| bench.iter(|| drop(black_box(pool.take()))));
    group.bench_function("eventstream, the last free block", |bench| {
        let taken: Vec<_> = (1..BLOCKS).map(|_| pool.take()).collect();
        bench.iter(|| drop(black_box(pool.take())));
        drop(taken);
    });
    group.bench_function("crossbeam-queue of block numbers", |bench| {
        let free = crossbeam_queue::ArrayQueue::new(BLOCKS);
        (0..BLOCKS).for_each(|block| free.push(block).expect("as many as there is room for"));
        bench.iter(|| {
            let block = black_box(free.pop()).expect("one is free");
            free.push(block).expect("it was there before");
        });
    });
    group.bench_function("allocator", |bench| bench.iter(|| drop(black_box(Vec::<u8>::with_capacity(BLOCK)))));
    group.finish();

    let mut group = criterion.benchmark_group("pool, clone and drop");
    let block = pool.take().expect("one is free").freeze();
    group.bench_function("eventstream", |bench| bench.iter(|| drop(black_box(block.clone()))));
    let shared: Arc<[u8]> = vec![0; BLOCK].into();
    group.bench_function("Arc", |bench| bench.iter(|| drop(black_box(shared.clone()))));
    group.finish();

    let mut group = criterion.benchmark_group("pool, a block received and split into 64 frames");
    group.bench_function("eventstream", |bench| {
        bench.iter(|| {
            let mut received = pool.take().expect("one is free");
            let frames: [_; FRAMES] = core::array::from_fn(|_| received.split_to(BLOCK / FRAMES).freeze());
            black_box(frames);
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = pool
}
criterion_main!(benches);
