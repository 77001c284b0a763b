//! Which lane of `bodies` this node reads: one that no other living node does, as long as there are as many.

use crate::deliver::past::each_record;
use hawser_engines::log::{Log, ReadError, Topic};
use hawser_protocol::ownership::{NodeName, NodeState, Table};

/// Chooses. Two nodes that begin at once may choose the same, which costs bandwidth alone. Blocks.
///
/// # Errors
/// The log cannot be reached.
pub(crate) fn choose(log: &dyn Log, me: &NodeName) -> Result<u32, ReadError> {
    let mut table = Table::new(0, 0);
    each_record(log, Topic::Leases, 0, |record| {
        table.apply(record.offset, &record.key, &record.value);
    })?;
    Ok(free(&table, me, log.partitions(Topic::Bodies)))
}

/// The lane that the node had, if it is nobody else's; otherwise the first of those that the fewest read.
fn free(table: &Table, me: &NodeName, lanes: u32) -> u32 {
    let others = table.nodes().filter(|(name, node)| {
        let lives = node.state != NodeState::Gone;
        *name != me && lives
    });
    let taken: Vec<u32> = others.filter_map(|(_, node)| node.lane).collect();
    let readers = |lane: &u32| taken.iter().filter(|taken| *taken == lane).count();
    let before = table.node(me).and_then(|node| node.lane);
    let kept = before.filter(|lane| *lane < lanes && readers(lane) == 0);
    let fewest = || (0..lanes).min_by_key(|lane| (readers(lane), *lane));
    kept.or_else(fewest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_protocol::ownership::{LeaseRecord, NodeRecord};

    fn name(text: &str) -> NodeName {
        NodeName::new(text).expect("a name")
    }

    fn table(nodes: &[(&str, NodeState, Option<u32>)]) -> Table {
        let mut table = Table::new(0, 0);
        for (offset, (node, state, lane)) in (0..).zip(nodes) {
            let record = NodeRecord {
                incarnation: 1,
                replaces: 0,
                beat: 1,
                state: *state,
                weight: 1,
                edge: true,
                ingest: false,
                url: String::new(),
                plain_url: String::new(),
                link: String::new(),
                lane: *lane,
            };
            let record = LeaseRecord::Node(name(node), record);
            table.apply(offset, record.key().as_bytes(), &record.value());
        }
        table
    }

    #[test]
    fn a_node_takes_a_lane_of_its_own_and_keeps_the_one_it_had() {
        use NodeState::{Active, Draining, Gone};
        type Others = [(&'static str, NodeState, Option<u32>)];
        let cases: [(&Others, u32); 6] = [
            (&[], 0),
            (&[("a", Active, Some(0)), ("b", Draining, Some(1))], 2),
            (&[("a", Gone, Some(0)), ("b", Active, Some(1))], 0),
            (&[("a", Active, None), ("b", Active, Some(1))], 0),
            (&[("a", Active, Some(0)), ("me", Gone, Some(3))], 3),
            (&[("a", Active, Some(3)), ("me", Gone, Some(3))], 0),
        ];
        for (nodes, lane) in cases {
            assert_eq!(free(&table(nodes), &name("me"), 4), lane, "{nodes:?}");
        }
    }

    #[test]
    fn more_nodes_than_lanes_share_them_evenly() {
        let nodes = [
            ("a", NodeState::Active, Some(0)),
            ("b", NodeState::Active, Some(1)),
            ("c", NodeState::Active, Some(0)),
        ];
        assert_eq!(free(&table(&nodes), &name("me"), 2), 1);
    }
}
