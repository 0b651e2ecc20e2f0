//! Rings between two threads whose ends are used by tasks: push, pop, and waking the side that sleeps.
//!
//! The ring and the doorbell are the core's; here they get the runtime's [`Notify`]. A consumer is woken only if it
//! sleeps, a producer that waits for room only when room was made. Both sides look at the ring once more after they
//! announced their sleep, so no wake-up is lost.

use core::cell::RefCell;
use core::pin::pin;
use eventstream_core::doorbell::Doorbell;
use eventstream_core::ring::{Consumer, Full, Producer, Ring};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// Events that sockets have put up for the engine and it has not taken. When full, sockets are not read.
pub(crate) const EVENTS: usize = 1_024;
/// Commands that the engine has put up for sockets. When full, the engine takes no new input.
pub(crate) const COMMANDS: usize = 4_096;

/// Wakes one sleeping task, from any thread.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    doorbell: Arc<Doorbell>,
    sleeper: Arc<Notify>,
}

impl Bell {
    /// A bell that wakes `sleeper`. A task that waits for several things has one `Notify` and a bell for each.
    pub(crate) fn new(sleeper: Arc<Notify>) -> Self {
        Self { doorbell: Arc::default(), sleeper }
    }

    /// The bit alone, for a producer that is not the node's own. Who is told to wake calls [`Self::waker`].
    pub(crate) fn doorbell(&self) -> Arc<Doorbell> {
        Arc::clone(&self.doorbell)
    }

    /// Wakes the sleeper, rung or not.
    pub(crate) fn waker(&self) -> impl Fn() + Send + 'static {
        let sleeper = Arc::clone(&self.sleeper);
        move || sleeper.notify_one()
    }

    /// To be called after a change that the sleeper may wait for.
    pub(crate) fn ring(&self) {
        if self.doorbell.ring() {
            self.sleeper.notify_one();
        }
    }

    /// Announces a sleep. What it waits for is to be looked at after this and before the sleep.
    pub(crate) fn arm(&self) {
        self.doorbell.arm();
    }

    /// The sleep is over, or was not needed.
    pub(crate) fn disarm(&self) {
        self.doorbell.disarm();
    }

    /// Sleeps until the bell is rung, if `idle` still holds after that was announced.
    pub(crate) async fn sleep_while(&self, idle: impl FnOnce() -> bool) {
        if self.doorbell.arm_if(idle) {
            self.sleeper.notified().await;
            self.doorbell.disarm();
        }
    }
}

/// Rings when it is dropped, so that a sleeper learns that the other end is gone. Stands behind the ring's end in its
/// struct, since fields are dropped in the order of their declaration.
#[derive(Debug)]
struct LastRing(Arc<Bell>);

impl Drop for LastRing {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// Makes a ring whose producing end belongs to many tasks of one thread, and its consuming end to one task that sleeps
/// at `consumer`.
pub(crate) fn many_to_one<T: Send + 'static, const N: usize>(consumer: &Arc<Bell>) -> (Sink<T, N>, Inbox<T, N>) {
    let (producer, ring) = ring();
    let room = Arc::new(Room { doorbell: Doorbell::new(), waiting: Notify::new() });
    let sink =
        Sink { producer: RefCell::new(producer), consumer: LastRing(Arc::clone(consumer)), room: Arc::clone(&room) };
    (sink, Inbox { ring, on_room: OnRoom::Tasks(room) })
}

/// Makes a ring whose producer is one task that does not wait while it pushes: what does not fit is kept, and the
/// task sleeps at `producer` when it chooses to wait for room.
pub(crate) fn one_to_one<T: Send + 'static, const N: usize>(
    consumer: &Arc<Bell>,
    producer: &Arc<Notify>,
) -> (Outbox<T, N>, Inbox<T, N>) {
    let (end, ring) = ring();
    let room = Arc::new(Bell::new(Arc::clone(producer)));
    let consumer = LastRing(Arc::clone(consumer));
    let outbox = Outbox { producer: end, kept: VecDeque::new(), consumer, room: Arc::clone(&room) };
    (outbox, Inbox { ring, on_room: OnRoom::Task(room) })
}

