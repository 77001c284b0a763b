//! Tests about the tree itself: dependency arrows, documents that match the code.
