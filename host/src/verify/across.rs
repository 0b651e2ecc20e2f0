//! Logs side by side.

use super::directory::{Checked, Directory};
use super::log::{BLOCK, Log};
use super::meaning::replay;
use super::violation::{Findings, Invariant, Place};
use crate::checksum::CRC;
use crate::storage::{LogItem, Reader, StoreError};
use core::ops::{ControlFlow, RangeInclusive};
use eventstream_core::id::{Index, Offset, Term};
use eventstream_core::replica::Outcomes;
use eventstream_core::wire::{Frame, HEADER_LEN, Header, field};

/// Two logs that differ behind what is known to be committed: what one of them holds there will be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The directories.
    pub directories: [String; 2],
    /// The first entry that differs.
    pub index: Index,
    /// Its term in each.
    pub terms: [Term; 2],
}

/// A directory, and what was seen of it.
#[derive(Clone, Copy)]
struct Side<'a> {
    directory: &'a Directory,
    log: &'a Log,
    applied: Index,
}

/// Compares every directory with every other.
pub(super) fn compare(data: &[Directory], checked: &[Checked], findings: &mut Findings) -> Vec<Divergence> {
    let sides: Vec<Side<'_>> = data
        .iter()
        .zip(checked)
        .map(|(directory, checked)| Side { directory, log: &checked.log, applied: checked.report.applied })
        .collect();
    let mut divergences = Vec::new();
    // Up to where each agrees with the one that has applied most.
    let most = sides.iter().enumerate().max_by_key(|(number, side)| (side.applied, core::cmp::Reverse(*number)));
    let most = most.map_or(0, |(number, _)| number);
    let mut agreed = vec![sides[most].applied; sides.len()];
    for (number, &a) in sides.iter().enumerate() {
        for (other, &b) in sides.iter().enumerate().skip(number + 1) {
            let pair = Pair { a, b };
            match pair.first_difference() {
                Ok(difference) => {
                    pair.compare(difference, findings, &mut divergences);
                    if number == most || other == most {
                        let with = if number == most { other } else { number };
                        agreed[with] = sides[with].agreed(difference.map(|(index, _)| index));
                    }
                }
                Err(error) => {
                    let place = Place::at(&a.directory.name).and(&b.directory.name);
                    findings.add(Invariant::Whole, place, format_args!("the logs cannot be compared: {error}"));
                }
            }
        }
    }
    committed_is_held(sides[most], agreed, findings);
    divergences
}

/// What is applied is committed, and what is committed is in the logs of a majority.
fn committed_is_held(most: Side<'_>, mut agreed: Vec<Index>, findings: &mut Findings) {
    let members = most.directory.identity.members.len();
    // Of a node whose directory is not here nothing is known.
    agreed.resize(members.max(agreed.len()), most.applied);
    agreed.sort_unstable_by(|a, b| b.cmp(a));
    let majority = members / 2 + 1;
    let held = agreed[majority - 1];
    if held < most.applied {
        let lost = held.next();
        let holders = agreed.iter().filter(|&&last| last >= lost).count();
        let place = most.place(lost);
        let what = format_args!(
            "it was applied here, and at most {holders} of {members} members have it in their logs: a leader may be elected without it"
        );
        findings.add(Invariant::CommittedStays, place, what);
    }
}

