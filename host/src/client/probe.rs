//! Asks one node, again and again over one connection.

use super::error::{LinkError, ProtocolError};
use super::status::{StatusReport, report};
use super::transport::{Inbox, connect};
use super::{Options, encode};
use crate::stream::Stream;
use core::time::Duration;
use eventstream_core::id::{ClusterId, Offset, TopicId};
use eventstream_core::wire::{Control, CountersRequest, StatusRequest, TopicListRequest};
use tokio::time::timeout;

/// A connection to one node, for questions about its state. After an error it is of no more use.
#[derive(Debug)]
pub struct Probe {
    stream: Stream,
    inbox: Inbox,
    cluster: ClusterId,
    patience: Duration,
    request: Vec<u8>,
}

/// A topic as a node has applied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicReport {
    /// Its name.
    pub name: String,
    /// The offset after its last event.
    pub next_offset: Offset,
}

/// How often a node has refused something, since it was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterReport {
    /// What: [`Counter`](eventstream_core::wire::Counter) has the names that nodes of this version count under.
    pub name: String,
    /// How often.
    pub count: u64,
}

impl Probe {
    /// Connects to the node at `server`, `HOST:PORT`. It waits the options' patience for each answer.
    ///
    /// # Errors
    ///
    /// If the node cannot be reached, or refuses.
    pub async fn connect(server: &str, options: &Options) -> Result<Self, LinkError> {
        let patience = options.patience;
        let connected = timeout(patience, connect(server, None, options.tls.as_ref())).await;
        let (stream, mut inbox) = connected.unwrap_or(Err(LinkError::Silent))?;
        let cluster = inbox.take_welcome(|welcome| Ok(welcome.cluster))?;
        Ok(Self { stream, inbox, cluster, patience, request: Vec::new() })
    }

    /// Asks the node how it is.
    ///
    /// # Errors
    ///
    /// If it does not answer in time, or refuses.
    pub async fn status(&mut self) -> Result<StatusReport, LinkError> {
        let cluster = self.cluster;
        let take = |control: &Control<'_>| match control {
            Control::Status(status) => Some(report(cluster, status)),
            _ => None,
        };
        self.ask(&Control::StatusRequest(StatusRequest), take).await
    }

    /// Asks the node which topics there are, by number. Those that are created meanwhile may be missing.
    ///
    /// # Errors
    ///
    /// If it does not answer in time, or refuses.
    pub async fn topics(&mut self) -> Result<Vec<TopicReport>, LinkError> {
        let mut topics: Vec<TopicReport> = Vec::new();
        loop {
            let first = TopicId(topics.len() as u32);
            let take = |control: &Control<'_>| match control {
                Control::TopicList(list) if list.request == first.0.into() => {
                    let listed = list.topics.iter();
                    let listed =
                        listed.map(|topic| TopicReport { name: topic.name.to_owned(), next_offset: topic.next_offset });
                    Some((list.count, listed.collect::<Vec<_>>()))
                }
                _ => None,
            };
            let request = TopicListRequest { request: first.0.into(), first };
            let (count, listed) = self.ask(&Control::TopicListRequest(request), take).await?;
            let is_last = listed.is_empty();
            topics.extend(listed);
            if is_last || topics.len() >= count as usize {
                return Ok(topics);
            }
        }
    }

    /// Asks the node what it has refused since it was started: all of its counters, in its own order.
    ///
    /// # Errors
    ///
    /// If it does not answer in time, or refuses: a node of a version without counters does.
    pub async fn counters(&mut self) -> Result<Vec<CounterReport>, LinkError> {
        let mut counters: Vec<CounterReport> = Vec::new();
        loop {
            let first = counters.len() as u32;
            let take = |control: &Control<'_>| match control {
                Control::Counters(list) if list.request == first.into() => {
                    let listed = list.counters.iter();
                    let listed =
                        listed.map(|counter| CounterReport { name: counter.name.to_owned(), count: counter.count });
                    Some((list.count, listed.collect::<Vec<_>>()))
                }
                _ => None,
            };
            let request = CountersRequest { request: first.into(), first };
            let (count, listed) = self.ask(&Control::CountersRequest(request), take).await?;
            let is_last = listed.is_empty();
            counters.extend(listed);
            if is_last || counters.len() >= count as usize {
                return Ok(counters);
            }
        }
    }

    async fn ask<T>(
        &mut self,
        question: &Control<'_>,
        take: impl Fn(&Control<'_>) -> Option<T>,
    ) -> Result<T, LinkError> {
        self.request.clear();
        encode(question, &mut self.request);
        let answer = async {
            self.stream.write_all(&self.request).await?;
            loop {
                while let Some(frame) = self.inbox.next_frame()? {
                    match Control::decode(frame.header().kind, frame.payload()).map_err(ProtocolError::Control)? {
                        Control::Refused(refused) => {
                            return Err(LinkError::Refused {
                                reason: refused.reason,
                                detail: refused.detail.to_owned(),
                            });
                        }
                        // Pushed to every client.
                        Control::LeaderChanged(_) => {}
                        control => return take(&control).ok_or(ProtocolError::Unexpected.into()),
                    }
                }
                self.stream.readable().await?;
                self.inbox.fill_from(&mut self.stream)?;
            }
        };
        timeout(self.patience, answer).await.unwrap_or(Err(LinkError::Silent))
    }
}
