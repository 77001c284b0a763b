//! Asking cores through their mailboxes: never more than a few questions at once, each for a bounded time; a core that does
//! not answer is named.

use crate::node::shared::NodeShared;
use crate::reactor::inbox::ToCore;
use crate::reactor::questions::{Place, Question};
use hawser_ring::Sender as Mailbox;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot::{self, Sender};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A core answers within one turn; this is for a machine under load.
const PATIENCE: Duration = Duration::from_secs(2);

/// A core that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SilentCore {
    pub(crate) core: usize,
    pub(crate) why: String,
}

/// What cores said (of one that fell silent, until then), and who did not.
pub(super) struct Heard<T> {
    pub(super) answers: Vec<T>,
    pub(super) silent: Vec<SilentCore>,
}

/// Asks one core, at once; what is returned waits for the answer.
pub(super) fn core<T, Q: FnOnce(Sender<T>) -> Question>(
    mailbox: &Mailbox<ToCore>,
    core: usize,
    question: Q,
) -> impl Future<Output = Result<T, SilentCore>> + use<T, Q> {
    let (answer, answered) = oneshot::channel();
    let letter = ToCore::Asked(Box::new(question(answer)));
    let sent = mailbox.try_send(letter).is_ok();
    let silent = move |why: String| SilentCore { core, why };
    async move {
        if !sent {
            return Err(silent("its mailbox is full".to_owned()));
        }
        // Dropped with the time: the core then passes the question over.
        match timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(silent("it has ended".to_owned())),
            Err(_) => Err(silent(format!("no answer within {PATIENCE:?}"))),
        }
    }
}

/// Asks the core of a user.
pub(super) fn core_of<T, Q: FnOnce(Sender<T>) -> Question>(
    node: &NodeShared,
    user: &str,
    question: Q,
) -> impl Future<Output = Result<T, SilentCore>> + use<T, Q> {
    let index = node.shards().core(user) as usize;
    core(&node.cores[index], index, question)
}

/// Asks every core at once, each slice by slice until its table is through. `fold` puts a slice to what came before.
pub(super) async fn walk<T, S, Q, F>(
    node: &Arc<NodeShared>,
    empty: S,
    question: Q,
    fold: F,
) -> Heard<S>
where
    T: Send + 'static,
    S: Clone + Send + 'static,
    Q: Fn(Place, Sender<T>) -> Question + Clone + Send + 'static,
    F: Fn(&mut S, T) -> Option<Place> + Clone + Send + 'static,
{
    let mut asked = JoinSet::new();
    for index in 0..node.cores.len() {
        let (node, question, fold) = (node.clone(), question.clone(), fold.clone());
        let mut sum = empty.clone();
        asked.spawn(async move {
            let mut from = Some(Place::default());
            while let Some(place) = from {
                let asked = core(&node.cores[index], index, |answer| question(place, answer));
                match asked.await {
                    Ok(slice) => from = fold(&mut sum, slice),
                    Err(silent) => return (sum, Some(silent)),
                }
            }
            (sum, None)
        });
    }
    let mut heard = Heard {
        answers: Vec::new(),
        silent: Vec::new(),
    };
    // A task ends by itself; one that panicked has nothing to say.
    while let Some(done) = asked.join_next().await {
        if let Ok((sum, silent)) = done {
            heard.answers.push(sum);
            heard.silent.extend(silent);
        }
    }
    heard.silent.sort_by_key(|silent| silent.core);
    heard
}

#[cfg(test)]
mod tests {
    use super::*;
    use hawser_ring::{Waker, mailbox};

    fn positions(answer: Sender<Vec<(u32, u64)>>) -> Question {
        Question::Positions { answer }
    }

    #[test]
    fn a_core_that_does_not_answer_is_named_with_its_reason() {
        let (to_core, inbox) = mailbox(2, Waker::new().expect("an eventfd"));
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let hangs = core(&to_core, 3, positions);
            let dropped = core(&to_core, 4, positions);
            let full = core(&to_core, 5, positions).await;
            assert_eq!(full.expect_err("no room").why, "its mailbox is full");
            let hung = inbox.try_recv().expect("the first");
            drop(inbox.try_recv());
            assert_eq!(dropped.await.expect_err("gone").why, "it has ended");
            let silent = hangs.await.expect_err("nobody answered");
            assert_eq!((silent.core, &*silent.why), (3, "no answer within 2s"));
            let ToCore::Asked(question) = hung else {
                panic!("it was asked")
            };
            let Question::Positions { answer } = *question else {
                panic!("for positions")
            };
            assert!(answer.is_closed(), "so that a late core passes it over");
        });
    }
}