impl Side<'_> {
    fn reader(&self) -> Option<&Reader> {
        self.directory.reader()
    }

    /// The place of an entry, with its first event if it has one.
    fn place(&self, index: Index) -> Place {
        let place = Place::at(&self.directory.name).index(index);
        match self.first_event(index) {
            Some((topic, offset)) => place.offset(&topic, offset),
            None => place,
        }
    }

    /// Up to where this log has what another one has, from which it first differs there.
    fn agreed(&self, difference: Option<Index>) -> Index {
        match difference {
            Some(index) => index.prev(),
            None if self.directory.is_readable() && self.log.sound == self.log.last.index => self.log.sound,
            // What a damaged log held is not known.
            None => Index(u64::MAX),
        }
    }

    /// Topic and offset of the first event that an entry has added.
    fn first_event(&self, wanted: Index) -> Option<(String, Offset)> {
        let mut replay = replay(&self.directory.identity.parameters);
        let (mut outcomes, mut is_applied) = (Box::<Outcomes>::default(), false);
        let scanned = self.reader()?.scan_log(|item| {
            let LogItem::Entry { index, frame, .. } = item else { return ControlFlow::Continue(()) };
            let applied =
                Frame::check(frame, CRC).is_ok_and(|frame| replay.apply(&(&frame).into(), &mut outcomes).is_ok());
            is_applied = applied && index == wanted;
            if applied && index < wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        scanned.ok().filter(|()| is_applied)?;
        let slice = outcomes.topics().first()?;
        Some((replay.topic(slice.topic).name().to_owned(), slice.first_offset))
    }
}

/// Two directories.
struct Pair<'a> {
    a: Side<'a>,
    b: Side<'a>,
}

