//! Producers: they number events, send them pipelined, send them again under the same sequences when the leader changes
//! or nobody answers, begin new lives, and sometimes have to drop events and say so.

use crate::model::Model;
use crate::payload::{self, Event, TOPICS, producer_id};
use crate::plan::{MS, Plan};
use crate::rng::Rng;
use crate::stats::{Happening, Stats};
use crate::violation::{Checked, ensure};
use eventstream_core::batch::{self, BatchBuilder, Source};
use eventstream_core::crc::Crc32;
use eventstream_core::id::{Epoch, Sequence, ShardId};
use eventstream_core::receipt::{RunReceipt, RunRefusal};
use eventstream_core::wire::MAX_FRAME_LEN;
use std::collections::VecDeque;

/// Checksums as the host computes them.
pub(crate) const CRC: Crc32 = Crc32::with(|crc, bytes| {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
});

/// The frames that producers have made. A frame that is sent again exists once.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    frames: Vec<(u32, u32)>,
}

/// The number of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameId(u32);

impl Frames {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }

    pub(crate) fn get(&self, id: FrameId) -> &[u8] {
        let (start, len) = self.frames[id.0 as usize];
        &self.bytes[start as usize..][..len as usize]
    }

    /// Builds a frame at the end of what is there.
    fn build(&mut self, fill: impl FnOnce(BatchBuilder<&mut [u8]>) -> usize) -> FrameId {
        let start = self.bytes.len();
        self.bytes.resize(start + MAX_FRAME_LEN, 0);
        let len = fill(BatchBuilder::new(&mut self.bytes[start..]));
        self.bytes.truncate(start + len);
        self.frames.push((start as u32, len as u32));
        FrameId(self.frames.len() as u32 - 1)
    }
}

/// What a producer asks of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    Open { life: u16 },
    Batch(FrameId),
}

/// What a member tells a producer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Opened {
        life: u16,
        epoch: Epoch,
        next: Sequence,
    },
    /// The cluster has no room for one more producer.
    NotOpened,
    /// The receipts of a batch, by place and number.
    Receipts {
        batch: u64,
        first: u32,
        count: u16,
    },
    /// Also pushed, when the view of who leads changes.
    Leader {
        term: u64,
        leader: Option<usize>,
    },
}

/// What a producer may use while it acts.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: u64,
    pub(crate) members: usize,
    pub(crate) plan: &'a Plan,
    pub(crate) rng: &'a mut Rng,
    pub(crate) stats: &'a mut Stats,
    pub(crate) frames: &'a mut Frames,
    pub(crate) model: &'a Model,
    pub(crate) receipts: &'a [RunReceipt],
    /// Requests to be sent: to whom, what, and how much later.
    pub(crate) requests: &'a mut Vec<(usize, Request, u64)>,
}

/// Consecutive events of a batch in one topic.
#[derive(Clone, Copy, Debug, Default)]
struct SentRun {
    topic: u8,
    first: u64,
    count: u64,
}

/// A batch that is not acknowledged.
#[derive(Clone, Copy, Debug)]
struct Sent {
    batch: u64,
    frame: FrameId,
    /// The second has no events if the batch has one topic.
    runs: [SentRun; 2],
    after_gap: bool,
}

impl Sent {
    fn runs(&self) -> impl Iterator<Item = SentRun> {
        self.runs.into_iter().filter(|run| run.count > 0)
    }
}

/// Where a producer gets its epochs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbering {
    /// From the cluster, which also says where to go on; what was not acknowledged before is given up.
    Asks,
    /// It has storage of its own: it counts its lives itself and goes on with the very same events.
    Remembers,
}

/// One producer.
#[derive(Debug)]
pub(crate) struct Producer {
    number: u8,
    numbering: Numbering,
    life: u16,
    /// `None` while the cluster is asked.
    epoch: Option<u32>,
    next_sequence: u64,
    /// Events before the next one were dropped.
    after_gap: bool,
    window: VecDeque<Sent>,
    next_batch: u64,
    leader: (u64, Option<usize>),
    target: usize,
    heard_at: u64,
    /// When to send everything again because of a gap.
    rewind_at: u64,
    /// Topics that the cluster has no room for, a bit each.
    refused_topics: u8,
    /// The cluster has no room for it.
    is_refused: bool,
    /// The cluster has known it.
    is_known: bool,
    /// It has asked for an epoch, and may be fenced by a request of its own that comes late.
    has_asked: bool,
    /// It has no work until then.
    rests_until: u64,
}

