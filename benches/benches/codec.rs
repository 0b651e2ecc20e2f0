//! The wire codec: what one frame costs to build, to check, to stamp, to put together with others.

use core::hint::black_box;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use eventstream_core::batch::{Accumulator, BatchBuilder, Event, Source};
use eventstream_core::crc::{Crc32, combine};
use eventstream_core::id::{Epoch, Index, LogTime, Offset, ProducerId, Sequence, ShardId, Term};
use eventstream_core::receipt::{Durability, RunReceipt};
use eventstream_core::time::Instant;
use eventstream_core::wire::{Batch, Control, Frame, List, MAX_FRAME_LEN, Receipt, stamp};

/// As the host computes it.
const CRC: Crc32 = Crc32::with(|crc, bytes| {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
});

/// Writes a frame of one run of `events` events with `payload_len` bytes each.
fn build(buffer: &mut [u8], events: u64, payload_len: usize) -> usize {
    let payload = [b'p'; 1_024];
    let producer = ProducerId([7; 16]);
    let mut builder = BatchBuilder::new(buffer);
    for number in 0..events {
        let sequence = Sequence(1_000_000 + number);
        let event = Event {
            topic: "factory/cell-7/vibration",
            source: Source::Producer { producer, epoch: Epoch(3), sequence, after_gap: false },
            time_us: 1_700_000_000_000_000 + number * 137,
            key: b"sensor-12",
            payload: &payload[..payload_len],
        };
        builder.push(&event).expect("it fits");
    }
    builder.finish(ShardId(0), 1, 1_700_000_000_000_000, CRC).1
}

fn batches(c: &mut Criterion) {
    for (events, payload_len) in [(64, 100), (64, 400), (1, 100)] {
        let mut group = c.benchmark_group(format!("{events} events of {payload_len} B"));
        group.throughput(Throughput::Elements(events));
        let mut buffer = vec![0; MAX_FRAME_LEN];
        group.bench_function("build", |b| b.iter(|| build(black_box(&mut buffer), events, payload_len)));

        let len = build(&mut buffer, events, payload_len);
        let bytes = &buffer[..len];
        group.bench_function("check frame", |b| b.iter(|| Frame::check(black_box(bytes), CRC).is_ok()));
        let frame = Frame::check(bytes, CRC).expect("a whole frame");
        let (payload, count) = (frame.payload(), frame.header().event_count);
        group.bench_function("check batch", |b| b.iter(|| Batch::check(black_box(payload), count).is_ok()));
        let batch = Batch::check(payload, count).expect("a lawful batch");
        group.bench_function("walk records", |b| {
            b.iter(|| {
                let records = black_box(&batch).runs().flat_map(|run| run.records());
                records.map(|record| record.payload.len() as u64 ^ record.time_us).fold(0, u64::wrapping_add)
            });
        });
        let mut stamped = bytes.to_vec();
        group.bench_function("stamp", |b| {
            b.iter(|| stamp(black_box(&mut stamped), Index(5), Term(6), LogTime(7), CRC));
        });
        group.finish();
    }
}

fn accumulate(c: &mut Criterion) {
    let mut buffer = vec![0; MAX_FRAME_LEN];
    let len = build(&mut buffer, 4, 100);
    let frame = Frame::check(&buffer[..len], CRC).expect("a whole frame");
    let batch = Batch::check(frame.payload(), 4).expect("a lawful batch");
    let mut accumulator = Accumulator::new();
    let mut group = c.benchmark_group("16 batches of 4 events");
    group.throughput(Throughput::Elements(64));
    group.bench_function("accumulate and seal", |b| {
        b.iter_batched(
            || vec![0; MAX_FRAME_LEN],
            |entry| {
                let mut entry = Some(entry);
                for tag in 0..16_u32 {
                    let added = accumulator.add(Instant::ZERO, &frame, &batch, tag, || entry.take());
                    assert!(added.is_ok(), "64 events fit");
                }
                accumulator.seal(ShardId(0), Index(5), Term(6), LogTime(7), CRC)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn receipts(c: &mut Criterion) {
    let runs: Vec<_> = (0..8).map(|run| RunReceipt::accepted(8, Offset(1_000_000 + run * 8))).collect();
    let (index, term, durability) = (Index(1_000_000), Term(12), Durability::Majority);
    let receipt = Control::Receipt(Receipt { batch: 99, index, term, durability, runs: List::of(&runs) });
    let mut buffer = vec![0; MAX_FRAME_LEN];
    let mut group = c.benchmark_group("receipt of 8 runs");
    group.bench_function("encode", |b| {
        b.iter(|| black_box(&receipt).encode(ShardId(0), black_box(&mut buffer), CRC).expect("it fits"));
    });
    let len = receipt.encode(ShardId(0), &mut buffer, CRC).expect("it fits");
    group.bench_function("check and decode", |b| {
        b.iter(|| {
            let frame = Frame::check(black_box(&buffer[..len]), CRC).expect("a whole frame");
            let Ok(Control::Receipt(receipt)) = Control::decode(frame.header().kind, frame.payload()) else {
                unreachable!("it is a receipt");
            };
            receipt.runs.iter().map(|run| run.first_offset.0).sum::<u64>()
        });
    });
    group.finish();
}

fn checksums(c: &mut Criterion) {
    let data = vec![0x5A; 32_768];
    let mut group = c.benchmark_group("CRC-32 of 32 KiB");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("crc32fast", |b| b.iter(|| CRC.of(black_box(&data))));
    group.bench_function("portable", |b| b.iter(|| Crc32::portable().of(black_box(&data))));
    group.finish();
    c.bench_function("CRC-32 combine", |b| b.iter(|| combine(black_box(1), black_box(2), black_box(32_768))));
}

criterion_group!(benches, batches, accumulate, receipts, checksums);
criterion_main!(benches);
