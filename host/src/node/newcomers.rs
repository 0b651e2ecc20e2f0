//! Connections of whom it is not known yet who they are, and which of them goes when there is no room for one more.

use core::cell::RefCell;
use core::net::{IpAddr, Ipv6Addr};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use tokio::sync::Notify;

/// Where a connection comes from, as far as that tells one machine from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl From<IpAddr> for Source {
    /// Of an address of IPv6 the first 64 bits: a machine may have as many of the others as it likes.
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// Places for at most `MAX` of them.
#[derive(Debug)]
pub(crate) struct Newcomers<const MAX: usize>(RefCell<Holders>);

#[derive(Debug, Default)]
struct Holders {
    /// Oldest first.
    all: VecDeque<Rc<Holder>>,
    /// How many of each source.
    count: HashMap<Source, usize>,
}

/// Who holds a place.
#[derive(Debug)]
struct Holder {
    source: Source,
    lost: Notify,
}

/// A newcomer's place, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<const MAX: usize> {
    among: Rc<Newcomers<MAX>>,
    holder: Rc<Holder>,
}

impl<const MAX: usize> Newcomers<MAX> {
    /// All places are free.
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self(RefCell::default()))
    }

    /// A place for one more. If there is none, one is lost by the source that would have most: by the oldest of its
    /// newcomers. So a machine that sends many costs others nothing, and its own the place that they had for longest.
    pub(crate) fn enter(self: &Rc<Self>, source: Source) -> Place<MAX> {
        let holder = Rc::new(Holder { source, lost: Notify::new() });
        let mut holders = self.0.borrow_mut();
        *holders.count.entry(source).or_default() += 1;
        if holders.all.len() >= MAX {
            holders.push_out_one();
        }
        holders.all.push_back(Rc::clone(&holder));
        Place { among: Rc::clone(self), holder }
    }

    /// A newcomer of the source that has most loses its place; false if there is none.
    pub(crate) fn push_out_one(&self) -> bool {
        self.0.borrow_mut().push_out_one()
    }

    /// Places that newcomers from there hold.
    pub(crate) fn of(&self, source: Source) -> usize {
        self.0.borrow().of(source)
    }
}

impl<const MAX: usize> Place<MAX> {
    /// Returns when the place is lost.
    pub(crate) async fn lost(&self) {
        self.holder.lost.notified().await;
    }
}

impl<const MAX: usize> Drop for Place<MAX> {
    fn drop(&mut self) {
        let mut holders = self.among.0.borrow_mut();
        let at = holders.all.iter().position(|other| Rc::ptr_eq(other, &self.holder));
        if let Some(at) = at {
            holders.remove(at);
        }
    }
}

impl Holders {
    fn of(&self, source: Source) -> usize {
        self.count.get(&source).copied().unwrap_or_default()
    }

    /// Takes the place of the oldest of those whose source has most; false if nobody has one.
    fn push_out_one(&mut self) -> bool {
        let most = self.count.values().max();
        let lost = self.all.iter().position(|holder| self.count.get(&holder.source) == most);
        let lost = lost.and_then(|at| self.remove(at));
        lost.is_some_and(|holder| {
            holder.lost.notify_one();
            true
        })
    }

    fn remove(&mut self, at: usize) -> Option<Rc<Holder>> {
        let holder = self.all.remove(at)?;
        match self.of(holder.source) {
            ..=1 => self.count.remove(&holder.source),
            more => self.count.insert(holder.source, more - 1),
        };
        Some(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(host: u8) -> Source {
        Source::from(IpAddr::from([10, 0, 0, host]))
    }

    /// Whether a place is still there.
    fn holds<const MAX: usize>(place: &Place<MAX>) -> bool {
        place.among.0.borrow().all.iter().any(|holder| Rc::ptr_eq(holder, &place.holder))
    }

    #[test]
    fn who_comes_from_elsewhere_keeps_its_place_however_many_come() {
        let places = Newcomers::<4>::new();
        let slow = places.enter(source(1));
        let crowd: Vec<_> = (0..1_000).map(|_| places.enter(source(2))).collect();
        assert!(holds(&slow));
        let held: Vec<bool> = crowd.iter().map(holds).collect();
        assert_eq!(held, (0..1_000).map(|at| at >= 997).collect::<Vec<_>>(), "the newest of the crowd");
        let _late = places.enter(source(3));
        assert!(holds(&slow) && !holds(&crowd[997]));
        assert_eq!([1, 2, 3].map(|host| places.of(source(host))), [1, 2, 1]);
    }

    #[test]
    fn among_equals_the_oldest_goes() {
        let places = Newcomers::<3>::new();
        let [first, second, third] = [1, 2, 3].map(|host| places.enter(source(host)));
        let fourth = places.enter(source(4));
        assert_eq!([&first, &second, &third, &fourth].map(holds), [false, true, true, true]);
        let fifth = places.enter(source(3));
        assert_eq!([&second, &third, &fourth, &fifth].map(holds), [true, false, true, true], "its own");
    }

    #[test]
    fn a_place_that_is_left_is_free() {
        let places = Newcomers::<1>::new();
        drop(places.enter(source(1)));
        assert!(!places.push_out_one());
        let place = places.enter(source(2));
        assert!(holds(&place));
        assert!(places.push_out_one() && !holds(&place));
    }

    #[test]
    fn a_machine_with_many_addresses_is_one_source() {
        let of = |address: &str| Source::from(address.parse::<IpAddr>().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