impl Pair<'_> {
    /// The first entry that is not the same in both, and its terms; as far as both logs are sound.
    fn first_difference(&self) -> Result<Option<(Index, [Term; 2])>, StoreError> {
        let (Some(a), Some(b)) = (self.a.reader(), self.b.reader()) else { return Ok(self.first_other_term()) };
        let blocks = || self.a.log.blocks.iter().zip(&self.b.log.blocks);
        let equal = blocks().take_while(|(a, b)| a.chain == b.chain).count();
        let first = Index(equal as u64 * BLOCK + 1);
        let end = self.a.log.sound.min(self.b.log.sound);
        let last = if equal < blocks().count() { first.plus(BLOCK - 1) } else { end };
        let (ours, theirs) = (headers(a, first, last)?, headers(b, first, last)?);
        let difference = ours.iter().zip(&theirs).position(|(a, b)| a[field::CHECKED] != b[field::CHECKED]);
        let Some(position) = difference else { return Ok(None) };
        let term = |bytes| Header::parse(bytes, CRC).map_or(Term::ZERO, |header| header.term);
        Ok(Some((first.plus(position as u64), [term(&ours[position]), term(&theirs[position])])))
    }

    /// The same for two logs of which one is a witness's: it has the terms only, and those that begin at one place in both
    /// and differ nowhere before are of the same entries.
    fn first_other_term(&self) -> Option<(Index, [Term; 2])> {
        let (a, b) = (self.a.log, self.b.log);
        let end = a.sound.min(b.sound);
        let begins = a.terms.iter().chain(&b.terms).map(|&(_, begin)| begin).filter(|&begin| begin <= end);
        let terms = |index| [a.term(index), b.term(index)];
        let differs = begins.filter(|&index| terms(index)[0] != terms(index)[1]);
        let has_terms = self.a.directory.has_terms_only() || self.b.directory.has_terms_only();
        differs.min().filter(|_| has_terms).map(|index| (index, terms(index)))
    }

    fn compare(
        &self,
        difference: Option<(Index, [Term; 2])>,
        findings: &mut Findings,
        divergences: &mut Vec<Divergence>,
    ) {
        self.same_state(findings);
        self.same_terms(findings);
        let Some((index, terms)) = difference else { return };
        match self.broken_by(index, terms) {
            Some((invariant, what)) => {
                let mut place = self.a.place(index);
                if place.topic.is_none() {
                    place = self.b.place(index);
                }
                place.at = vec![self.a.directory.name.clone(), self.b.directory.name.clone()];
                findings.add(invariant, place, what);
            }
            None => {
                let directories = [self.a.directory.name.clone(), self.b.directory.name.clone()];
                divergences.push(Divergence { directories, index, terms });
            }
        }
    }

    /// What a first difference breaks, if it may not be.
    fn broken_by(&self, index: Index, [a, b]: [Term; 2]) -> Option<(Invariant, String)> {
        if a == b {
            return Some((Invariant::LogsMatch, format!("both entries have term {a}, and are not the same")));
        }
        let terms = format!("the terms are {a} and {b}");
        if let Some((later, term)) = self.agreement_behind(index) {
            let what = format!("{terms}, yet both logs have term {term} at entry {later}");
            return Some((Invariant::LogsMatch, what));
        }
        let applied = [self.a.applied >= index, self.b.applied >= index];
        if applied == [true, true] {
            return Some((Invariant::CommittedStays, format!("{terms}, and both were applied")));
        }
        // Whoever has applied an entry has heard of it in a term of its own or before. No later leader lacks it.
        let later = |applied: bool, own: Term, other: Term| applied && other > own;
        if later(applied[0], self.a.log.hard_state.term, b) || later(applied[1], self.b.log.hard_state.term, a) {
            let what =
                format!("{terms}: the entry of the lower one was applied, and the leader of the higher one lacks it");
            return Some((Invariant::CommittedStays, what));
        }
        None
    }

    /// The first entry behind `index` that has the same term in both logs.
    fn agreement_behind(&self, index: Index) -> Option<(Index, Term)> {
        self.common_terms().find_map(|(term, [ours, theirs])| {
            let first = *ours.start().max(theirs.start()).max(&index.next());
            (first <= *ours.end().min(theirs.end())).then_some((first, term))
        })
    }

    /// A term has one leader, who begins it in one place.
    fn same_terms(&self, findings: &mut Findings) {
        for (term, [ours, theirs]) in self.common_terms() {
            let (begin, other) = (*ours.start(), *theirs.start());
            if begin != other {
                let place = Place::at(&self.a.directory.name).and(&self.b.directory.name).index(begin.min(other));
                let what = format_args!("term {term} begins at entry {begin} in one log and at {other} in the other");
                findings.add(Invariant::OneLeader, place, what);
            }
        }
    }

    /// The terms that both logs have entries of, and where these lie.
    fn common_terms(&self) -> impl Iterator<Item = (Term, [RangeInclusive<Index>; 2])> {
        self.a.log.terms.iter().enumerate().filter_map(|(ours, &(term, _))| {
            let theirs = self.b.log.terms.binary_search_by_key(&term, |&(term, _)| term).ok()?;
            Some((term, [entries_of(self.a.log, ours), entries_of(self.b.log, theirs)]))
        })
    }

    /// Equal logs give equal states.
    fn same_state(&self, findings: &mut Findings) {
        let blocks = self.a.log.blocks.iter().zip(&self.b.log.blocks).take_while(|(a, b)| a.chain == b.chain);
        if let Some((number, (a, b))) = blocks.enumerate().find(|(_, (a, b))| a.state_hash != b.state_hash) {
            let index = Index((number as u64 + 1) * BLOCK);
            let place = Place::at(&self.a.directory.name).and(&self.b.directory.name).index(index);
            let what = format_args!("the same entries give state {:016x} and {:016x}", a.state_hash, b.state_hash);
            findings.add(Invariant::StateOfLog, place, what);
        }
    }
}

/// Where the entries of the term lie that stands at this place of the list.
fn entries_of(log: &Log, number: usize) -> RangeInclusive<Index> {
    let next = log.terms.get(number + 1);
    log.terms[number].1..=next.map_or(log.sound, |(_, begin)| begin.prev())
}

fn headers(reader: &Reader, first: Index, last: Index) -> Result<Vec<[u8; HEADER_LEN]>, StoreError> {
    let mut headers = Vec::new();
    if first <= last {
        reader.entries(first, last, usize::MAX, |_, frame| {
            headers.extend(frame.first_chunk());
            ControlFlow::Continue(())
        })?;
    }
    Ok(headers)
}