fn ring<T: Send + 'static, const N: usize>() -> (Producer<'static, T, N>, Consumer<'static, T, N>) {
    Ring::init(Box::leak(Box::<Ring<T, N>>::new_uninit())).split()
}

/// The producing end, shared by the tasks of one thread. They wait while the ring is full.
#[derive(Debug)]
pub(crate) struct Sink<T: 'static, const N: usize> {
    producer: RefCell<Producer<'static, T, N>>,
    consumer: LastRing,
    room: Arc<Room>,
}

/// Where the tasks that wait for room sleep.
#[derive(Debug)]
struct Room {
    doorbell: Doorbell,
    waiting: Notify,
}

impl<T, const N: usize> Sink<T, N> {
    /// Puts `item` into the ring, and waits for room while there is none. Without effect once the consumer is gone.
    pub(crate) async fn send(&self, item: T) {
        let mut item = item;
        while let Err(Full(refused)) = self.try_send(item) {
            item = refused;
            self.wait_for_room().await;
        }
    }

    async fn wait_for_room(&self) {
        let mut woken = pin!(self.room.waiting.notified());
        woken.as_mut().enable();
        if self.room.doorbell.arm_if(|| self.is_full()) {
            woken.await;
        } else {
            // The bell was disarmed for those who sleep too: they are to look again.
            self.room.waiting.notify_waiters();
        }
    }

    fn try_send(&self, item: T) -> Result<(), Full<T>> {
        let mut producer = self.producer.borrow_mut();
        if producer.is_abandoned() {
            return Ok(());
        }
        producer.push(item)?;
        self.consumer.0.ring();
        Ok(())
    }

    fn is_full(&self) -> bool {
        let producer = self.producer.borrow();
        producer.free() == 0 && !producer.is_abandoned()
    }
}

/// The producing end of one task that never waits in the middle of its work.
#[derive(Debug)]
pub(crate) struct Outbox<T: 'static, const N: usize> {
    producer: Producer<'static, T, N>,
    /// What did not fit, oldest first. A step of the task adds to it, and the task makes no step while something is in it.
    kept: VecDeque<T>,
    consumer: LastRing,
    room: Arc<Bell>,
}

impl<T, const N: usize> Outbox<T, N> {
    /// Puts `item` into the ring, or keeps it until [`Self::flush`] finds room.
    pub(crate) fn send(&mut self, item: T) {
        if !self.kept.is_empty() {
            self.kept.push_back(item);
        } else if let Err(Full(item)) = self.producer.push(item) {
            self.kept.push_back(item);
        }
    }

    /// Moves what was kept into the ring as far as there is room, and wakes the consumer. Returns whether nothing is
    /// kept any more. What is for a consumer that is gone is dropped.
    pub(crate) fn flush(&mut self) -> bool {
        if self.producer.is_abandoned() {
            self.kept.clear();
            return true;
        }
        let kept = &mut self.kept;
        self.producer.push_each(core::iter::from_fn(|| kept.pop_front()));
        self.consumer.0.ring();
        self.kept.is_empty()
    }

    /// Whether something is kept.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.kept.is_empty()
    }

    /// If something is kept, announces that the task is about to sleep until there is room. Returns whether there is
    /// some by now, so that it must not sleep.
    pub(crate) fn has_room_again(&self) -> bool {
        self.is_blocked() && !self.room.doorbell.arm_if(|| self.producer.free() == 0 && !self.producer.is_abandoned())
    }
}

/// The consuming end.
#[derive(Debug)]
pub(crate) struct Inbox<T: 'static, const N: usize> {
    ring: Consumer<'static, T, N>,
    on_room: OnRoom,
}

/// Whom to tell that there is room again.
#[derive(Debug)]
enum OnRoom {
    Tasks(Arc<Room>),
    Task(Arc<Bell>),
}