impl Producer {
    pub(crate) fn new(number: u8, rng: &mut Rng, members: usize) -> Self {
        let numbering = if rng.coin() { Numbering::Asks } else { Numbering::Remembers };
        Self {
            number,
            numbering,
            life: 1,
            epoch: (numbering == Numbering::Remembers).then_some(1),
            next_sequence: 0,
            after_gap: false,
            window: VecDeque::new(),
            next_batch: 1,
            leader: (0, None),
            target: rng.index(members),
            heard_at: 0,
            rewind_at: u64::MAX,
            refused_topics: 0,
            is_refused: false,
            is_known: false,
            has_asked: numbering == Numbering::Asks,
            rests_until: 0,
        }
    }

    /// Whether everything that it sent was answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_refused || self.window.is_empty() && self.epoch.is_some()
    }

    /// Looks at its work. `may_begin`: new batches may be begun.
    pub(crate) fn think(&mut self, s: &mut Surroundings<'_>, may_begin: bool) {
        if self.is_refused {
            // Room may have been made since.
            self.is_refused = !(may_begin && s.plan.evicts() && s.rng.chance(200));
            return;
        }
        if s.now < self.rests_until && s.plan.producer_rest > 0 {
            return;
        }
        if s.rng.chance(s.plan.producer_restart) {
            self.restart(s);
        }
        let waits = self.epoch.is_none() || !self.window.is_empty();
        if waits && s.now >= self.heard_at + s.plan.patience_us {
            self.target = self.leader.1.filter(|_| s.rng.coin()).unwrap_or_else(|| s.rng.index(s.members));
            self.heard_at = s.now;
            self.send_again(s);
        } else if s.now >= self.rewind_at {
            self.send_again(s);
        }
        if !waits {
            self.heard_at = s.now;
        }
        if !waits && s.plan.producer_rest > 0 && s.rng.chance(s.plan.producer_rest) {
            self.rests_until = s.now + s.rng.magnitude(MS, s.plan.rest_us);
        } else if may_begin && self.epoch.is_some() && self.window.len() < s.plan.window {
            self.begin_batch(s);
        }
    }

    fn begin_batch(&mut self, s: &mut Surroundings<'_>) {
        // Only behind everything else is a gap a gap: an earlier run that came later would pass for a duplicate.
        if self.window.is_empty() && s.rng.chance(s.plan.producer_gap) {
            self.next_sequence += s.rng.range(1, 5);
            self.after_gap = true;
        }
        let count = s.rng.range(1, s.plan.batch_events);
        let first_count = if s.rng.coin() { count } else { s.rng.range(1, count) };
        let (topic, other) = (self.choose_topic(s), self.choose_topic(s));
        let first = SentRun { topic, first: self.next_sequence, count: first_count };
        let second = SentRun { topic: other, first: self.next_sequence + first_count, count: count - first_count };
        // Two runs of one topic would be one.
        let runs = if topic == other { [SentRun { count, ..first }, SentRun::default()] } else { [first, second] };
        self.next_sequence += count;
        let after_gap = core::mem::take(&mut self.after_gap);
        let sent = self.build(runs, after_gap, s);
        self.window.push_back(sent);
        s.requests.push((self.target, Request::Batch(sent.frame), 0));
    }

    fn choose_topic(&self, s: &mut Surroundings<'_>) -> u8 {
        let any = s.rng.index(s.plan.topics) as u8;
        let refused = |topic: u8| self.refused_topics >> topic & 1 == 1;
        if !refused(any) {
            return any;
        }
        (0..s.plan.topics as u8).find(|&topic| !refused(topic)).unwrap_or(any)
    }

    fn build(&mut self, runs: [SentRun; 2], after_gap: bool, s: &mut Surroundings<'_>) -> Sent {
        let batch = self.next_batch;
        self.next_batch += 1;
        let (number, life, epoch) = (self.number, self.life, self.epoch.unwrap_or(0));
        let (rng, padding, now) = (&mut *s.rng, s.plan.padding, s.now);
        let frame = s.frames.build(|mut builder| {
            let mut text = [b'.'; payload::LEN + 400];
            let mut starts_gap = after_gap;
            for run in runs {
                for sequence in run.first..run.first + run.count {
                    Event { producer: number, life, sequence: sequence as u32 }.encode(&mut text);
                    let len = payload::LEN + rng.below(padding + 1) as usize;
                    let event = batch::Event {
                        topic: TOPICS[usize::from(run.topic)],
                        source: Source::Producer {
                            producer: producer_id(number),
                            epoch: Epoch(epoch),
                            sequence: Sequence(sequence),
                            after_gap: core::mem::take(&mut starts_gap),
                        },
                        time_us: now,
                        key: &text[..1],
                        payload: &text[..len],
                    };
                    builder.push(&event).expect("the plan keeps batches below the limits of the format");
                }
            }
            builder.finish(ShardId(0), batch, now, CRC).1
        });
        Sent { batch, frame, runs, after_gap }
    }

    fn send_again(&mut self, s: &mut Surroundings<'_>) {
        self.rewind_at = u64::MAX;
        if self.epoch.is_none() {
            s.requests.push((self.target, Request::Open { life: self.life }, 0));
        }
        s.stats.count(Happening::Resend, self.window.len() as u64);
        s.requests.extend(self.window.iter().map(|sent| (self.target, Request::Batch(sent.frame), 0)));
    }

    /// The process starts again. What it had sent before may still be on its way.
    fn restart(&mut self, s: &mut Surroundings<'_>) {
        s.stats.count(Happening::ProducerRestart, 1);
        for sent in &self.window {
            if s.rng.coin() {
                let delay = s.rng.below(s.plan.patience_us);
                s.requests.push((s.rng.index(s.members), Request::Batch(sent.frame), delay));
            }
        }
        match self.numbering {
            Numbering::Asks => self.begin_life(s),
            Numbering::Remembers => {
                self.epoch = self.epoch.map(|epoch| epoch + 1);
                for at in 0..self.window.len() {
                    let Sent { runs, after_gap, .. } = self.window[at];
                    self.window[at] = self.build(runs, after_gap, s);
                }
                self.send_again(s);
            }
        }
    }

    fn begin_life(&mut self, s: &mut Surroundings<'_>) {
        self.life += 1;
        self.epoch = None;
        self.after_gap = false;
        self.window.clear();
        self.heard_at = s.now;
        self.send_again(s);
    }

    /// The cluster has forgotten it. What was not acknowledged may be in the log
    /// or not: it is given up. Who counts its lives itself goes on with its numbers, in an epoch that the cluster gives it.
    fn resume(&mut self, s: &mut Surroundings<'_>) {
        s.stats.count(Happening::Resumed, 1);
        self.has_asked = true;
        self.begin_life(s);
    }

    /// The event `sequence`, which the log does not take, is given up with all after it: their numbers are given to
    /// others, in a new epoch, so that what is still on its way is fenced.
    fn give_up_from(&mut self, sequence: u64, s: &mut Surroundings<'_>) {
        if self.numbering == Numbering::Asks {
            return self.begin_life(s);
        }
        self.life += 1;
        self.epoch = self.epoch.map(|epoch| epoch + 1);
        self.next_sequence = sequence;
        self.window.clear();
    }

    /// A member has told it something.
    pub(crate) fn hear(&mut self, answer: Answer, s: &mut Surroundings<'_>) -> Checked {
        match answer {
            Answer::Opened { life, epoch, next } if life == self.life && self.epoch.is_none() => {
                self.epoch = Some(epoch.0);
                // What lies between is not known to the cluster any more, or was given up.
                self.after_gap = self.numbering == Numbering::Remembers && self.next_sequence > next.0;
                if !self.after_gap {
                    self.next_sequence = next.0;
                }
                self.is_known = true;
                self.heard_at = s.now;
            }
            Answer::Opened { .. } => {}
            Answer::NotOpened => self.is_refused = true,
            Answer::Receipts { batch, first, count } => {
                let receipts = &s.receipts[first as usize..][..usize::from(count)];
                if let Some(at) = self.window.iter().position(|sent| sent.batch == batch) {
                    return self.take_receipts(at, receipts, s);
                }
            }
            Answer::Leader { term, leader } => {
                if term > self.leader.0 || term == self.leader.0 && self.leader.1.is_none() && leader.is_some() {
                    self.leader = (term, leader);
                    if let Some(leader) = leader {
                        self.target = leader;
                        self.send_again(s);
                    }
                } else if term == self.leader.0 && leader.is_some_and(|leader| leader != self.target) {
                    // It has asked around, and hears that it was right before.
                    self.target = leader.unwrap_or(self.target);
                    self.rewind_at = self.rewind_at.min(s.now + s.plan.patience_us / 8);
                }
            }
        }
        Ok(())
    }

    /// Invariant 5: what is acknowledged is in the log, once and where the receipt says, and it is this very event.
    fn take_receipts(&mut self, at: usize, receipts: &[RunReceipt], s: &mut Surroundings<'_>) -> Checked {
        let sent = self.window[at];
        ensure!(receipts.len() == sent.runs().count(), Contract, "{} receipts for {sent:?}", receipts.len());
        self.heard_at = s.now;
        let mut is_done = true;
        for (run, receipt) in sent.runs().zip(receipts) {
            self.check_receipt(run, receipt, s.model)?;
            let is_of_nobody =
                matches!(receipt.refused, Some(RunRefusal::ProducerUnknown | RunRefusal::ProducerTableFull));
            let is_later = run.first > 0 && !sent.after_gap;
            self.is_known |= receipt.duplicates + receipt.accepted > 0 || is_later && !is_of_nobody;
            match receipt.refused {
                None => continue,
                // Not only because an earlier run is still on its way.
                Some(RunRefusal::ProducerUnknown) if self.is_known || run.first == 0 || sent.after_gap => {
                    self.resume(s);
                    return Ok(());
                }
                Some(RunRefusal::SequenceGap { .. } | RunRefusal::ProducerUnknown) => {
                    self.rewind_at = self.rewind_at.min(s.now + s.plan.patience_us / 8);
                }
                Some(RunRefusal::Fenced { .. }) => {
                    let number = self.number;
                    ensure!(self.has_asked, Outcome, "producer {number} was fenced by nobody");
                    self.begin_life(s);
                    return Ok(());
                }
                Some(RunRefusal::TopicTableFull) => {
                    self.refused_topics |= 1 << run.topic;
                    // The gap before the run is not recorded either.
                    self.after_gap = sent.after_gap && run.first == sent.runs[0].first && receipt.duplicates == 0;
                    self.give_up_from(run.first + u64::from(receipt.duplicates), s);
                    return Ok(());
                }
                Some(_) => self.is_refused = true,
            }
            is_done = false;
        }
        if is_done {
            s.stats.count(Happening::Ack, 1);
            self.window.remove(at);
        }
        Ok(())
    }

    fn check_receipt(&self, run: SentRun, receipt: &RunReceipt, model: &Model) -> Checked {
        let (duplicates, accepted) = (u64::from(receipt.duplicates), u64::from(receipt.accepted));
        ensure!(
            (duplicates + accepted == run.count) == receipt.refused.is_none() && duplicates + accepted <= run.count,
            Contract,
            "{receipt:?} for {run:?}"
        );
        for at in 0..duplicates + accepted {
            let Some(place) = model.place(self.number, run.first + at, self.life) else {
                let (sequence, number) = (run.first + at, self.number);
                ensure!(false, ExactlyOnce, "event {sequence} of producer {number} is acknowledged and not there");
                return Ok(());
            };
            let offset = match at.checked_sub(duplicates) {
                Some(after) => Some(receipt.first_offset.0 + after),
                None => receipt.duplicate_offset.map(|offset| offset.0 + at),
            };
            ensure!(
                (place.topic, place.life) == (run.topic, self.life)
                    && offset.is_none_or(|offset| offset == u64::from(place.offset)),
                ExactlyOnce,
                "event {} of producer {} (life {}) is acknowledged at {offset:?}, and there is {place:?}",
                run.first + at,
                self.number,
                self.life
            );
        }
        Ok(())
    }
}
