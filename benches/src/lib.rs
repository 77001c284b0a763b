//! Micro-benchmarks and recorded results.