impl<T, const N: usize> Inbox<T, N> {
    /// The oldest item. [`Self::made_room`] is to be called when the consumer has taken what it wants for now.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.ring.pop()
    }

    /// Whether there is nothing to pop at this moment.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Whether the producer is gone and everything was popped.
    pub(crate) fn is_over(&self) -> bool {
        self.ring.is_abandoned() && self.ring.is_empty()
    }

    /// Wakes who waits for room.
    pub(crate) fn made_room(&self) {
        match &self.on_room {
            OnRoom::Tasks(room) if room.doorbell.ring() => room.waiting.notify_waiters(),
            OnRoom::Tasks(_) => {}
            OnRoom::Task(bell) => bell.ring(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::pin::Pin;
    use core::task::Poll;
    use std::rc::Rc;
    use tokio::task::{LocalSet, spawn_local};

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, test);
    }

    /// Whether a future is ready.
    async fn is_ready(future: &mut (impl Future + Unpin)) -> bool {
        core::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_ready())).await
    }

    #[test]
    fn tasks_wait_for_room_and_none_is_forgotten() {
        run(async {
            let bell = Arc::new(Bell::default());
            let (sink, mut inbox) = many_to_one::<u32, 2>(&bell);
            let sink = Rc::new(sink);
            let tasks: Vec<_> = (0..5)
                .map(|task| {
                    let sink = Rc::clone(&sink);
                    spawn_local(async move {
                        for number in 0..100 {
                            sink.send(task * 1_000 + number).await;
                        }
                    })
                })
                .collect();
            let mut next = [0; 5];
            for _ in 0..500 {
                let item = loop {
                    if let Some(item) = inbox.pop() {
                        break item;
                    }
                    bell.sleep_while(|| inbox.is_empty()).await;
                };
                inbox.made_room();
                let (task, number) = (item as usize / 1_000, item % 1_000);
                assert_eq!(number, next[task], "each task's items keep their order");
                next[task] += 1;
            }
            assert_eq!(next, [100; 5]);
            for task in tasks {
                task.await.expect("the task ends");
            }
        });
    }

    #[test]
    fn a_task_that_finds_room_at_last_leaves_none_asleep() {
        run(async {
            let (sink, mut inbox) = many_to_one::<u32, 2>(&Arc::default());
            (0..2).for_each(|item| assert!(sink.try_send(item).is_ok()));
            let mut asleep = Box::pin(sink.send(2));
            assert!(!is_ready(&mut asleep).await);
            // Another task found the ring full; the consumer takes an item before that task looks again.
            assert_eq!(inbox.pop(), Some(0));
            sink.wait_for_room().await;
            inbox.made_room();
            assert!(is_ready(&mut asleep).await);
        });
    }

    #[test]
    fn an_outbox_keeps_what_does_not_fit_in_order() {
        let (mut outbox, mut inbox) = one_to_one::<u32, 2>(&Arc::default(), &Arc::default());
        (0..5).for_each(|item| outbox.send(item));
        assert!(!outbox.flush());
        assert!(!outbox.has_room_again());
        assert_eq!((inbox.pop(), inbox.pop(), inbox.pop()), (Some(0), Some(1), None));
        assert!(outbox.has_room_again());
        assert!(!outbox.flush());
        assert_eq!((inbox.pop(), inbox.pop()), (Some(2), Some(3)));
        assert!(outbox.flush());
        assert_eq!(inbox.pop(), Some(4));
    }

    #[test]
    fn a_consumer_that_is_gone_stops_nobody() {
        run(async {
            let (sink, inbox) = many_to_one::<u32, 2>(&Arc::default());
            drop(inbox);
            for item in 0..5 {
                sink.send(item).await;
            }
            let (mut outbox, inbox) = one_to_one::<u32, 2>(&Arc::default(), &Arc::default());
            (0..5).for_each(|item| outbox.send(item));
            drop(inbox);
            assert!(outbox.flush());
        });
    }
}
