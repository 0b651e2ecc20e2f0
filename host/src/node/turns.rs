//! Whose handshake of TLS goes on. Each step of one is computed on the thread that serves clients, and where threads are
//! shared that is the engine's. So one is computed at a time, everything else on the thread has [its turns](REST) then, and
//! who waits holds nothing but a socket.
//!
//! Next are in turn the one that has waited longest of those that have begun, and one that has not: of the source that has
//! fewest places among those that have, so that who comes from elsewhere does not wait behind a crowd.

use super::newcomers::{Newcomers, Source};
use core::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::oneshot;
use tokio::task::{spawn_local, yield_now};

/// Handshakes that have begun and are not done, at most. A session holds memory, and who sends one message after the other
/// needs its place for no more than two round trips.
pub(crate) const MAX_BEGUN: usize = 32;
/// Turns of everything else on the thread after each step that was computed.
const REST: usize = 4;

/// The handshakes of those who have connected.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Those that have begun: they hold a session.
    pub(crate) begun: Rc<Newcomers<MAX_BEGUN>>,
    line: RefCell<Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// It is somebody's turn, or that of everything else.
    is_taken: bool,
    /// The last turn was of one that had begun before.
    was_begun: bool,
    /// Those that have begun and wait for another turn.
    begun: VecDeque<Waiting>,
    /// Those that have not.
    new: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    source: Source,
    call: oneshot::Sender<Turn>,
}

/// A handshake that takes its turns.
#[derive(Debug)]
pub(crate) struct Shaking {
    turns: Rc<Turns>,
    source: Source,
    /// The turn that it is, in which it begins.
    first: Option<Turn>,
}

/// Somebody's turn. It passes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Rc<Turns>);

impl Turns {
    /// Nobody waits.
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { begun: Newcomers::new(), line: RefCell::default() })
    }

    /// Waits for the turn in which a handshake may begin.
    pub(crate) async fn begin(self: &Rc<Self>, source: Source) -> Shaking {
        let first = Some(self.wait(source, |line| &mut line.new).await);
        Shaking { turns: Rc::clone(self), source, first }
    }

    async fn wait(self: &Rc<Self>, source: Source, queue: fn(&mut Line) -> &mut VecDeque<Waiting>) -> Turn {
        let (call, called) = oneshot::channel();
        queue(&mut self.line.borrow_mut()).push_back(Waiting { source, call });
        if !self.line.borrow().is_taken {
            self.call_next();
        }
        called.await.expect("who waits is called")
    }

    /// Makes it the turn of whoever is next. One who waits no more when it is called passes it on by that.
    fn call_next(self: &Rc<Self>) {
        let next = self.line.borrow_mut().next(&self.begun);
        if let Some(next) = next {
            drop(next.call.send(Turn(Rc::clone(self))));
        }
    }
}

impl Shaking {
    /// Waits for its next turn.
    pub(crate) async fn turn(&mut self) -> Turn {
        match self.first.take() {
            Some(first) => first,
            None => self.turns.wait(self.source, |line| &mut line.begun).await,
        }
    }
}

impl Line {
    fn next(&mut self, places: &Newcomers<MAX_BEGUN>) -> Option<Waiting> {
        self.begun.retain(|waiting| !waiting.call.is_closed());
        self.new.retain(|waiting| !waiting.call.is_closed());
        // Of the sources with the fewest places the one that waits for longest: whoever has many is no longer served for it.
        let first = |queue: &VecDeque<Waiting>| (0..queue.len()).min_by_key(|&at| places.of(queue[at].source));
        let (begun, new) = (first(&self.begun), first(&self.new));
        let is_begun = begun.is_some() && (new.is_none() || !self.was_begun);
        let next = match (begun, new) {
            (Some(at), _) if is_begun => self.begun.remove(at),
            (_, new) => new.and_then(|at| self.new.remove(at)),
        };
        (self.is_taken, self.was_begun) = (next.is_some(), is_begun);
        next
    }
}

