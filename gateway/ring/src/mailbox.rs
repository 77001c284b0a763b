//! Bounded mailboxes between threads: many senders, one receiver whose thread is woken.

use std::sync::mpsc;

use crate::Waker;

/// A mailbox of `capacity` (at least 1) items for the thread that `waker` wakes. The places are allocated at once.
#[must_use]
pub fn mailbox<T>(capacity: usize, waker: Waker) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::sync_channel(capacity.max(1));
    (Sender { sender, waker }, Receiver { receiver })
}

/// The mailbox is full, or its receiver is gone; here is the item again.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// The sending end; cloned per sending thread.
#[derive(Debug)]
pub struct Sender<T> {
    sender: mpsc::SyncSender<T>,
    waker: Waker,
}

impl<T> Sender<T> {
    /// Puts an item in and wakes the receiver's thread. Never blocks.
    ///
    /// # Errors
    /// [`Full`] with the item when there is no place, or nobody receives any more.
    pub fn try_send(&self, item: T) -> Result<(), Full<T>> {
        self.sender
            .try_send(item)
            .map_err(|refused| match refused {
                mpsc::TrySendError::Full(item) | mpsc::TrySendError::Disconnected(item) => {
                    Full(item)
                }
            })?;
        self.waker.wake();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            waker: self.waker.clone(),
        }
    }
}

/// The receiving end: look into it on every [`crate::Event::Woken`].
#[derive(Debug)]
pub struct Receiver<T> {
    receiver: mpsc::Receiver<T>,
}

impl<T> Receiver<T> {
    /// The oldest item, or `None`. A receiver that stops before it saw `None` must look again without being woken.
    pub fn try_recv(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_returns_the_item() {
        let (sender, receiver) = mailbox(2, Waker::new().unwrap());
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.clone().try_send(2), Ok(()));
        assert_eq!(sender.try_send(3), Err(Full(3)));
        assert_eq!(receiver.try_recv(), Some(1));
        assert_eq!(sender.try_send(3), Ok(()));
        assert_eq!(receiver.try_recv(), Some(2));
        assert_eq!(receiver.try_recv(), Some(3));
        assert_eq!(receiver.try_recv(), None);
    }

    #[test]
    fn a_gone_receiver_returns_the_item() {
        let (sender, receiver) = mailbox(2, Waker::new().unwrap());
        drop(receiver);
        assert_eq!(sender.try_send("x"), Err(Full("x")));
    }
}
