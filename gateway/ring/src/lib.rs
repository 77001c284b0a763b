//! The io_uring driver: direct descriptors, buffer rings, timer wheel, mailboxes. Knows no Hawser noun.
