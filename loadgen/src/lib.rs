//! Load generator and correctness checker for Hawser.
