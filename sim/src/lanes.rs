//! Groups in relaxed order, as the edge nodes know of them: each reads the news when it comes to it.
//!
//! A node that has not read them appends to the group's own lane, from where ingest sends the message on.

use crate::world::{ConnId, EDGES, Event, World};
use hawser_engines::log::Produce;
use hawser_protocol::ids::{ChatId, ClientMsgId};
use hawser_protocol::lanes::Lanes;

/// What the keys of such records begin with; the chat follows.
const KEY: &str = "lanes/";
/// A node reads news within this, milliseconds.
const NEWS_MS: u64 = 50;
/// One that is slow takes up to so long, milliseconds: longer than the notice that is given of relaxed order.
const NEWS_SLOW_MS: u64 = 45_000;

/// What a record says of how a group is spread.
pub(crate) fn news(produce: &Produce) -> Option<(ChatId, Lanes)> {
    let key = std::str::from_utf8(&produce.key).ok()?;
    let chat = ChatId::new(key.strip_prefix(KEY)?).ok()?;
    Some((chat, serde_json::from_slice(&produce.value).ok()?))
}

impl World {
    /// The edge will look at the news of lanes, some time.
    pub(crate) fn await_lane_news(&mut self, edge: usize) {
        let within = match self.chance.below(4) {
            0 => NEWS_SLOW_MS,
            _ => NEWS_MS,
        };
        let at = self.ms + 1 + self.chance.below(within);
        let boot = self.edges[edge].boot;
        self.at(at, Event::LaneNews { edge, boot });
    }

    /// There are news of lanes.
    pub(crate) fn tell_edges_of_lanes(&mut self) {
        for edge in (0..EDGES)
            .filter(|edge| !self.edges[*edge].down)
            .collect::<Vec<_>>()
        {
            self.await_lane_news(edge);
        }
    }

    /// The edge reads all that there is.
    pub(crate) fn learn_lanes(&mut self, edge: usize, boot: u32) {
        let node = &mut self.edges[edge];
        if node.boot != boot || node.down {
            return;
        }
        let news = &self.cluster.lane_news[node.lanes_read..];
        node.lanes.extend(news.iter().cloned());
        node.lanes_read = self.cluster.lane_news.len();
        self.tell(|| format!("edge {edge} knows of {:?}", self.edges[edge].lanes));
    }

    /// The lane to which an edge appends a message, as far as it knows.
    pub(crate) fn lane_at(
        &mut self,
        edge: usize,
        conn: ConnId,
        chat: &ChatId,
        id: &ClientMsgId,
    ) -> ChatId {
        if !chat.is_group() {
            return chat.clone();
        }
        let known = self.edges[edge].lanes.get(chat).copied();
        let session = self.session(conn);
        let lane = session.map_or(0, |session| session.lane(id, known.as_ref()));
        chat.in_lane(lane).unwrap_or_else(|_| chat.clone())
    }
}
