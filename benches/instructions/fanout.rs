//! One more recipient of a message: what a core does for it, in the pieces of its turn. The core is the real one, its
//! rings are the kernel's; what the kernel does is not counted.

use crate::case::{Case, Failed, counted_by_callgrind};
use crate::codec::BODIES;
use crate::edge::{Edge, Shape};
use crate::wire::Ends;
use hawser_wire::record::Layer;

/// Messages to all of them.
const ROUNDS: u32 = 4;
/// Recipients of which the difference is taken; each has a handshake before, which takes long under callgrind.
const PLAIN: [u32; 2] = [100, 1_000];
const SEALED: [u32; 2] = [20, 120];

/// A piece of a turn, and what there is of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// The record is read, written, sealed and posted for each recipient; where no two get the same, only written.
    Deliver,
    /// What waits is sealed and posted.
    Flush,
    /// Each recipient's ack is received, opened, read and noted.
    Ack,
}

pub(crate) fn cases() -> Vec<Case> {
    let small = Shape {
        body: 200,
        ..Shape::default()
    };
    let json = Shape {
        json: true,
        ..small
    };
    let own = Shape {
        envelopes: true,
        ..small
    };
    let mut all = vec![
        plain("fanout/deliver_json_200b", Piece::Deliver, json),
        plain("fanout/deliver_own_200b", Piece::Deliver, own),
        plain("fanout/flush_own_200b", Piece::Flush, own),
        sealed("fanout/flush_tls_own_200b", Piece::Flush, own),
        sealed("fanout/ack_tls", Piece::Ack, small),
        welcome(),
    ];
    for (name, body) in BODIES {
        let shape = Shape { body, ..small };
        let deliver = |tls: &str| format!("fanout/deliver_{tls}{name}");
        all.extend([
            plain(&deliver(""), Piece::Deliver, shape),
            sealed(&deliver("tls_"), Piece::Deliver, shape),
        ]);
    }
    all
}

fn plain(name: &str, piece: Piece, shape: Shape) -> Case {
    // The envelopes of one record have a bound.
    let sizes = if shape.envelopes { SEALED } else { PLAIN };
    Case::one_more(name, sizes, ROUNDS, move |many| {
        let connections = (0..many).map(|_| Ok((Layer::Plain, Layer::Plain)));
        count_rounds(Edge::new(connections, shape)?, piece)
    })
}

fn sealed(name: &str, piece: Piece, shape: Shape) -> Case {
    let case = Case::one_more(name, SEALED, ROUNDS, move |many| {
        let ends = Ends::new()?;
        let connections = (0..many).map(|_| ends.establish());
        count_rounds(Edge::new(connections, shape)?, piece)
    });
    case.by_processor()
}

fn count_rounds(mut edge: Edge, piece: Piece) -> Result<(), Failed> {
    for _ in 0..ROUNDS {
        edge.append();
        let before = edge.core.delivered();
        step(piece, Piece::Deliver, || edge.core.deliver());
        edge.came_to_all(before)?;
        step(piece, Piece::Flush, || edge.core.flush());
        edge.core.submit();
        edge.sent();
        edge.read()?;
        edge.acknowledge()?;
        let mut heard = Ok(());
        step(piece, Piece::Ack, || heard = edge.hear());
        heard?;
    }
    Ok(())
}

fn step(wanted: Piece, this: Piece, mut work: impl FnMut()) {
    match wanted == this {
        true => counted_by_callgrind(work),
        false => work(),
    }
}

/// A connection is handed over and its session begins: Hello to Welcome, and the turns until it is live.
fn welcome() -> Case {
    Case::one_more("edge/welcome", [20, 120], 1, |many| {
        let mut edge = Edge::new(
            std::iter::once(Ok((Layer::Plain, Layer::Plain))),
            Shape {
                body: 200,
                ..Shape::default()
            },
        )?;
        for n in 1..=many as usize {
            let mut joined = Ok(());
            counted_by_callgrind(|| {
                joined = edge.join(n, (Layer::Plain, Layer::Plain));
                edge.core.flush();
                edge.core.submit();
            });
            joined?;
        }
        Ok(())
    })
}