impl Turn {
    /// Computes a step of a handshake; the next turn is after those of everything else.
    pub(crate) fn compute<T>(self, step: impl FnOnce() -> T) -> T {
        let computed = step();
        spawn_local(async move {
            for _ in 0..REST {
                yield_now().await;
            }
            drop(self);
        });
        computed
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.call_next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use core::net::IpAddr;
    use tokio::runtime::Builder;
    use tokio::task::LocalSet;

    fn source(host: u8) -> Source {
        Source::from(IpAddr::from([10, 0, 0, host]))
    }

    fn on_one_thread(test: impl Future<Output = ()>) {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn between_two_steps_of_a_crowd_everything_else_has_its_turns() {
        const CROWD: usize = 100;
        on_one_thread(async {
            let (turns, steps) = (Turns::new(), Rc::new(Cell::new(0)));
            let step = {
                let steps = Rc::clone(&steps);
                move || steps.set(steps.get() + 1)
            };
            for _ in 0..CROWD {
                let (turns, step) = (Rc::clone(&turns), step.clone());
                spawn_local(async move {
                    let mut shaking = turns.begin(source(1)).await;
                    shaking.turn().await.compute(&step);
                    shaking.turn().await.compute(&step);
                });
            }
            // As the engine does that has something to do all the time.
            let mut passed = Vec::new();
            while steps.get() < 2 * CROWD {
                let before = steps.get();
                yield_now().await;
                passed.push(steps.get() - before);
            }
            assert!(passed.iter().all(|&steps| steps <= 1), "{passed:?}");
            let mut since = REST;
            for steps in passed {
                since += 1;
                if steps == 1 {
                    assert!(since >= REST, "a step after {since} turns");
                    since = 0;
                }
            }
        });
    }

    /// Has each of `sources` wait, in this order, and notes whose turn it is.
    fn queue(turns: &Rc<Turns>, called: &Rc<RefCell<Vec<u8>>>, hosts: &[u8]) {
        for &host in hosts {
            let (turns, called) = (Rc::clone(turns), Rc::clone(called));
            spawn_local(async move {
                let mut shaking = turns.begin(source(host)).await;
                called.borrow_mut().push(host);
                let place = turns.begun.enter(source(host));
                shaking.turn().await.compute(|| ());
                // It has an answer to come.
                core::future::pending::<()>().await;
                drop(place);
            });
        }
    }

    #[test]
    fn who_comes_from_elsewhere_does_not_wait_behind_a_crowd() {
        on_one_thread(async {
            let (turns, called) = (Turns::new(), Rc::default());
            queue(&turns, &called, &[1, 1, 1, 1, 1, 2, 3, 2]);
            while called.borrow().len() < 8 {
                yield_now().await;
            }
            assert_eq!(called.borrow()[..], [1, 2, 3, 1, 2, 1, 1, 1]);
        });
    }

    #[test]
    fn those_who_have_begun_and_those_who_have_not_take_turns() {
        on_one_thread(async {
            let (turns, called) = (Turns::new(), Rc::new(RefCell::new(Vec::new())));
            let mut others = Vec::new();
            for _ in 0..3 {
                let mut other = turns.begin(source(1)).await;
                drop(other.turn().await);
                others.push(other);
            }
            let held = turns.begin(source(1)).await;
            for number in 0..6 {
                let (turns, called, other) = (Rc::clone(&turns), Rc::clone(&called), others.pop());
                spawn_local(async move {
                    let mut shaking = match other {
                        Some(begun) => begun,
                        None => turns.begin(source(1)).await,
                    };
                    let turn = shaking.turn().await;
                    called.borrow_mut().push(number);
                    drop(turn);
                });
            }
            yield_now().await;
            assert!(called.borrow().is_empty(), "it is somebody's turn");
            drop(held);
            while called.borrow().len() < 6 {
                yield_now().await;
            }
            assert_eq!(called.borrow()[..], [0, 3, 1, 4, 2, 5]);
        });
    }

    #[test]
    fn who_has_begun_elsewhere_does_not_wait_behind_a_crowd_that_has_begun() {
        on_one_thread(async {
            let (turns, called) = (Turns::new(), Rc::new(RefCell::new(Vec::new())));
            let mut all = Vec::new();
            for host in [1, 1, 1, 2] {
                let mut begun = turns.begin(source(host)).await;
                drop(begun.turn().await);
                all.push((host, begun, turns.begun.enter(source(host))));
            }
            let held = turns.begin(source(3)).await;
            for (host, mut begun, place) in all {
                let called = Rc::clone(&called);
                spawn_local(async move {
                    let turn = begun.turn().await;
                    called.borrow_mut().push(host);
                    drop((turn, place));
                });
            }
            yield_now().await;
            drop(held);
            while called.borrow().len() < 4 {
                yield_now().await;
            }
            assert_eq!(called.borrow()[..], [2, 1, 1, 1]);
        });
    }

    #[test]
    fn a_turn_that_nobody_takes_passes_on() {
        on_one_thread(async {
            let turns = Turns::new();
            let first = turns.begin(source(1)).await;
            let gone = spawn_local({
                let turns = Rc::clone(&turns);
                async move { drop(turns.begin(source(1)).await) }
            });
            let called = spawn_local({
                let turns = Rc::clone(&turns);
                async move { turns.begin(source(1)).await.turn().await.compute(|| 7) }
            });
            yield_now().await;
            // It is called, and gone before it hears of it.
            drop(first);
            gone.abort();
            assert_eq!(called.await.expect("it ends"), 7);
        });
    }
}
